"""The model inside a wrapper: patches, checkpoints and blocks are about the plain model."""

from __future__ import annotations

import sys

from torch import nn

#: Class of a wrapper -> the attribute that holds what it wraps. Recognized by class, because a model's own
#: child may be named `module` as well; by name, because importing some of them is slow.
WRAPPERS = {
    ("torch.nn.parallel.data_parallel", "DataParallel"): "module",
    ("torch.nn.parallel.distributed", "DistributedDataParallel"): "module",
    ("torch.optim.swa_utils", "AveragedModel"): "module",
    ("torch._dynamo.eval_frame", "OptimizedModule"): "_orig_mod",
}


def plain(model: nn.Module) -> nn.Module:
    """The module inside ``DataParallel`` (distributed or not), ``AveragedModel`` and ``torch.compile``.

    Its state dict has the keys without `module.` and `_orig_mod.`; its tensors are the wrapper's own.

    >>> model = nn.Linear(2, 2)
    >>> plain(nn.DataParallel(model)) is model
    True
    """
    for (home, name), attribute in WRAPPERS.items():
        wrapper = getattr(sys.modules.get(home), name, None)
        if wrapper is not None and isinstance(model, wrapper):
            return plain(getattr(model, attribute))
    return model
