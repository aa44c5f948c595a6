"""What kind of file a checkpoint is, by its content: people rename files, and downloads go wrong."""

from __future__ import annotations

import re
import tarfile
import zipfile
from pathlib import Path

from tbft.errors import CheckpointError

_FRESH = "get a fresh copy"
_UNPACK = "unpack it and give the checkpoint inside"
_EXPORT = "export the weights as .safetensors with the library that wrote it"
_EXPORTED = "it holds a program for inference; give the checkpoint that it was exported from"

#: (position, bytes there, what such a file is, what to do).
_SIGNATURES = (
    (
        0,
        b"version https://git-lfs.github.com",
        "a Git LFS pointer, not the file itself",
        "run `git lfs pull`",
    ),
    (0, b"/annex/objects/", "a git-annex pointer, not the file itself", "run `git annex get`"),
    (0, b"\x1f\x8b", "a gzip archive", _UNPACK),
    (0, b"BZh", "a bzip2 archive", _UNPACK),
    (0, b"\xfd7zXZ\x00", "an xz archive", _UNPACK),
    (0, b"\x28\xb5\x2f\xfd", "a zstd archive", _UNPACK),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (0, b"Rar!", "a RAR archive", _UNPACK),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file (Keras)", _EXPORT),
    (0, b"\x93NUMPY", "a NumPy array (.npy)", "save a state dict with torch.save"),
    (4, b"TFL3", "a TensorFlow Lite model", _EXPORTED),
    (4, b"ET12", "an ExecuTorch program", _EXPORTED),
    (0, b"GGUF", "a GGUF file (llama.cpp)", _EXPORTED),
    (0, b"%PDF", "a PDF document", _FRESH),
    (0, b"\x89PNG", "a PNG picture", "give the checkpoint"),
    (0, b"\xff\xd8\xff", "a JPEG picture", "give the checkpoint"),
)
_WEB_PAGE = re.compile(rb"<(!doctype html|html|head|script|\?xml|!--)", re.IGNORECASE)
_ONNX = re.compile(rb"\x08[\x01-\x20][\x12\x1a\x22\x3a]")  # a version, then a producer or a graph
_LEGACY = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"  # torch.save before 1.6
_BY_SUFFIX = {
    ".onnx": ("an ONNX model", _EXPORTED),
    ".h5": ("a Keras file", _EXPORT),
    ".keras": ("a Keras file", _EXPORT),
    ".msgpack": ("a Flax file", _EXPORT),
    ".pb": ("a TensorFlow graph", _EXPORTED),
    ".index": ("a part of a TensorFlow checkpoint", _EXPORT),
    ".mlmodel": ("a Core ML model", _EXPORTED),
}


def checkpoint_format(path: Path) -> str:
    """``safetensors`` or ``torch``, by the content and not by the name.

    Raises:
        CheckpointError: no file, or a file of another kind, which the message names.
    """
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder: {_in_folder(path)}")
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint file")
    with path.open("rb") as file:
        head = file.read(1024)
    if _is_safetensors(head):
        return "safetensors"
    kind: tuple[str, str] | None
    if head.startswith(b"PK\x03\x04"):
        kind = _zip_kind(path)
    elif head.startswith(_LEGACY) or _is_legacy_tar(path, head):
        return "torch"
    else:
        kind = _kind(path, head)
    if kind is None:
        return "torch"
    raise CheckpointError(f"{path} is {kind[0]}: {kind[1]}")


def _is_safetensors(head: bytes) -> bool:
    """A length and a JSON header; a file that is cut off counts, too."""
    return len(head) > 9 and head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") < 100_000_000


def _kind(path: Path, head: bytes) -> tuple[str, str]:
    """What a file of neither format is, and what to do."""
    if not head:
        return "empty", _FRESH
    for position, signature, what, remedy in _SIGNATURES:
        if head[position : position + len(signature)] == signature:
            return what, remedy
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if _WEB_PAGE.match(text):
        return "a web page, not the file that it links to", "download the file itself"
    if text.startswith((b"{", b"[")):
        if b"weight_map" in head:
            return "the index of a checkpoint in parts", "save the weights in one file"
        return "a JSON text", "give the checkpoint, or download it again"
    if head[257:262] == b"ustar":
        return "a tar archive", _UNPACK
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return (
            "a Python pickle that torch.save did not write, and refused, because it could run code",
            "where you trust it, load it and write its state dict with torch.save",
        )
    if _ONNX.match(head):
        return _BY_SUFFIX[".onnx"]
    if path.suffix.lower() in _BY_SUFFIX:
        return _BY_SUFFIX[path.suffix.lower()]
    if all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in head):
        return "a text", "give the checkpoint, or download it again"
    return "damaged, or not a checkpoint of safetensors or torch", _FRESH


def _zip_kind(path: Path) -> tuple[str, str] | None:
    """None for what torch.save wrote."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile:
        return "cut off or damaged", _FRESH
    files = {name.partition("/")[2] or name for name in names}
    if any(name.startswith("code/") for name in files) or "bytecode.pkl" in files:
        code = f"import torch; torch.save(torch.jit.load({str(path)!r}).state_dict(), 'weights.pt')"
        return "a TorchScript archive", f'write its weights where you trust it: python -c "{code}"'
    if (
        "archive_format" in files
        or "models/model.json" in files
        or "serialized_exported_program.json" in names
    ):
        return "a program of torch.export", _EXPORTED
    if "data.pkl" in files:
        return None
    if any(name.endswith(".npy") for name in names):
        return "a NumPy archive (.npz)", "write its arrays as tensors with torch.save"
    if "model.weights.h5" in names:
        return "a Keras file", _EXPORT
    return f"a zip archive of {names[0] if names else 'nothing'}", _UNPACK


def _is_legacy_tar(path: Path, head: bytes) -> bool:
    """What torch.save wrote before 0.2."""
    if head[257:262] != b"ustar":
        return False
    try:
        with tarfile.open(path) as archive:
            return {"pickle", "storages", "tensors"} <= set(archive.getnames())
    except (tarfile.TarError, OSError):
        return False


def _in_folder(path: Path) -> str:
    if (path / ".metadata").exists():
        return "a checkpoint in parts of torch.distributed; save the weights in one file"
    if (path / "data.pkl").exists():
        return "an archive of torch.save that was unpacked; give the archive"
    suffixes = (".safetensors", ".pt", ".pth", ".ckpt", ".bin")
    found = sorted(p.name for p in path.iterdir() if p.suffix in suffixes)
    return f"give a file in it: {', '.join(found[:3])}" if found else "give the checkpoint file"
