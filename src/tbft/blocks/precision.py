"""In what precision and memory layout the network is computed while tuning.

Parameters, statistics and patches stay ``float32``; accuracy is always measured in ``float32``.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from tbft.errors import PlanError, unknown

PRECISIONS = ("float32", "bfloat16", "auto")


def autocast(precision: str) -> AbstractContextManager[object]:
    """The context in which a forward pass computes in this precision.

    Args:
        precision: ``float32``; ``bfloat16``, with ``float32`` where torch's autocast keeps it; or
            ``auto``: ``bfloat16`` where the processor multiplies it in hardware (AMX tiles,
            AVX512-BF16), which takes about half the time there; elsewhere it would be slower.
    """
    if precision not in PRECISIONS:
        raise PlanError(unknown("precision", precision, PRECISIONS))
    if precision == "bfloat16" or (precision == "auto" and gains_from_bfloat16()):
        return torch.autocast("cpu", torch.bfloat16)
    return nullcontext()


def gains_from_bfloat16() -> bool:
    """Whether this processor is faster in ``bfloat16`` than in ``float32``."""
    # Private in torch; where a version lacks them, nothing is lost but speed.
    checks = (getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("amx_tile", "avx512_bf16"))
    return any(check() for check in checks if check is not None)


def laid_out(x: Tensor) -> Tensor:
    """Pictures (n, c, h, w) with their channels together in memory; anything else as it is.

    One convolution with such an input keeps the layout for all that follow, which saves about a
    fifth of the time and leaves the user's parameters alone.
    """
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x
