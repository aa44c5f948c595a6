"""Pictures as a viewer shows them, from every kind of file; damaged ones are named."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from conftest import put
from PIL import Image, ImageCms, ImageOps, TiffImagePlugin, features
from torch.utils.data import Dataset

from tbft.data import InputSpec, read
from tbft.data.forms import as_samples
from tbft.data.viewing import as_viewed
from tbft.errors import DataError

ORIENTATION = 0x0112


def photo(seed: int = 0, size: tuple[int, int] = (24, 16)) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BILINEAR)


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif


def written(image: Image.Image, kind: str, **options) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


class OnePicture(Dataset):
    def __init__(self, content: bytes) -> None:
        self.content = content

    def __len__(self) -> int:
        return 2

    def __getitem__(self, i: int):
        return Image.open(io.BytesIO(self.content)), i


def through(form: str, content: bytes, folder: Path, spec: InputSpec):
    """The samples of one picture, handed over in one of the forms that people have."""
    put(folder / "s" / "a" / "x.png", content)
    if form == "tar":
        with tarfile.open(folder / "s.tar", "w:gz") as tar:
            tar.add(folder / "s", "s")
        return read(folder / "s.tar", spec)
    if form == "zip":
        with zipfile.ZipFile(folder / "s.zip", "w") as archive:
            archive.write(folder / "s" / "a" / "x.png", "a/x.png")
        return read(folder / "s.zip", spec)
    return read(folder / "s", spec) if form == "folder" else as_samples(OnePicture(content), spec, "pictures")


FORMS = ["folder", "tar", "zip", "dataset"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("orientation", range(2, 9))
def test_pictures_are_turned_upright_in_every_form(tmp_path, form, orientation):
    content = written(photo(), "PNG", exif=turned(orientation))
    samples = through(form, content, tmp_path, InputSpec())
    shown = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    np.testing.assert_array_equal(samples.inputs[0], np.asarray(shown))
    assert any("turned upright" in note for note in samples.notes)


def test_a_tiff_is_turned_once(tmp_path):
    info = TiffImagePlugin.ImageFileDirectory_v2()
    info[ORIENTATION] = 6
    content = written(photo(), "TIFF", tiffinfo=info)
    for form in FORMS:
        samples = through(form, content, tmp_path / form, InputSpec())
        np.testing.assert_array_equal(
            samples.inputs[0], np.asarray(photo().transpose(Image.Transpose.ROTATE_270))
        )
        assert any("turned upright" in note for note in samples.notes)


@pytest.mark.parametrize("form", FORMS)
def test_transparency_is_composed_on_white_in_every_form(tmp_path, form):
    layers = np.zeros((16, 16, 4), np.uint8)
    layers[..., :3] = np.random.default_rng(0).integers(0, 256, (16, 16, 3))
    layers[4:12, 4:12] = 200, 30, 30, 255
    layers[0, 0] = 0, 0, 0, 51
    samples = through(form, written(Image.fromarray(layers), "PNG"), tmp_path, InputSpec(channels=3))
    assert samples.inputs[0, 5, 5].tolist() == [200, 30, 30]
    assert (samples.inputs[0, 1] == 255).all()
    assert samples.inputs[0, 0, 0].tolist() == [204] * 3
    assert any("composed on white" in note for note in samples.notes)


def test_alpha_that_is_opaque_says_nothing():
    for mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        plain = photo().convert("L" if "L" in mode else "RGB")
        if mode == "PA":
            layered = plain.quantize(64).convert("PA")
            plain = plain.quantize(64).convert("RGB")
        else:
            layered = plain.convert("LA" if "L" in mode else "RGBA").convert(mode)
        shown, notes = as_viewed(layered)
        assert notes == ()
        assert shown.tobytes() == plain.tobytes()


def test_a_color_that_stands_for_transparency_is_white(tmp_path):
    palette = Image.new("P", (8, 8), 0)
    palette.putpalette([0, 0, 0, 200, 30, 30])
    palette.paste(1, (2, 2, 6, 6))
    gray = Image.new("L", (8, 8), 9)
    deep = Image.fromarray(np.full((8, 8), 700, np.uint16))
    color = Image.new("RGB", (8, 8), (1, 2, 3))
    for image, key in ((palette, 0), (gray, 9), (color, (1, 2, 3)), (deep, 700)):
        shown, notes = as_viewed(Image.open(io.BytesIO(written(image, "PNG", transparency=key))))
        assert shown.getpixel((0, 0)) in (255, (255, 255, 255))
        assert "have transparency, which was composed on white" in notes


@pytest.mark.parametrize("mode", ["P", "CMYK", "YCbCr", "HSV", "LAB", "RGBX", "1"])
def test_every_encoding_of_color_shows_the_same_picture(mode):
    picture = photo()
    stored = picture.quantize(256) if mode == "P" else None
    if mode == "LAB":
        profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        stored = ImageCms.profileToProfile(picture, *profiles, outputMode="LAB")
    elif mode == "1":
        picture = picture.convert("1").convert("L")
    shown, _ = as_viewed(picture.convert(mode) if stored is None else stored)
    assert shown.mode == picture.mode
    assert np.abs(np.asarray(shown).astype(int) - np.asarray(picture)).mean() < 4


@pytest.mark.parametrize(
    ("values", "mode", "expected", "said"),
    [
        (np.array([[0, 65535], [256, 4096]], np.uint16), "I;16", [[0, 255], [1, 16]], "scaled from 0..65535"),
        (np.array([[0, 65535], [256, 4096]], np.int32), "I", [[0, 255], [1, 16]], "scaled from 0..65535"),
        (np.array([[0, 255], [1, 16]], np.int32), "I", [[0, 255], [1, 16]], "taken as 0..255"),
        (np.array([[0, 1], [0.5, 0.25]], np.float32), "F", [[0, 255], [128, 64]], "in 0..1"),
        (np.array([[0, 255], [1.4, 16]], np.float32), "F", [[0, 255], [1, 16]], "taken as 0..255"),
    ],
)
def test_deep_pictures_are_scaled_and_said(values, mode, expected, said):
    image = Image.fromarray(values)
    assert image.mode == mode
    shown, notes = as_viewed(image)
    np.testing.assert_allclose(np.asarray(shown), expected, atol=1)
    assert any(said in note for note in notes)


@pytest.mark.parametrize("values", [-1, 65536, np.nan, 256.0, -0.1])
def test_values_of_unknown_range_are_refused(values):
    dtype = np.int32 if isinstance(values, int) else np.float32
    with pytest.raises(DataError, match="save it with 8 or 16 bits"):
        as_viewed(Image.fromarray(np.full((2, 2), values, dtype)))


def test_two_ranges_in_one_set_are_refused_and_twelve_bits_are_said(tmp_path):
    for i, top in enumerate((0.9, 200)):
        floats = np.full((4, 4), top, np.float32)
        put(tmp_path / "mixed" / "a" / f"{i}.tif", written(Image.fromarray(floats), "TIFF"))
    with pytest.raises(DataError, match="unknown range"):
        read(tmp_path / "mixed")
    deep = Image.fromarray(np.full((4, 4), 4095, np.uint16))
    put(tmp_path / "dark" / "a" / "0.png", written(deep, "PNG"))
    assert any("no value above 4,095" in note for note in read(tmp_path / "dark").notes)


KINDS = ["PNG", "JPEG", "GIF", "BMP", "TIFF", "PPM", "TGA", "ICO", "SGI", "PCX", "JPEG2000"]
KINDS += [kind for kind in ("WEBP", "AVIF") if features.check(kind.lower())]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_file_is_read_by_its_content(tmp_path, kind):
    plain = photo(size=(64, 64))
    content = written(plain, kind)
    # TGA has no mark of its own; all others are known whatever they are called.
    put(tmp_path / "s" / "a" / ("x.tga" if kind == "TGA" else "x.jpg"), content)
    samples = read(tmp_path / "s", InputSpec(resolution=64, channels=3))
    assert np.abs(samples.inputs[0].astype(int) - np.asarray(plain)).mean() < 12


def test_pictures_without_a_suffix_are_found_and_other_files_counted(tmp_path):
    put(tmp_path / "s" / "a" / "download", written(photo(), "JPEG"))
    put(tmp_path / "s" / "a" / "y.jfif", written(photo(), "JPEG"))
    for i in range(3):
        put(tmp_path / "s" / "a" / f"{i}.txt", b"a cat")
    samples = read(tmp_path / "s")
    assert samples.attributes["file"].tolist() == ["a/download", "a/y.jfif"]
    assert any("3 .txt (a/0.txt)" in note for note in samples.notes)


def test_of_several_frames_the_first_is_taken(tmp_path):
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    content = written(frames[0], "PNG", save_all=True, append_images=frames[1:])
    samples = through("folder", content, tmp_path, InputSpec())
    assert samples.inputs[0, 0, 0].tolist() == [255, 0, 0]
    assert any("several frames" in note for note in samples.notes)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_pictures_are_brought_to_the_channels_of_the_model(tmp_path, channels):
    layers = photo().convert("RGBA")
    layers.putalpha(Image.new("L", layers.size, 77))
    put(tmp_path / "s" / "a" / "0.png", written(layers, "PNG"))
    put(tmp_path / "s" / "a" / "1.png", written(photo().convert("L"), "PNG"))
    samples = read(tmp_path / "s", InputSpec(resolution=16, channels=channels))
    assert samples.inputs.shape == (2, 16, 16, channels)
    if channels == 4:
        assert set(samples.inputs[0, ..., 3].ravel()) == {77}
        assert set(samples.inputs[1, ..., 3].ravel()) == {255}


def cut(content: bytes, share: float) -> bytes:
    return content[: int(len(content) * share)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.9])
def test_a_truncated_file_is_named_or_read_as_it_was(tmp_path, kind, share):
    whole = written(photo(size=(64, 64)), kind)
    suffix = kind.lower().replace("jpeg2000", "jp2")
    put(tmp_path / "s" / "a" / f"good.{suffix}", whole)
    put(tmp_path / "s" / "b" / f"bad.{suffix}", cut(whole, share))
    with pytest.raises(DataError, match=rf"1 of 2 files cannot be read: b/bad.{suffix} \(") as raised:
        read(tmp_path / "s")
    assert " at 0x" not in str(raised.value)
    samples = read(tmp_path / "s", InputSpec(skip_damaged=True))
    assert samples.labels.tolist() == [0]
    assert samples.class_names == ("a", "b")
    assert any(f"left out: b/bad.{suffix}" in note for note in samples.notes)


def test_a_photo_whose_copy_was_interrupted_is_named(tmp_path):
    whole = written(photo(size=(64, 64)), "JPEG")
    half = cut(whole, 0.5) + bytes(len(whole) - len(whole) // 2)
    put(tmp_path / "s" / "a" / "x.jpg", half)
    put(tmp_path / "s" / "a" / "y.jpg", whole + bytes(100))  # zeros behind a whole one are none of it
    with pytest.raises(DataError, match=r"1 of 2 files cannot be read: a/x.jpg"):
        read(tmp_path / "s")


def test_a_set_of_damaged_pictures_alone_is_refused_anyway(tmp_path):
    put(tmp_path / "s" / "a" / "x.jpg", b"<html>404</html>")
    with pytest.raises(DataError, match=r"none of its pictures can be read: a/x.jpg"):
        read(tmp_path / "s", InputSpec(skip_damaged=True))


def test_kinds_that_pillow_does_not_read_are_named_with_a_remedy(tmp_path):
    put(tmp_path / "s" / "a" / "x.heic", b"\0\0\0\x18ftypheic" + bytes(100))
    with pytest.raises(DataError, match=r"does not decode .heic here; convert it"):
        read(tmp_path / "s")


def test_damaged_exif_data_do_not_keep_a_picture_from_being_read(tmp_path):
    put(
        tmp_path / "s" / "a" / "x.jpg",
        written(photo(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff" + bytes(9)),
    )
    assert len(read(tmp_path / "s")) == 1
