"""Shards of WebDataset, and archives that lie in one folder."""

from __future__ import annotations

import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image

from tbft.data import InputSpec, read
from tbft.errors import DataError


def png(value: int) -> bytes:
    out = io.BytesIO()
    Image.new("L", (4, 4), value).save(out, "PNG")
    return out.getvalue()


def tar_of(path, files):
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def shard(path, first, kind="cls", names=("cat", "dog")):
    files = {}
    for i in range(first, first + 4):
        files[f"{i:03}.png"] = png(i)
        if kind == "cls":
            files[f"{i:03}.cls"] = str(i % 2).encode()
        else:
            files[f"{i:03}.json"] = json.dumps(
                {"label": names[i % 2], "user": i // 3, "box": [1, 2]}
            ).encode()
    return tar_of(path, files)


@pytest.mark.parametrize("kind", ["cls", "json"])
def test_a_shard_has_the_labels_beside_its_pictures(tmp_path, kind):
    samples = read(shard(tmp_path / "s.tar", 0, kind))
    assert samples.labels.tolist() == [0, 1, 0, 1]
    assert samples.inputs[:, 0, 0, 0].tolist() == [0, 1, 2, 3]
    if kind == "json":
        assert samples.class_names == ("cat", "dog")
        assert samples.attributes["user"].tolist() == [0, 0, 0, 1]
        assert "box" not in samples.attributes


def test_shards_in_a_folder_are_one_set(tmp_path):
    folder = tmp_path / "shards"
    folder.mkdir()
    for k in range(3):
        shard(folder / f"train-{k:06}.tar", 0)  # each numbers its samples from 0
    samples = read(folder)
    assert samples.labels.tolist() == [0, 1, 0, 1] * 3
    assert len(set(samples.attributes["file"].tolist())) == 12


def test_the_second_picture_of_a_sample_is_left_out_and_said(tmp_path):
    files = {"000.png": png(1), "000.seg.png": png(2), "000.cls": b"0", "001.png": png(3)}
    samples = read(tar_of(tmp_path / "s.tar", files))
    assert samples.inputs[:, 0, 0, 0].tolist() == [1]
    assert any("2 pictures" in note and "001.png" in note for note in samples.notes)


def test_a_json_beside_pictures_in_class_folders_is_not_a_label(tmp_path):
    files = {f"{c}/{i}.{end}": content for c in ("cat", "dog") for i in range(2)
             for end, content in (("png", png(i)), ("json", b'{"label": "owl"}'))}  # fmt: skip
    assert read(tar_of(tmp_path / "s.tar", files)).class_counts() == {"cat": 2, "dog": 2}


def test_an_archive_a_class_in_one_folder(tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    for k, name in enumerate(("n01", "n02")):
        tar_of(folder / f"{name}.tar", {f"{i}.png": png(10 * k + i) for i in range(2)})
    (folder / "readme.txt").write_text("two classes")
    samples = read(folder, InputSpec(class_names=("n02", "n01")))
    assert samples.labels.tolist() == [1, 1, 0, 0]
    np.testing.assert_array_equal(samples.inputs[:, 0, 0, 0], [0, 1, 10, 11])
    (folder / "n03.tar").write_bytes(b"no tar")
    with pytest.raises(DataError, match=r"n03.tar is damaged, or not a tar"):
        read(folder)
