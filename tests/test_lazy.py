"""Rows that are made when they are indexed are those that an array would have."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tbft.data import InputSpec, read, split_samples
from tbft.data.copies import first_copies
from tbft.data.forms import as_samples
from tbft.data.lazy import LazyRows, as_lazy
from tbft.data.samples import digest
from tbft.errors import DataError
from tbft.scenarios import apply_drift

WHOLE = np.arange(40 * 3, dtype=np.uint8).reshape(40, 3)
INDICES = st.one_of(
    st.lists(st.integers(-40, 39), max_size=12).map(lambda i: np.array(i, dtype=np.int64)),
    st.builds(slice, st.none() | st.integers(0, 40), st.none() | st.integers(0, 40), st.integers(1, 3)),
    st.lists(st.booleans(), min_size=40, max_size=40).map(np.array),
    st.integers(-40, 39),
)


@settings(max_examples=80, deadline=None)
@given(asked=st.lists(INDICES, min_size=1, max_size=8), kept=st.integers(0, 45))
def test_what_is_kept_never_changes_what_is_given(asked, kept):
    made = []

    def make(rows):
        made.append(len(rows))
        assert len(set(rows.tolist())) == len(rows)
        return WHOLE[rows]

    lazy = LazyRows(make, WHOLE.shape, np.uint8, memory_bytes=3 * kept)
    for at in asked:
        np.testing.assert_array_equal(lazy[at], WHOLE[at])
    np.testing.assert_array_equal(np.asarray(lazy), WHOLE)
    if kept >= 40:
        assert sum(made) == 40  # each row once
    part = lazy.subset(np.array([7, 3, 3]))
    np.testing.assert_array_equal(part[1:], WHOLE[[3, 3]])
    moved = part.mapped(lambda rows, at: rows + at[:, None])
    np.testing.assert_array_equal(moved[[2, 0]], [WHOLE[3] + 2, WHOLE[7]])
    assert (lazy.shape, lazy.ndim, lazy.dtype, len(part)) == ((40, 3), 2, np.uint8, 3)


@pytest.fixture
def folder(tmp_path):
    generator = np.random.default_rng(0)
    for i in range(30):
        place = tmp_path / "s" / f"class{i % 3}" / f"{i:02}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 256, (20 + i % 2, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels if i != 28 else np.zeros_like(pixels)).save(place)
    Image.open(tmp_path / "s" / "class0" / "00.png").save(tmp_path / "s" / "class1" / "copy.png")
    return tmp_path / "s"


def both(folder, **spec):
    """The same set held in memory and decoded when it is needed."""
    return (read(folder, InputSpec(resolution=16, channels=3, memory_mib=mib, **spec)) for mib in (1024, 0))


def test_a_set_larger_than_memory_is_the_same_set(folder):
    held, lazy = both(folder)
    assert as_lazy(held.inputs) is None
    assert as_lazy(lazy.inputs) is not None
    assert digest(held) == digest(lazy)
    assert held.ids.tolist() == lazy.ids.tolist()
    at = np.array([4, 2, 9])
    assert held.batch(at)[0].equal(lazy.batch(at)[0])
    assert digest(held.subset(at)) == digest(lazy.subset(at))
    assert first_copies(held).tolist() == first_copies(lazy).tolist()
    parts = (split_samples(samples, 0.3, 0.2, 0.2) for samples in (held, lazy))
    assert len({digest(p.train) for p in parts}) == 1
    assert held.where({"file": "class1/copy.png"}).inputs[:].tolist() == (
        lazy.where({"file": "class1/copy.png"}).inputs[:].tolist()
    )


def test_drifts_on_it_are_the_same(folder):
    held, lazy = both(folder)
    for drift in ("gaussian_noise:3", "fog:2+labels:reverse"):
        one, two = apply_drift(held, drift, 5), apply_drift(lazy, drift, 5)
        assert as_lazy(two.inputs) is not None
        assert digest(one) == digest(two)
        assert digest(one.subset([5, 1])) == digest(two.subset([5, 1]))
        # A copy of a photo stays one under noise of its own.
        assert first_copies(one).tolist() == first_copies(two).tolist() == first_copies(held).tolist()
        assert first_copies(one.subset([11, 0])).tolist() == first_copies(held.subset([11, 0])).tolist()


def test_it_is_fitted_to_another_model_when_it_is_decoded(folder):
    for odd in folder.rglob("*[13579].png"):
        odd.unlink()
    held, lazy = (read(folder, InputSpec(memory_mib=mib)) for mib in (1024, 0))
    smaller = InputSpec(resolution=8, channels=3)
    one, two = (as_samples(s, smaller, "photos") for s in (held, lazy))
    assert two.inputs.shape == (16, 8, 8, 3)
    np.testing.assert_array_equal(one.inputs, two.inputs[:])
    with pytest.raises(DataError, match="takes 1 channels"):
        as_samples(lazy, InputSpec(resolution=8, channels=1), "photos")


def test_a_picture_that_goes_away_later_is_named(folder):
    _, lazy = both(folder)
    (folder / "class0" / "03.png").unlink()
    at = lazy.attributes["file"].tolist().index("class0/03.png")
    with pytest.raises(DataError, match=r"class0/03.png can no longer be read"):
        lazy.batch([at])


def test_damaged_pictures_are_known_before_any_is_used(folder):
    (folder / "class0" / "03.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"1 of 31 files cannot be read: class0/03.png"):
        read(folder, InputSpec(resolution=16, channels=3, memory_mib=0))


def test_a_set_that_fits_is_decoded_once_and_its_subsets_copy_nothing(folder):
    samples = read(folder, InputSpec(resolution=64, channels=3, memory_mib=1))
    whole = read(folder, InputSpec(resolution=64, channels=3))
    assert as_lazy(samples.inputs) is not None
    assert as_lazy(whole.inputs) is None
    for file in folder.rglob("*.png"):
        file.unlink()
    assert digest(samples) == digest(whole)
    assert first_copies(samples).tolist() == first_copies(whole).tolist()
    assert digest(samples.subset([3, 1])) == digest(whole.subset([3, 1]))


def test_threads_give_the_same_pictures_and_name_the_same_damage(folder, monkeypatch):
    held, _ = both(folder)
    monkeypatch.setattr("tbft.data.decoding._SMALL_FILE_BYTES", 16)
    monkeypatch.setattr("tbft.data.decoder.torch.get_num_threads", lambda: 3)
    monkeypatch.setattr("tbft.data.decoder._MOST_AT_ONCE", 7)
    for threaded in both(folder):
        assert digest(threaded) == digest(held)
    (folder / "class0" / "03.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"1 of 31 files cannot be read: class0/03.png"):
        next(both(folder))
