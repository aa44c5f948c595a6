"""Options for the model and the recipe that several commands share: add them, and load what they name."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from tbft.cli.common import integer, number, show_notes
from tbft.errors import TbftError

if TYPE_CHECKING:
    from torch import nn

    from tbft.base import Base
    from tbft.blocks import Blocks
    from tbft.data import InputSpec, Samples
    from tbft.models import Preset
    from tbft.plan import Recipe


def add_model(parser: argparse.ArgumentParser, weights: bool = True, samples: bool = True) -> None:
    """Options that name a model and say where it runs.

    Args:
        weights: the command can load a checkpoint.
        samples: it runs the model on samples, which ``--threads auto`` needs; see :func:`settle_threads`.
    """
    parser.add_argument(
        "model", metavar="MODEL", help="a preset (see `tbft models`), package.module:factory, or timm:NAME"
    )
    parser.add_argument("--cuts", metavar="A,B", help="submodules at which new blocks start")
    parser.add_argument("--names", metavar="A,B,C", help="names of the blocks, one more than cuts")
    parser.add_argument(
        "--device", default="auto", help="auto (default: a GPU if there is one), cpu, cuda, cuda:1 or mps"
    )
    parser.add_argument(
        "--threads",
        type=thread_setting if samples else thread_count,
        metavar="N",
        help="threads of torch on the CPU (default: one for each core, or OMP_NUM_THREADS; 1 takes the least "
        "processor time)" + ("; auto: a quick trial takes either 1 or all" if samples else ""),
    )
    if weights:
        parser.add_argument("--weights", metavar="FILE", help="checkpoint: .safetensors, .pt, .pth, .ckpt")
        parser.add_argument(
            "--weights-key",
            metavar="KEY",
            help="where the weights are in it, e.g. state_dict_ema (default: found by the model's key names)",
        )


def add_recipe(parser: argparse._ActionsContainer, default: str, summary: str) -> None:
    parser.add_argument("--recipe", default=default, help=summary)
    parser.add_argument("--epochs", type=integer, metavar="N", help="instead of the recipe's")
    parser.add_argument("--batch-size", type=integer, metavar="N", help="instead of the recipe's")
    parser.add_argument("--learning-rate", type=number, metavar="RATE", help="instead of the recipe's")
    parser.add_argument(
        "--precision",
        choices=("auto", "float32", "bfloat16"),
        help="precision during tuning (default: the recipe's; auto is bfloat16 if it is faster on the device "
        "and works with the model)",
    )


def thread_count(text: str) -> int:
    """An argparse type: a number of threads, from 1 to the number of cores."""
    cores = os.cpu_count() or 1
    if not (text.isdecimal() and len(text) < 9 and 1 <= int(text) <= cores):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a number of threads from 1 to {cores}, the cores here"
        )
    return int(text)


def thread_setting(text: str) -> int | str:
    """An argparse type: a number of threads, or ``auto``."""
    return text if text == "auto" else thread_count(text)


def _set_threads(arguments: argparse.Namespace) -> None:
    if arguments.threads not in (None, "auto"):
        import torch

        torch.set_num_threads(arguments.threads)


def settle_threads(arguments: argparse.Namespace, blocks: Blocks, samples: Samples) -> Samples:
    """With ``--threads auto``, choose the number of threads by a trial and set it.

    Returns:
        the samples, with a note on what was chosen and why.
    """
    if arguments.threads != "auto":
        return samples
    import torch

    from tbft.choosing.threads import choose_threads

    try:
        choice = choose_threads(blocks, samples, getattr(arguments, "precision", None) or "auto")
    except TbftError:
        raise
    except Exception as error:  # if it matters, the command says what is wrong
        why = f"the model could not be run on the first samples ({type(error).__name__})"
        return samples.noted(f"{torch.get_num_threads()} threads, without a trial: {why}")
    torch.set_num_threads(choice.count)
    return samples.noted(choice.note)


def load_model(arguments: argparse.Namespace) -> tuple[Preset, nn.Module]:
    """The preset and its model, with weights if they are given."""
    from tbft.blocks.placement import find_device
    from tbft.models import find_model, load_weights

    _set_threads(arguments)
    preset = find_model(arguments.model, _listed(arguments.cuts), _listed(arguments.names))
    model = preset.build()
    if getattr(arguments, "weights", None):
        show_notes(load_weights(model, arguments.weights, arguments.weights_key))
    return preset, model.to(find_device(arguments.device))


def load_base(
    arguments: argparse.Namespace, read: Callable[[argparse.Namespace, InputSpec], Samples]
) -> Base:
    """The base model named by the options, with weights and card.

    Args:
        read: reads the samples named by the options, in case the model can be split only with an example.
    """
    from tbft.blocks.placement import find_device
    from tbft.loading import ReadSamples, Source, load_named

    _set_threads(arguments)
    source = Source(
        arguments.weights,
        arguments.weights_key,
        getattr(arguments, "card", None),
        _listed(arguments.cuts),
        _listed(arguments.names),
    )
    base = load_named(arguments.model, source, ReadSamples(partial(read, arguments)))
    show_notes(base.notes)
    base.model.to(find_device(arguments.device))
    return base


def load_recipe(arguments: argparse.Namespace, find: Callable[[str], Recipe]) -> Recipe:
    """The recipe named by the options, with their numbers instead of its own.

    Args:
        find: name -> recipe, in the model's own variant if there is one.
    """
    options = ("epochs", "batch_size", "learning_rate")
    numbers = {option: getattr(arguments, option) for option in options}
    for option, value in numbers.items():
        if value is not None and not 0 < value < float("inf"):
            raise TbftError(f"--{option.replace('_', '-')} has to be a positive number, not {value}")
    recipe = find(arguments.recipe).given(**numbers)
    return recipe if arguments.precision is None else recipe.replace(precision=arguments.precision)


def _listed(text: str | None) -> list[str] | None:
    return None if text is None else [part.strip() for part in text.split(",") if part.strip()]
