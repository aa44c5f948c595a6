"""The files of folders, tars and zips: links, updates, hidden files, names of any kind."""

from __future__ import annotations

import gc
import io
import os
import tarfile
import unicodedata
import zipfile
from pathlib import Path

import numpy as np
import pytest
from conftest import put
from PIL import Image

from tbft.data import InputSpec, read
from tbft.data.archives import list_members
from tbft.data.members import printable
from tbft.errors import DataError


def png(value: int = 0) -> bytes:
    out = io.BytesIO()
    Image.new("L", (4, 4), value).save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def pets(tmp_path):
    for k, name in enumerate(("cat", "dog")):
        for i in range(3):
            put(tmp_path / "s" / name / f"{i}.png", png(10 * k + i))
    return tmp_path / "s"


def packed(folder: Path, form: str) -> Path:
    """The folder itself, or an archive of it beside it."""
    if form == "folder":
        return folder
    path = folder.with_suffix(f".{form}")
    if form == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for file in sorted(folder.rglob("*")):
                archive.write(file, file.relative_to(folder.parent))
    else:
        with tarfile.open(path, f"w:{form.partition('.')[2]}") as tar:
            tar.add(folder, folder.name)
    return path


FORMS = ["folder", "tar", "tar.gz", "tar.bz2", "tar.xz", "zip"]


@pytest.mark.parametrize("form", FORMS)
def test_every_archive_has_what_the_folder_has(pets, form):
    samples = read(packed(pets, form))
    assert samples.class_counts() == {"cat": 3, "dog": 3}
    assert samples.inputs[:, 0, 0, 0].tolist() == [0, 1, 2, 10, 11, 12]
    assert samples.ids.tolist() == list(range(6))


@pytest.mark.parametrize("form", FORMS)
def test_hidden_and_system_files_are_passed_over_and_counted(pets, form):
    for name in ("cat/._0.png", "cat/.DS_Store", "dog/Thumbs.db", "desktop.ini"):
        put(pets / name, b"\0\5\x16\7")
    for name in (".ipynb_checkpoints/0.png", "dog/.git/0.png", "__MACOSX/cat/0.png", "@eaDir/0.jpg"):
        put(pets / name, png(99))
    (pets / "empty").mkdir()
    samples = read(packed(pets, form))
    assert samples.class_counts() == {"cat": 3, "dog": 3}
    told = " ".join(samples.notes)
    assert "4 hidden or system files" in told
    assert "4 hidden or system folders" in told
    assert "1 folder without pictures passed over: " in told


def test_links_are_followed_and_loops_are_noticed(pets, tmp_path):
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "cat").symlink_to(pets / "cat")
    (linked / "dog").mkdir()
    (linked / "dog" / "a.png").symlink_to(pets / "dog" / "0.png")
    (linked / "dog" / "again").symlink_to(linked)
    samples = read(linked)
    assert samples.class_counts() == {"cat": 3, "dog": 1}
    assert any("1 link to a folder that it lies in" in note for note in samples.notes)


def test_links_that_lead_nowhere_are_named(pets):
    (pets / "cat" / "gone.png").symlink_to(pets / "moved" / "gone.png")
    (pets / "owl").symlink_to(pets / "moved")
    with pytest.raises(DataError, match=r"2 of 8 files .*: cat/gone.png \(a link that leads nowhere"):
        read(pets)
    samples = read(pets, InputSpec(skip_damaged=True))
    assert samples.class_counts() == {"cat": 3, "dog": 3}
    assert any("owl (a link that leads nowhere" in note for note in samples.notes)


def tar_of(path: Path, members) -> Path:
    """A tar of (name, content) and (name, kind, target)."""
    with tarfile.open(path, "w") as tar:
        for name, *what in members:
            info = tarfile.TarInfo(name)
            if len(what) == 1:
                info.size = len(what[0])
                tar.addfile(info, io.BytesIO(what[0]))
            else:
                info.type, info.linkname = what
                tar.addfile(info)
    return path


def test_links_inside_a_tar(tmp_path):
    path = tar_of(
        tmp_path / "s.tar",
        [
            ("s/dog", tarfile.SYMTYPE, "../store/dog"),  # before what it leads to
            ("store/dog/0.png", png(5)),
            ("store/dog/1.png", png(6)),
            ("s/cat/0.png", tarfile.SYMTYPE, "../../store/dog/0.png"),
            ("s/cat/1.png", tarfile.LNKTYPE, "store/dog/1.png"),
            ("s/dog/self", tarfile.SYMTYPE, "../.."),
            ("s/cat/2.png", tarfile.SYMTYPE, "nowhere.png"),
        ],
    )
    listing = list_members(path)
    found = {m.name: m.read(-1) for m in listing.pictures}
    assert found["s/cat/0.png"] == found["s/dog/0.png"] == png(5)
    assert found["s/cat/1.png"] == found["s/dog/1.png"] == png(6)
    assert [name for name, _ in listing.damaged] == ["s/cat/2.png"]


def test_of_members_that_were_added_again_the_last_counts(tmp_path):
    members = [(f"s/cat/{i}.png", png(i)) for i in range(4)] + [("s/dog/0.png", png(9))]
    newer = [("s/cat/1.png", png(101)), ("./s/cat/2.png", png(102))]
    samples = read(tar_of(tmp_path / "s.tar", members + newer))
    assert samples.inputs[:, 0, 0, 0].tolist() == [0, 101, 102, 3, 9]
    assert any("2 files in it more than once" in note for note in samples.notes)


@pytest.mark.parametrize("form", ["tar", "tar.gz", "tar.xz", "tar.bz2"])
def test_an_archive_that_is_cut_off_is_said_to_be(pets, form):
    for i in range(40):
        noise = np.random.default_rng(i).integers(0, 256, (32, 32), dtype=np.uint8)
        Image.fromarray(noise).resize((4, 4)).save(pets / "cat" / f"{i:02}.png")
        put(pets / "cat" / f"{i:02}.txt", noise.tobytes())
    path = packed(pets, form)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(DataError, match=rf"s.{form} .*it is damaged or cut off"):
        read(path)
    if form == "tar.bz2":  # its blocks are larger than this set
        return
    assert 0 < len(read(path, InputSpec(skip_damaged=True))) < 46


def test_a_damaged_header_is_not_taken_for_the_end(pets):
    path = packed(pets, "tar")
    raw = bytearray(path.read_bytes())
    at = raw.index(b"s/dog/1.png")
    raw[at : at + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(raw)
    with pytest.raises(DataError, match=r"s.tar \(it is damaged.*after 4 files"):
        read(path)


def test_encrypted_and_foreign_archives_are_refused(tmp_path):
    put(tmp_path / "x.zip", b"PK\3\4 no")
    with pytest.raises(DataError, match="damaged, or not a zip"):
        read(tmp_path / "x.zip")
    put(tmp_path / "x.rar", b"Rar!")
    with pytest.raises(DataError, match="unpack it"):
        read(tmp_path / "x.rar")
    with zipfile.ZipFile(tmp_path / "e.zip", "w") as archive:
        archive.writestr("cat/0.png", png())
    raw = bytearray((tmp_path / "e.zip").read_bytes())
    raw[raw.index(b"PK\1\2") + 8] |= 1
    put(tmp_path / "e.zip", raw)
    with pytest.raises(DataError, match=r"is encrypted \(cat/0.png\)"):
        read(tmp_path / "e.zip")


def test_names_are_composed_and_compared_so(tmp_path):
    apart, whole = (unicodedata.normalize(form, "caf\u00e9") for form in ("NFD", "NFC"))
    put(tmp_path / "s" / apart / "0.png", png(1))
    put(tmp_path / "s" / whole / "1.png", png(2))
    put(tmp_path / "s" / "bar" / "2.png", png(3))
    assert read(tmp_path / "s").class_counts() == {"bar": 1, whole: 2}
    for name in (apart, whole):
        samples = read(tmp_path / "s", InputSpec(class_names=(name, "bar")))
        assert samples.class_counts() == {name: 2, "bar": 1}


def test_names_are_shown_safely(tmp_path):
    assert printable("a\x1b[31m\nb") == "a\\x1b[31m\\nb"
    put(tmp_path / "s" / os.fsdecode(b"caf\xe9") / "0.png", png())
    samples = read(tmp_path / "s")
    assert samples.class_names == ("caf\\xe9",)
    samples.attributes["file"][0].encode("utf-8")


def open_files() -> int:
    gc.collect()  # what other tests have left
    place = Path("/proc/self/fd")
    return len(list(place.iterdir())) if place.exists() else 0


def test_a_tar_is_open_as_long_as_its_samples(pets):
    path = packed(pets, "tar")
    before = open_files()
    samples = read(path, InputSpec(memory_mib=0))
    whole = samples.inputs[:].tolist()
    assert samples.subset([5, 0]).inputs[:].tolist() == [whole[5], whole[0]]
    del samples
    assert open_files() == before


def test_folders_that_look_alike_and_paths_that_lead_out_are_noted(tmp_path):
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for name in ("caf\u00e9/0.png", "cafe\u0301/1.png", "Caf\u00e9/0.png", "../../bar/0.png"):
            archive.writestr(name, png())
    samples = read(tmp_path / "set.zip")
    assert samples.class_counts() == {"Caf\u00e9": 1, "bar": 1, "caf\u00e9": 2}
    told = " ".join(samples.notes)
    assert "read as one: caf\u00e9" in told and "kept apart: Caf\u00e9, caf\u00e9" in told
    assert "1 file with a path that leads out of the archive" in told and "bar/0.png" in told
    folder = write_folder(tmp_path / "set")
    assert any("read as one" in note for note in read(folder).notes)


def write_folder(folder: Path) -> Path:
    for name in ("caf\u00e9/0.png", "cafe\u0301/1.png", "bar/0.png"):
        put(folder / name, png())
    return folder


def test_devices_in_a_tar_and_pointers_of_git_lfs_are_named(tmp_path):
    folder = write_folder(tmp_path / "set")
    put(folder / "bar" / "1.png", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with tarfile.open(tmp_path / "set.tar", "w") as archive:
        archive.add(folder, ".")
        device = tarfile.TarInfo("bar/null.png")
        device.type = tarfile.CHRTYPE
        archive.addfile(device)
    with pytest.raises(DataError, match=r"2 of 5 files cannot be read: .*neither a file.*git lfs pull"):
        read(tmp_path / "set.tar")
