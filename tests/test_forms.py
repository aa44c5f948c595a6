"""Every form in which people have data gives the same samples, or is refused with what is taken."""

from __future__ import annotations

import sys
from collections import namedtuple
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import (
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    Subset,
    TensorDataset,
    WeightedRandomSampler,
)

import tbft
from tbft.data.forms import as_samples
from tbft.errors import DataError, FormError

PICTURES = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
LABELS = np.array([0, 1, 2, 0, 1, 2])
CHANNELS_FIRST = torch.from_numpy(PICTURES.transpose(0, 3, 1, 2).copy())
Item = namedtuple("Item", "x y")


class Items(Dataset):
    """A map-style dataset of whatever `item` makes of a position."""

    def __init__(self, item, count=6, **attributes):
        self.item, self.count = item, count
        vars(self).update(attributes)

    def __len__(self):
        return self.count

    def __getitem__(self, i):
        if not 0 <= i < self.count:
            raise IndexError(i)
        return self.item(i)


class Unsized(Dataset):
    def __getitem__(self, i):
        return PICTURES[0], 0


class Stream(IterableDataset):
    def __len__(self):
        return 6

    def __iter__(self):
        return iter(zip(PICTURES, LABELS.tolist(), strict=True))


def picture(i):
    return Image.fromarray(PICTURES[i])


FORMS = {
    "samples": lambda _: tbft.make_samples(PICTURES, LABELS),
    "arrays": lambda _: (PICTURES, LABELS),
    "tensors": lambda _: (CHANNELS_FIRST, torch.from_numpy(LABELS)),
    "lists": lambda _: [PICTURES.tolist(), LABELS.tolist()],
    "lists of arrays": lambda _: (list(PICTURES), list(LABELS)),
    "floats": lambda _: (CHANNELS_FIRST / 255, LABELS),
    "doubles that need a gradient": lambda _: ((CHANNELS_FIRST / 255).double().requires_grad_(), LABELS),
    "dataset of tensors": lambda _: TensorDataset(CHANNELS_FIRST, torch.from_numpy(LABELS)),
    "dataset of arrays": lambda _: Items(lambda i: (PICTURES[i], LABELS[i])),
    "dataset of pictures": lambda _: Items(lambda i: (picture(i), int(LABELS[i]))),
    "dataset of mappings": lambda _: Items(lambda i: {"image": picture(i), "label": LABELS[i]}),
    "dataset of named tuples": lambda _: Items(lambda i: Item(picture(i), LABELS[i])),
    "dataset of one-hot labels": lambda _: Items(lambda i: (PICTURES[i], torch.eye(3)[LABELS[i]])),
    "list of items": lambda _: [(PICTURES[i], LABELS[i]) for i in range(6)],
    "iterable dataset": lambda _: Stream(),
    "loader": lambda _: DataLoader(TensorDataset(CHANNELS_FIRST, torch.from_numpy(LABELS)), batch_size=4),
    "shuffling loader that drops": lambda _: DataLoader(
        Items(lambda i: {"x": PICTURES[i], "y": LABELS[i]}), batch_size=4, shuffle=True, drop_last=True
    ),
    "loader of a stream": lambda _: DataLoader(Stream(), batch_size=4, drop_last=True),
    "loader without batches": lambda _: DataLoader(
        TensorDataset(CHANNELS_FIRST, torch.from_numpy(LABELS)), batch_size=None
    ),
    "file": lambda folder: folder / "set.npz",
    "name of a file": lambda folder: str(folder / "set.npz"),
    "factory": lambda _: "sets_of_mine:loader",
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_samples(form, tmp_path, monkeypatch):
    np.savez(tmp_path / "set.npz", images=PICTURES, labels=LABELS)
    (tmp_path / "sets_of_mine.py").write_text(
        "import numpy as np, torch\nfrom torch.utils.data import DataLoader, TensorDataset\n\n"
        "def loader():\n    file = np.load('set.npz')\n"
        "    x = torch.from_numpy(file['images']).permute(0, 3, 1, 2)\n"
        "    return DataLoader(TensorDataset(x, torch.from_numpy(file['labels'])), batch_size=4)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "sets_of_mine", raising=False)
    samples = as_samples(FORMS[form](tmp_path))
    x, y = samples.batch(slice(0, 6))
    torch.testing.assert_close(x, CHANNELS_FIRST / 255)
    assert y.tolist() == LABELS.tolist()
    assert samples.class_names == ("0", "1", "2")


@pytest.mark.parametrize(
    "form", [3, None, PICTURES, {1: 2}, (PICTURES,), lambda: None, (PICTURES, LABELS, LABELS)]
)
def test_other_forms_are_refused_with_what_is_taken(form):
    with pytest.raises(FormError, match=r"expected tbft.Samples; a pair \(inputs, labels\).*got"):
        as_samples(form)
    assert issubclass(FormError, TypeError)
    assert issubclass(FormError, tbft.TbftError)


def test_classes_of_a_dataset_are_matched_to_the_models():
    pets = Items(lambda i: (PICTURES[i], i % 2), classes=["dog", "cat"])
    spec = tbft.InputSpec(class_names=("cat", "dog"))
    for form in (
        pets,
        Subset(pets, [0, 1, 2, 3]),
        DataLoader(pets, batch_size=2),
        ConcatDataset([pets, pets]),
    ):
        samples = as_samples(form, spec)
        assert samples.class_names == ("cat", "dog")
        assert samples.labels[:4].tolist() == [1, 0, 1, 0]
    hugging = Items(lambda i: {"image": picture(i), "label": i % 2})
    hugging.features = {"label": SimpleNamespace(names=["dog", "cat"])}
    assert as_samples(hugging, spec).labels[:2].tolist() == [1, 0]
    other = Items(lambda i: (PICTURES[i], i % 2), classes=["cat", "dog"])
    with pytest.raises(DataError, match="joins datasets whose classes differ"):
        as_samples(ConcatDataset([pets, other]))
    assert as_samples(tbft.make_samples(PICTURES, LABELS % 2, ["dog", "cat"]), spec).labels[0] == 1


def test_what_items_hold_beside_input_and_label_becomes_an_attribute_or_is_noted():
    samples = as_samples(Items(lambda i: {"x": PICTURES[i], "y": 0, "person": f"p{i}", "box": [i, i]}))
    assert samples.attributes["person"].tolist() == [f"p{i}" for i in range(6)]
    assert any("box" in note and "left out" in note for note in samples.notes)
    third = as_samples(Items(lambda i: (PICTURES[i], "x", i % 2)), tbft.InputSpec(keys={"labels": "2"}))
    assert third.labels.tolist() == [0, 1] * 3
    wilds = Items(lambda i: (PICTURES[i], 0, torch.tensor([i % 2, i])), metadata_fields=["hospital", "slide"])
    assert as_samples(wilds).attributes["hospital"].tolist() == [0, 1, 0, 1, 0, 1]


def test_a_loader_is_read_without_its_chance_and_what_it_loses_is_noted():
    dataset = TensorDataset(CHANNELS_FIRST, torch.from_numpy(LABELS))
    weighted = DataLoader(dataset, sampler=WeightedRandomSampler([1.0] * 6, 20), batch_size=2)
    samples = as_samples(weighted)
    assert samples.labels.tolist() == LABELS.tolist()
    assert any("weights are not used" in note for note in samples.notes)
    in_workers = DataLoader(Stream(), batch_size=2, num_workers=2)  # each of which gives all samples
    assert as_samples(in_workers).labels.tolist() == LABELS.tolist()
    samples = as_samples(DataLoader(dataset, batch_sampler=[[5, 4], [3, 2]]))
    assert samples.labels.tolist() == [2, 1, 0, 2]
    assert any("4 samples of a dataset of 6" in note for note in samples.notes)


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (Items(lambda i: PICTURES[i]), "item 0 is a ndarray"),
        (Items(lambda i: (PICTURES[i],)), "item 0 has no label"),
        (Unsized(), "a Unsized has neither __len__ nor __iter__"),
        (Items(lambda i: (PICTURES[i], None)), "6 of 6 labels are missing"),
        (Items(lambda i: (PICTURES[i], 0.9)), "0.9 of sample 0"),
        (Items(lambda i: (PICTURES[i][: i + 1], 0)), "mixed shapes"),
        (
            Items(lambda i: (picture(i).crop((0, 0, 4 + i, 4)), 0)),
            "pictures of 6 sizes: 4x4, 5x4, 6x4.*resolution=224",
        ),
        (Items(lambda i: {"first": PICTURES[i], "second": 0}), "--keys inputs=NAME,labels=NAME"),
        (Items(lambda i: ("a word", 0)), "item 0: its input is a str"),
        (Items(lambda i: (PICTURES[i], 0), count=0), "no samples"),
        ((PICTURES, LABELS[:4]), "6 inputs but labels of shape"),
        ((np.array([None] * 6), LABELS), "Python objects"),
        ((PICTURES.astype(complex), LABELS), "have to be real numbers"),
    ],
)
def test_what_is_wrong_in_a_form_is_named(items, message):
    with pytest.raises(DataError, match=message):
        as_samples(items)


def test_pictures_of_mixed_sizes_are_fitted_one_by_one():
    items = Items(lambda i: (picture(i).resize((8 + i, 20)), 0))
    samples = as_samples(items, tbft.InputSpec(resolution=8))
    assert samples.inputs.shape == (6, 8, 8, 3)


def test_gray_pictures_among_colored_ones_become_colored():
    items = Items(lambda i: (picture(i).convert("L") if i == 2 else picture(i), 0))
    for spec in (None, tbft.InputSpec(channels=3)):
        samples = as_samples(items, spec)
        assert samples.inputs.shape[-1] == 3
        assert any("1 picture (item 2) was gray" in note for note in samples.notes)


def test_a_dataset_larger_than_memory_is_read_again_when_it_is_needed():
    reads = []

    def item(i):
        reads.append(i)
        return PICTURES[i % 6] / 255, int(LABELS[i % 6])

    samples = as_samples(Items(item, count=60), tbft.InputSpec(memory_mib=0, mean="half"))
    whole = as_samples(Items(item, count=60), tbft.InputSpec(mean="half"))
    reads.clear()
    x, y = samples.subset(np.arange(10, 20)).batch([3, 1])
    assert reads == [11, 13]
    torch.testing.assert_close(x, whole.batch([13, 11])[0])
    assert y.tolist() == whole.labels[[13, 11]].tolist()
    assert any("read from the dataset again" in note for note in samples.notes)
    pictures = Items(lambda i: (picture(i).convert("RGB" if i else "L"), 0))
    lazy = as_samples(pictures, tbft.InputSpec(memory_mib=0, resolution=4, resize=6))
    held = as_samples(pictures, tbft.InputSpec(resolution=4, resize=6))
    np.testing.assert_array_equal(np.asarray(lazy.inputs), held.inputs)
    assert [n for n in lazy.notes if "data-memory" not in n] == list(held.notes)


def test_random_inputs_are_noted_or_refused_where_they_would_differ_from_read_to_read():
    rng = np.random.default_rng(0)
    augmented = Items(lambda i: (rng.random((3, 8, 8)), 0))
    assert any("random" in note for note in as_samples(augmented).notes)
    with pytest.raises(DataError, match="leave the random transforms out"):
        as_samples(augmented, tbft.InputSpec(memory_mib=0))


def test_augmentation_behind_a_loader_is_noted():
    torch.manual_seed(0)
    pictures = torch.rand(40, 3, 8, 8)

    def flipped(i):
        return pictures[i].flip(2) if torch.rand(()) < 0.5 else pictures[i], i % 2

    def noisy(items):
        x = torch.stack([x for x, _ in items])
        return x * (1 - torch.rand_like(x) / 9), torch.tensor([y for _, y in items])

    plain = Items(lambda i: (pictures[i], i % 2), count=40)
    for loader, is_random in (
        (DataLoader(Items(flipped, count=40), batch_size=8, shuffle=True), True),
        (DataLoader(Items(flipped, count=40), batch_size=None), True),
        (DataLoader(plain, batch_size=8, shuffle=True, collate_fn=noisy), True),
        (DataLoader(plain, batch_size=8, shuffle=True, drop_last=True), False),
        (DataLoader(plain, batch_size=None), False),
        (Items(flipped, count=40), True),
    ):
        assert (
            any("one draw of each sample is used" in note for note in as_samples(loader).notes) == is_random
        )


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (lambda i: (np.full((2, 8), np.nan if i == 2 else 0.0), 0), "item 2: it has NaN"),
        (
            lambda i: (np.zeros((2, 8), np.float32 if i else np.int32), 0),
            "item 1: the input is float32, the first int32",
        ),
        (
            lambda i: (np.zeros((2, 8 + i), np.float32), 0),
            r"mixed shapes: \(2, 8\) \(item 0\), \(2, 9\) \(item 1\)",
        ),
        (lambda i: (np.array([[None] * 8]), 0), "item 0: the inputs are Python objects"),
    ],
)
def test_what_is_wrong_in_a_large_dataset_is_named_at_once(item, message):
    with pytest.raises(DataError, match=message):
        as_samples(Items(item), tbft.InputSpec(memory_mib=0))


def test_pictures_of_pillow_in_a_list_are_read_as_a_viewer_shows_them():
    plain = [Image.new("RGB", (8, 8), color) for color in ((200, 30, 60), (10, 220, 90))]
    stored = [p.convert(mode) for p, mode in zip(plain, ("CMYK", "P"), strict=True)]
    for data in ((stored, [0, 1]), {"image": stored, "label": [0, 1]}):
        samples = as_samples(data)
        np.testing.assert_allclose(samples.inputs, np.stack([np.asarray(p) for p in plain]), atol=60)
        assert any("CMYK" in note for note in samples.notes)
    with pytest.raises(DataError, match="2 and 3 inputs and labels"):
        as_samples((stored, [0, 1, 1]))
    with pytest.raises(DataError, match=r"give them with their labels as items, list\(zip"):
        tbft.make_samples(stored, [0, 1])


@pytest.mark.parametrize("length", [4, 9])
def test_what_the_code_of_a_dataset_raises_names_the_item_and_is_the_cause(length):
    class Broken:
        def __len__(self):
            return length

        def __getitem__(self, i):
            return np.zeros(3), [0, 1, 1, 0][i] // (i != 2)

    with pytest.raises(DataError, match="item 2 cannot be read: ZeroDivisionError") as found:
        as_samples(Broken())
    assert isinstance(found.value.__cause__, ZeroDivisionError)


def test_positions_of_classes_in_a_dataset_name_them():
    class Pets(list):
        class_to_idx = {"dog": 0, "cat": 1}  # noqa: RUF012

    samples = as_samples(
        Pets([(np.zeros(3), 0), (np.ones(3), 1)]), tbft.InputSpec(class_names=("cat", "dog"))
    )
    assert samples.labels.tolist() == [1, 0]


def test_tensors_without_values_are_refused():
    with pytest.raises(DataError, match="no values that can be read"):
        as_samples((torch.zeros(2, 3, device="meta"), torch.tensor([0, 1])))
