"""The prefix cache: outputs of the frozen blocks before the tuned one, computed once.

The cached outputs are :class:`~tbft.data.samples.Samples` whose inputs are the tensor at the cut. So training
and evaluation of the rest of the model read them in the same way as pictures.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from tbft.blocks.boundaries import Bounded
from tbft.blocks.placement import device_of
from tbft.blocks.precision import Computing
from tbft.blocks.state import evaluating
from tbft.blocks.tensors import fingerprint
from tbft.data.arrays import Array
from tbft.data.samples import Samples, digest
from tbft.errors import PlanError, wrong_form
from tbft.plan.resolution import PREFIX_BATCH
from tbft.tuning.row_file import RowFile, find_rows, write_rows
from tbft.verification.running import batches


@dataclass(frozen=True)
class CachePolicy:
    """Where to keep the outputs of a frozen prefix.

    Attributes:
        memory_bytes: maximum size in memory; ``float32`` if that fits, else ``float16``.
        folder: folder for outputs that do not fit, as ``float16`` files, which later runs reuse; None: such
            outputs are refused.
    """

    memory_bytes: int = 1 << 30
    folder: Path | None = None


def as_cache(cache: CachePolicy | str | Path | None) -> CachePolicy | None:
    """A cache policy, or one with the given folder for outputs that do not fit into memory."""
    if cache is None or isinstance(cache, CachePolicy):
        return cache
    if isinstance(cache, (str, Path)):
        return CachePolicy(folder=Path(cache))
    raise wrong_form("cache", cache, ["a CachePolicy", "the path of a folder"])


def cache_prefix(
    prefix: nn.Module,
    samples: Samples,
    policy: CachePolicy | None = None,
    computing: Computing | None = None,
    batch_size: int = PREFIX_BATCH,
) -> Samples:
    """The samples with the outputs of the prefix, in evaluation mode, as inputs.

    Raises:
        PlanError: the outputs do not fit into the memory that the policy allows, and it has no folder; or
            they are not finite, or too large for ``float16``.
        WriteError: the file in the folder cannot be written.
    """
    policy = policy or CachePolicy()
    computing = computing or Computing(device=device_of(prefix))
    rows = _outputs(prefix, samples, computing, batch_size)
    first = next(rows)
    shape = (len(samples), *first.shape[1:])
    scalars = int(np.prod(shape))
    for dtype in (np.float32, np.float16):
        if scalars * np.dtype(dtype).itemsize <= policy.memory_bytes:
            return replace(
                samples,
                inputs=_fill(np.empty(shape, dtype), first, rows),
                as_taken=True,
                token_ids=False,
                packing=None,
            )
        if _is_joined(prefix):
            raise PlanError(
                f"{samples.name}: the outputs of the frozen prefix do not fit into the cache, and the inputs "
                "that pass beside them cannot be kept in float16: allow the cache more memory"
            )
    if policy.folder is None:
        raise PlanError(
            f"{samples.name}: the outputs of the frozen prefix for its {len(samples):,} samples take "
            f"{2 * scalars / 2**20:,.0f} MiB, more than the {policy.memory_bytes / 2**20:,.0f} MiB allowed: "
            "name a folder for the cache, allow more memory, or give fewer samples"
        )
    path = policy.folder / f"prefix-{_key(prefix, samples, computing.precision, first)}.npy"
    cached = find_rows(path, shape)
    if cached is None:
        _write(path, shape, first, rows)
        cached = RowFile(path)
    return replace(samples, inputs=cached, as_taken=True, token_ids=False, packing=None)  # type: ignore[arg-type]


def _is_joined(prefix: nn.Module) -> bool:
    """Whether inputs of the model, which may be large whole numbers, pass beside the outputs."""
    last = list(prefix.children())[-1:]
    return bool(last) and isinstance(last[0], Bounded) and last[0].leaving is not None


def cached_bytes(samples: Samples) -> int:
    """Memory that cached outputs take; 0 if they are on disk, or if the inputs are not cached outputs."""
    floats = isinstance(samples.inputs, np.ndarray) and samples.inputs.dtype in (np.float16, np.float32)
    return int(samples.inputs.nbytes) if floats and not isinstance(samples.inputs, np.memmap) else 0


def _outputs(prefix: nn.Module, samples: Samples, computing: Computing, batch_size: int) -> Iterator[Array]:
    parts = batches(len(samples), batch_size)
    for at in tqdm(parts, "running the frozen prefix", unit="batch", leave=False, disable=None):
        with evaluating(prefix), computing.autocast():
            out = prefix(computing.laid_out(samples.batch(at)[0])).float().contiguous().cpu().numpy()
        yield out  # outside the context, so that the consumer does not run without gradients


def _fill(out: Array, first: Array, rows: Iterator[Array]) -> Array:
    start = 0
    for part in chain([first], rows):
        out[start : start + len(part)] = _stored(part, out.dtype)
        start += len(part)
    return out


def _stored(part: Array, dtype: np.dtype[Any]) -> Array:
    if not np.isfinite(part).all():
        raise PlanError(
            "outputs of the frozen prefix are NaN or infinite: check the model's weights and inputs"
        )
    if dtype == np.float16 and np.abs(part).max(initial=0) > np.finfo(np.float16).max:
        raise PlanError(
            "outputs of the frozen prefix are too large for float16: allow the cache more memory, so that it "
            "uses float32"
        )
    return part.astype(dtype)


def _write(path: Path, shape: tuple[int, ...], first: Array, rows: Iterator[Array]) -> None:
    if not path.parent.is_dir():
        raise PlanError(f"the folder for the cache, {path.parent}, does not exist; make it first")
    write_rows(path, shape, (_stored(part, np.dtype("<f2")) for part in chain([first], rows)))


def _key(prefix: nn.Module, samples: Samples, precision: str, first: Array) -> str:
    """A name for the outputs, from all they depend on: the prefix with its statistics, and the samples.

    The first outputs stand for what is not in a state dict: activations, constants, the network's code.
    """
    parts = f"{fingerprint(prefix.state_dict())} {digest(samples)} {precision} {torch.__version__} "
    return hashlib.sha256(parts.encode() + first.tobytes()).hexdigest()[:32]
