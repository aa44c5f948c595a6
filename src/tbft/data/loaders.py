"""The items of datasets and loaders, in an order that does not depend on chance, and none of them lost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sized
from typing import Any

from torch import Tensor
from torch.utils.data import (
    DataLoader,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

from tbft.errors import DataError


def _items_of_loader(loader: DataLoader[Any], notes: list[str]) -> Iterator[Any]:
    """Every sample that a loader draws from, once, in the order of its dataset.

    A sampler of torch's own is replaced by the positions it draws from, and ``drop_last`` by False; a sampler
    or batch sampler of the user's own is run as it is. What that loses, and what is done differently, is
    added to `notes`.
    """
    order = _order(loader, notes)
    if order is None and not _is_rebuilt(loader):
        yield from _items_as_drawn(loader, notes)
        return
    # In several workers an iterable dataset gives its samples several times, unless it shares them out.
    workers = 0 if isinstance(loader.dataset, IterableDataset) else loader.num_workers
    again: DataLoader[Any] = DataLoader(
        loader.dataset,
        batch_size=loader.batch_size,
        sampler=order,
        num_workers=workers,
        collate_fn=loader.collate_fn,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context if workers else None,
    )
    for batch in again:
        yield from _items_of_batch(batch)


def _is_rebuilt(loader: DataLoader[Any]) -> bool:
    return isinstance(loader.dataset, IterableDataset) and loader.batch_size is not None


def _order(loader: DataLoader[Any], notes: list[str]) -> list[int] | None:
    """Positions to read; None if only the loader knows."""
    if isinstance(loader.dataset, IterableDataset) or loader.batch_size is None:
        return None
    sampler = loader.sampler
    if isinstance(sampler, SubsetRandomSampler):
        return sorted(int(i) for i in sampler.indices)
    if isinstance(sampler, WeightedRandomSampler):
        notes.append("the loader's weights are not used: every sample is read once")
    elif not isinstance(sampler, (RandomSampler, SequentialSampler)):
        return None
    return list(range(len(loader.dataset)))  # type: ignore[arg-type]


def _items_as_drawn(loader: DataLoader[Any], notes: list[str]) -> Iterator[Any]:
    drawn = 0
    for batch in loader:
        for item in _items_of_batch(batch):
            drawn += 1
            yield item
    if isinstance(loader.dataset, Sized) and drawn != len(loader.dataset):
        lost = f"the loader gives {drawn} samples of a dataset of {len(loader.dataset)}"
        notes.append(f"{lost}, by its sampler or drop_last; the others are left out")


def _items_of_batch(batch: Any) -> Iterator[Any]:
    """The samples of a collated batch: (inputs, labels, ...) or a mapping of them; or of one that is not."""
    parts = list(batch.values()) if isinstance(batch, Mapping) else batch
    if not isinstance(batch, (tuple, list, Mapping)) or not parts:
        raise DataError(
            f"the loader gives a {type(batch).__name__}; batches are (inputs, labels) or mappings"
        )
    single = any(isinstance(p, (int, float, str)) or (isinstance(p, Tensor) and p.ndim == 0) for p in parts)
    if single:  # a loader without a batch size, of a dataset that gives samples
        yield batch
        return
    lengths = {len(p) for p in parts if getattr(p, "ndim", 0) > 0} or {len(p) for p in parts if _is_list(p)}
    count = max(lengths, default=0)
    lengths |= {len(p) for p in parts if _is_list(p) and not _is_several(p, count)}
    lengths |= {len(value) for p in parts if isinstance(p, Mapping) for value in p.values()}
    if len(lengths) != 1:
        raise DataError(f"the parts of the loader's batches have different lengths: {sorted(lengths)}")
    for i in range(count):
        item = [_at(part, i, count) for part in parts]
        yield dict(zip(batch, item, strict=True)) if isinstance(batch, Mapping) else tuple(item)


def _is_list(part: Any) -> bool:
    return isinstance(part, (list, tuple))


def _is_several(part: Any, count: int) -> bool:
    """Whether these are several inputs by name or position, rather than a list of samples."""
    if isinstance(part, Mapping):
        return True
    tensors = _is_list(part) and all(isinstance(p, Tensor) and p.ndim > 0 for p in part)
    return tensors and len(part) > 1 and all(len(p) == count for p in part)


def _at(part: Any, i: int, count: int) -> Any:
    """One sample of a part of a batch of `count`."""
    if isinstance(part, Mapping):
        return {key: value[i] for key, value in part.items()}
    return tuple(value[i] for value in part) if _is_several(part, count) else part[i]


def items_of(data: Any, name: str, notes: list[str]) -> Iterator[Any]:
    """Every sample of a dataset or a loader, once.

    A dataset need not be iterable by itself: indexing is all that torch asks of one.

    Args:
        name: of the set, for messages.
        notes: what is lost, or done differently, is added to them.

    Raises:
        DataError: it cannot be iterated.
    """
    if isinstance(data, DataLoader):
        return _items_of_loader(data, notes)
    if is_map_style(data):
        return (data[i] for i in range(len(data)))
    if not hasattr(data, "__iter__"):
        raise DataError(
            f"{name}: a {type(data).__name__} has neither __len__ nor __iter__; give it one of them"
        )
    return iter(data)


#: Items that are read twice, to see whether they are random: even a flip in half of the cases shows.
_READ_TWICE = 8


def first_items(data: Any) -> Iterator[Any]:
    """The first items, once more; none where they can be read only once.

    Those of a loader are collated, which may be random, too.
    """
    source: Any = data.dataset if isinstance(data, DataLoader) else data
    if not is_map_style(source):
        return
    items = [source[i] for i in range(min(_READ_TWICE, len(source)))]
    if isinstance(data, DataLoader) and data.batch_size is not None:
        yield from _items_of_batch(data.collate_fn(items))
    elif isinstance(data, DataLoader):
        yield from (one for item in items for one in _items_of_batch(data.collate_fn(item)))
    else:
        yield from items


def is_map_style(data: Any) -> bool:
    """Whether its items can be read by position."""
    # torch's iterable datasets inherit a method __getitem__ that only raises.
    return isinstance(data, Sized) and hasattr(data, "__getitem__") and not isinstance(data, IterableDataset)
