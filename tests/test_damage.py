"""Damage inside a file is found where a decoder passes over it, and sound files pass."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, features

from tbft.data import InputSpec, read
from tbft.data.damage import file_damage
from tbft.data.jpeg import ends_gray
from tbft.errors import DataError


def photo(seed=0, side=96):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    waves = 128 + 90 * np.sin(x / 9 + seed) * np.cos(y / 13)
    pixels = waves[..., None] + rng.normal(0, 12, (side, side, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def saved(picture, kind, **options):
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


KINDS = [
    ("JPEG", {}),
    ("JPEG", {"optimize": True, "quality": 95, "subsampling": 0}),
    ("JPEG", {"restart_marker_blocks": 4}),
    ("PNG", {}),
    ("WEBP", {}),
    ("WEBP", {"lossless": True}),
]


@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_zeros_in_the_middle_and_at_the_end_are_found(kind, options):
    for seed in range(3):
        blob = saved(photo(seed), kind, **options)
        assert file_damage(blob) == ""
        half = len(blob) // 2
        assert "damaged" in file_damage(blob[:half] + bytes(200) + blob[half + 200 :])
        assert file_damage(blob[:half] + bytes(len(blob) - half))


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 4}])
def test_other_content_in_a_jpeg_is_mostly_found(options):
    rng = np.random.default_rng(0)
    blob = saved(photo(), "JPEG", **options)
    half = len(blob) // 2
    found = 0
    for _ in range(20):
        broken = blob[:half] + rng.bytes(512) + blob[half + 512 :]
        image = Image.open(io.BytesIO(broken))
        try:
            image.load()
            found += bool(file_damage(broken)) or ends_gray(image)
        except OSError:
            found += 1
    assert found >= 14


def test_flat_and_gray_pictures_are_sound():
    white = Image.new("RGB", (2000, 1500), "white")
    for picture in (white, Image.new("L", (64, 64), 128), Image.new("RGB", (200, 200), (128, 128, 128))):
        for options in ({}, {"optimize": True}, {"progressive": True}):
            blob = saved(picture, "JPEG", **options)
            assert file_damage(blob) == ""
            assert not ends_gray(Image.open(io.BytesIO(blob)))
    on_gray = Image.new("RGB", (160, 160), (128, 128, 128))
    on_gray.paste(photo(side=64), (48, 48))
    assert not ends_gray(Image.open(io.BytesIO(saved(on_gray, "JPEG"))))
    boxed = Image.new("RGB", (96, 160), (128, 128, 128))
    boxed.paste(photo(), (0, 0))
    assert not ends_gray(Image.open(io.BytesIO(saved(boxed, "JPEG", quality=100))))


def test_padding_and_content_behind_a_picture_are_not_damage():
    blob = saved(photo(), "JPEG")
    assert file_damage(blob + bytes(1000)) == ""
    assert file_damage(blob + b"a film, or a second picture" * 9) == ""
    assert file_damage(saved(photo(), "PNG") + bytes(1000)) == ""


def test_a_photo_that_turns_gray_is_refused_by_name(tmp_path):
    for i in range(3):
        (tmp_path / "s" / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        (tmp_path / "s" / "ab"[i % 2] / f"{i}.jpg").write_bytes(saved(photo(i), "JPEG"))
    blob = saved(photo(5), "JPEG", quality=90)
    cut = blob[: len(blob) // 2] + b"\xff\xd9"  # a decoder takes this for a whole file
    assert ends_gray(loaded(cut))
    (tmp_path / "s" / "a" / "half.jpg").write_bytes(cut)
    with pytest.raises(DataError, match=r"1 of 4 files cannot be read: a/half.jpg \(.*plain gray\)"):
        read(tmp_path / "s")
    assert len(read(tmp_path / "s", InputSpec(skip_damaged=True))) == 3


def loaded(blob):
    image = Image.open(io.BytesIO(blob))
    image.load()
    return image


@pytest.mark.parametrize("lost", [1, 40, 512])
def test_bytes_that_are_missing_in_the_middle_of_a_png_are_noticed(tmp_path, lost):
    blob = saved(photo(), "PNG")
    half = len(blob) // 2
    (tmp_path / "a").mkdir()
    for i, content in enumerate((blob, blob[:half] + blob[half + lost :])):
        (tmp_path / "a" / f"{i}.png").write_bytes(content)
    with pytest.raises(DataError, match=r"1 of 2 files cannot be read: a/1.png"):
        read(tmp_path)


@pytest.mark.parametrize("options", [{"compression": "tiff_deflate"}, {"compression": "tiff_lzw"}])
def test_other_content_in_a_packed_tiff_is_found(tmp_path, options):
    rng = np.random.default_rng(0)
    (tmp_path / "a").mkdir()
    for seed in range(5):
        blob = saved(photo(seed), "TIFF", **options)
        assert file_damage(blob) == ""
        half = len(blob) // 2
        (tmp_path / "a" / f"{seed}.tif").write_bytes(blob[:half] + rng.bytes(200) + blob[half + 200 :])
    with pytest.raises(DataError, match="5 of 5 files cannot be read"):
        read(tmp_path)


@pytest.mark.skipif(not features.check("avif"), reason="Pillow has no AVIF here")
def test_zeros_in_an_avif_are_found():
    blob = saved(photo(), "AVIF")
    assert file_damage(blob) == ""
    half = len(blob) // 2
    assert "damaged at byte" in file_damage(blob[:half] + bytes(200) + blob[half + 200 :])


def test_a_tiff_whose_strips_lie_behind_its_end_is_damaged():
    blob = saved(photo(), "TIFF")
    at = blob.index((273).to_bytes(2, "little") + (4).to_bytes(2, "little")) + 8
    assert "beyond the end" in file_damage(blob[:at] + (10**6).to_bytes(4, "little") + blob[at + 4 :])
