"""Every registered kind of set, held to one contract; and what is particular to some."""

from __future__ import annotations

import io
import json
import sys
import wave
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tbft.data import InputSpec, Samples, make_samples, read
from tbft.data.reading import READERS, forms
from tbft.errors import DataError, MissingExtraError

WORDS, WHO = ["dog", "cat", "emu"] * 2, ["ann", "bob"] * 3
VALUES = [20, 40, 60, 80, 100, 120]


def png(value: int, side: int = 8) -> bytes:
    out = io.BytesIO()
    Image.new("L", (side, side), value).save(out, "PNG")
    return out.getvalue()


def wav(value: int, count: int = 50, rate: int = 8000, channels: int = 1, width: int = 2) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        one = (
            bytes([128 + value // 2]) if width == 1 else (value << (8 * width - 9)).to_bytes(width, "little")
        )
        file.writeframes(one * count * channels)
    return out.getvalue()


def write(path: Path, content: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def table(header: str, names: list[str]) -> str:
    lines = (",".join(row) for row in zip(names, WORDS, WHO, strict=True))
    return "\n".join([header, *lines]) + "\n"


def in_folders(folder: Path) -> Path:
    for i, value in enumerate(VALUES):
        write(folder / WHO[i] / WORDS[i] / f"{i}.png", png(value))
    return folder


def beside_a_table(folder: Path, make: Callable[[int], bytes] = png, end: str = "png") -> Path:
    names = [f"{i}.{end}" for i in range(6)]
    for name, value in zip(names, VALUES, strict=True):
        write(folder / "all" / name, make(value))
    write(folder / "labels.csv", table("file,label,subject", names))
    return folder


def coco(folder: Path, annotations: list[tuple[int, object]] | None = None) -> Path:
    for i, value in enumerate(VALUES):
        write(folder / "images" / f"{i}.png", png(value))
    pairs = annotations or [(i, "emu dog cat".split().index(WORDS[i]) + 5) for i in range(6)]
    values = {
        "images": [{"id": i, "file_name": f"{i}.png", "subject": WHO[i], "width": 8} for i in range(6)],
        "annotations": [{"id": 9 - i, "image_id": i, "category_id": c} for i, c in pairs],
        "categories": [{"id": 5 + i, "name": name} for i, name in enumerate(["emu", "dog", "cat"])],
    }
    write(folder / "annotations" / "instances.json", json.dumps(values))
    return folder


def arrays() -> dict[str, np.ndarray]:
    pixels = np.stack([np.full((8, 8), value, np.uint8) for value in VALUES])
    return {"images": pixels, "labels": np.array(WORDS), "subject": np.array(WHO)}


def npz(folder: Path) -> Path:
    np.savez(folder / "set.npz", **arrays())
    return folder / "set.npz"


def parquet(folder: Path, rows: dict | None = None, name: str = "train-0.parquet") -> Path:
    arrow, files = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pictures = [{"bytes": png(value), "path": None} for value in VALUES]
    told = {"image": pictures, "label": [WORDS.index(w) for w in WORDS], "subject": WHO}
    features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": WORDS[:3]}}
    about = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    files.write_table(arrow.table(rows or told).replace_schema_metadata(about), folder / name)
    return folder


def numbers(folder: Path) -> Path:
    rows = [f"{v},{v / 2},{w},{s}" for v, w, s in zip(VALUES, WORDS, WHO, strict=True)]
    return write(folder / "set.csv", "\n".join(["a,b,label,subject", *rows]))


def cifar(folder: Path) -> Path:
    rows = b"".join(bytes([7 - i % 3 % 2]) + bytes([v]) * 3072 for i, v in enumerate(VALUES))
    write(folder / "data_batch_1.bin", rows)
    return folder


def cifar10c(folder: Path) -> Path:
    np.save(folder / "fog.npy", np.stack([np.full((8, 8, 3), v, np.uint8) for v in VALUES]))
    np.save(folder / "labels.npy", np.arange(6) % 3)
    return folder / "fog.npy"


def samples() -> Samples:
    return make_samples(arrays()["images"], WORDS, attributes={"subject": WHO})


#: Kind -> what makes a set of it. Whatever is registered has one here.
SETS: dict[str, Callable[[Path], object]] = {
    "package.module:factory": lambda _: "test_readers:samples",
    "a .csv or .tsv of files or numbers with labels": numbers,
    "a .json of files with labels, such as COCO's": lambda f: coco(f) / "annotations" / "instances.json",
    "an .npz, .npy, .pt or .safetensors of inputs and labels": npz,
    "a CIFAR-10-C folder": cifar10c,
    "official CIFAR-10 or CIFAR-100 files": cifar,
    "a .parquet of pictures or numbers with labels": parquet,
    "pictures or recordings with a table of their labels": beside_a_table,
    "a folder, .tar or .zip of class folders": in_folders,
}
_PUBLISHED = ("a CIFAR-10-C folder", "official CIFAR-10 or CIFAR-100 files")


def test_each_registered_kind_is_tested_and_named_in_messages(tmp_path):
    assert [reader.form for reader in READERS] == list(SETS)
    with pytest.raises(DataError, match=r"no such file or folder; expected a folder, .tar"):
        read(tmp_path / "nothing")
    assert all(form in forms() for form in SETS)


@pytest.mark.parametrize("form", [form for form in SETS if form not in _PUBLISHED])
def test_every_kind_gives_the_same_samples_and_takes_conditions(tmp_path, monkeypatch, form):
    monkeypatch.syspath_prepend(Path(__file__).parent)
    source = SETS[form](tmp_path)
    spec = InputSpec(class_names=("cat", "dog", "emu"), layout="subject/class" if "class" in form else None)
    made = read(source, spec)
    assert [made.class_names[y] for y in made.labels] == [WORDS[i] for i in order(made)]
    chosen = read(source, spec, {"subject": "bob"})
    assert sorted(order(chosen)) == [1, 3, 5]
    excluded = read(source, spec, ["subject!=bob"])
    assert sorted(order(excluded)) == [0, 2, 4]
    with pytest.raises(DataError, match="subject is one of ann, bob"):
        read(source, spec, {"subject": "eve"})


def order(made: Samples) -> list[int]:
    """Which of the samples each is, by its values."""
    first = made.inputs.reshape(len(made), -1)[:, 0]
    return [VALUES.index(int(value)) for value in first]


@pytest.mark.parametrize("form", _PUBLISHED)
def test_published_sets_are_read_through_the_same_door(tmp_path, form):
    assert len(read(SETS[form](tmp_path))) == 6


def test_a_missing_package_is_named_with_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"pyarrow: pip install 'tbft\[parquet\]'"):
        read(write(tmp_path / "set.parquet", b"x"))


@pytest.mark.parametrize("suffix", ["parquet", "json", "wav", "csv", "npz", "safetensors"])
def test_files_that_are_damaged_or_something_else_are_refused_by_name(tmp_path, suffix):
    for content in (
        b"",
        b"<html>",
        b"PAR1" + bytes(40) + b"PAR1",
        b"\x89HDF\r\n\x1a\n" + bytes(90),
        b"[" * 5000,
    ):
        with pytest.raises(DataError, match="set"):
            read(write(tmp_path / f"set.{suffix}", content))


@pytest.mark.parametrize(
    ("suffix", "remedy"), [("xlsx", "as CSV"), ("mat", "savez"), ("pkl", "savez"), ("h5", "savez")]
)
def test_other_kinds_are_refused_with_what_to_do(tmp_path, suffix, remedy):
    with pytest.raises(DataError, match=f"{suffix} is not read: .*{remedy}"):
        read(write(tmp_path / f"set.{suffix}", b"x"))


# JSON


def test_coco_has_the_categories_in_the_order_of_their_ids_and_one_a_picture(tmp_path):
    made = read(coco(tmp_path))
    assert (made.class_names, made.labels.tolist()) == (("emu", "dog", "cat"), [1, 2, 0] * 2)
    assert made.attributes["subject"].tolist() == WHO and "width" not in made.attributes
    again = read(coco(tmp_path, [(0, 5), (0, 5), (1, 6), (44, 6)]))
    assert again.labels.tolist() == [0, 1]
    assert any("4 pictures without a label in" in note for note in again.notes)
    assert any("1 annotation of pictures that" in note for note in again.notes)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([(0, 5), (0, 6)], "annotations of several categories.*0.png.*cut out the boxes"),
        ([(0, 9)], "a category that it does not define: 9"),
        ([(0, [5])], "annotation 0: its category_id is neither a whole number"),
    ],
)
def test_annotations_that_give_no_certain_label_are_refused(tmp_path, pairs, message):
    with pytest.raises(DataError, match=message):
        read(coco(tmp_path, pairs))


@pytest.mark.parametrize("name", ["labels.json", "metadata.jsonl", "by_name.json"])
def test_records_and_mappings_name_pictures_too(tmp_path, name):
    beside_a_table(tmp_path)
    (tmp_path / "labels.csv").unlink()
    rows = [{"file_name": f"all/{i}.png", "label": WORDS[i], "subject": WHO[i], "box": [1]} for i in range(6)]
    if name.startswith("by"):
        text = json.dumps({row["file_name"]: row["label"] for row in rows})
    else:
        text = "\n".join(map(json.dumps, rows)) if name.endswith("l") else json.dumps(rows)
    write(tmp_path / name, text)
    for source in (tmp_path, tmp_path / name):
        made = read(source)
        assert [made.class_names[y] for y in made.labels] == WORDS
        assert name.startswith("by") or any("several values: box" in note for note in made.notes)
    write(tmp_path / name, '{"all/0.png": "cat", "all/0.png": "dog"}')
    if name.endswith("json"):
        with pytest.raises(DataError, match=r"'all/0.png' is in it twice"):
            read(tmp_path)


def test_several_files_that_name_the_pictures_are_refused_and_one_a_part_is_joined(tmp_path):
    coco(tmp_path / "twice")
    own = tmp_path / "twice" / "annotations" / "instances.json"
    write(own.with_name("person.json"), own.read_bytes())
    with pytest.raises(DataError, match=r"several tables name its pictures: .*give one of them"):
        read(tmp_path / "twice")
    for part in ("train", "validation"):
        for i in range(6):
            write(tmp_path / "set" / part / f"{i}.png", png(VALUES[i]))
        write(
            tmp_path / "set" / part / "metadata.csv",
            table("file_name,label,subject", [f"{i}.png" for i in range(6)]),
        )
    made = read(tmp_path / "set")
    assert made.attributes["part"].tolist() == ["train"] * 6 + ["val"] * 6
    assert [made.class_names[y] for y in made.labels] == WORDS * 2


# Parquet


def test_files_of_parquet_called_after_parts_are_one_set(tmp_path):
    for name in ("train-00000-of-00001.parquet", "test-00000-of-00001.parquet"):
        parquet(tmp_path, name=name)
    write(tmp_path / "README.md", "about")
    made = read(tmp_path)
    assert made.class_names == ("dog", "cat", "emu")
    assert made.attributes["part"].tolist() == ["test"] * 6 + ["train"] * 6
    assert any("passed over: 1 .md" in note for note in made.notes)


PARQUETS = {
    "lists": ({"signal": [[float(v), 0.0] for v in VALUES], "label": WORDS}, (6, 2)),
    "lists of lists": ({"signal": [[[1.0] * 3] * 2] * 6, "label": WORDS}, (6, 2, 3)),
    "bytes": ({"picture": [png(v) for v in VALUES], "label": WORDS}, (6, 8, 8, 1)),
    "sounds": ({"audio": [{"bytes": wav(v), "path": "a"} for v in VALUES], "label": WORDS}, (6, 1, 50)),
    "numbers": ({"a": VALUES, "b": VALUES, "label": WORDS}, (6, 2)),
}


@pytest.mark.parametrize(("rows", "shape"), PARQUETS.values(), ids=PARQUETS)
def test_columns_of_parquet_are_inputs_as_they_are_kept(tmp_path, rows, shape):
    made = read(parquet(tmp_path, rows) / "train-0.parquet")
    assert made.inputs.shape == shape
    assert [made.class_names[y] for y in made.labels] == WORDS


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"image": [{"bytes": None, "path": "0.png"}] * 6, "label": WORDS}, "not found in .*: 0.png"),
        ({"image": [png(9), None, *[png(9)] * 4], "label": WORDS}, "1 row of image hold no bytes: row 1"),
        ({"image": [png(9), png(9)[:50], *[png(9)] * 4], "label": WORDS}, r"cannot be read: row 1 \("),
        ({"a": [1.0, None, 1.0, 1.0, 1.0, 1.0], "label": WORDS}, "line 3: a cell is empty"),
        ({"signal": [[1.0], [1.0, 2.0]] * 3, "label": WORDS}, "mixed shapes"),
    ],
)
def test_rows_of_parquet_without_an_input_are_refused(tmp_path, rows, message):
    with pytest.raises(DataError, match=message):
        read(parquet(tmp_path, rows) / "train-0.parquet")


# Recordings


def sounds(folder: Path, *blobs: bytes, end: str = "wav") -> Path:
    for i, blob in enumerate(blobs):
        write(folder / "ab"[i % 2] / f"{i}.{end}", blob)
    return folder


@pytest.mark.parametrize("width", [1, 2, 3, 4])
@pytest.mark.parametrize("channels", [1, 2])
def test_recordings_in_class_folders_are_series_between_minus_one_and_one(tmp_path, width, channels):
    made = read(sounds(tmp_path, *(wav(v, width=width, channels=channels) for v in VALUES)))
    assert (made.inputs.shape, made.inputs.dtype) == ((6, channels, 50), np.float32)
    np.testing.assert_allclose(made.inputs[:, 0, 0], np.array([20, 60, 100, 40, 80, 120]) / 256, atol=1e-6)
    assert any("8,000 Hz" in note for note in made.notes)


def test_recordings_are_read_when_needed_where_they_do_not_fit_and_from_archives(tmp_path):
    folder = sounds(tmp_path / "set", *map(wav, VALUES))
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for path in folder.rglob("*.wav"):
            archive.write(path, path.relative_to(folder))
    whole, lazy = read(folder), read(tmp_path / "set.zip", InputSpec(memory_mib=0))
    assert not isinstance(lazy.inputs, np.ndarray)
    assert torch.equal(whole.batch([0, 4])[0], lazy.batch([0, 4])[0])


def test_a_table_gives_the_labels_of_recordings(tmp_path):
    made = read(beside_a_table(tmp_path, wav, "wav"))
    assert [made.class_names[y] for y in made.labels] == WORDS
    assert made.attributes["subject"].tolist() == WHO


REFUSED = {
    "rates": ([wav(9), wav(9, rate=16_000)], r"8,000 Hz .*16,000 Hz.*ffmpeg .*-ar \d+ -ac 1"),
    "channels": ([wav(9), wav(9, channels=2)], "1 channel .*2 channels"),
    "lengths": ([wav(9), wav(9, count=60)], "50 samples.*60 samples.*--mixed"),
    "cut off": ([wav(9), wav(9)[:-7]], r"1 of 2 files cannot be read: b/1.wav \(it is cut off"),
    "empty": ([wav(9), wav(9, count=0)], "it has no samples"),
    "floats": ([wav(9), wav(9)[:20] + b"\x03" + wav(9)[21:]], "holds floats; convert it: ffmpeg"),
    "something else": ([wav(9), png(9)], "damaged, or not a .wav"),
}


@pytest.mark.parametrize(("blobs", "message"), REFUSED.values(), ids=REFUSED)
def test_recordings_that_are_not_alike_or_not_whole_are_refused(tmp_path, blobs, message):
    with pytest.raises(DataError, match=message):
        read(sounds(tmp_path, *blobs))


def test_shorter_recordings_are_padded_where_asked_for_and_counted(tmp_path):
    made = read(sounds(tmp_path, wav(100), wav(100, count=60), wav(100)), InputSpec(mixed=True))
    assert (made.inputs[:, 0, 50:] == 0).sum() == 20
    assert any("2 recordings padded with silence to 60 samples" in note for note in made.notes)


def test_other_recordings_are_refused_and_not_passed_over(tmp_path):
    sounds(tmp_path, wav(9), wav(9))
    write(tmp_path / "a" / "x.mp3", b"ID3")
    with pytest.raises(DataError, match=r"a/x.mp3 \(.mp3 is not read; convert it"):
        read(tmp_path)
    with pytest.raises(DataError, match="the model takes pictures, and these are recordings"):
        read(tmp_path, InputSpec(resolution=8))


def test_what_there_is_more_of_is_the_set(tmp_path):
    sounds(tmp_path, *map(wav, VALUES))
    write(tmp_path / "a" / "cover.png", png(9))
    made = read(tmp_path)
    assert made.inputs.ndim == 3
    assert any("not recordings: 1 .png (a/cover.png)" in note for note in made.notes)


def test_a_file_of_json_is_looked_for_pictures_below_its_folder_alone(tmp_path):
    coco(tmp_path)
    own = tmp_path / "annotations" / "instances.json"
    elsewhere = write(tmp_path / "sub" / "instances.json", own.read_bytes())
    assert len(read(own)) == 6
    with pytest.raises(DataError, match="names no pictures that lie below"):
        read(elsewhere)
