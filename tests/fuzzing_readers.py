"""Broken sets of the kinds that the newer readers take, for ``test_fuzz.py``."""

from __future__ import annotations

import importlib.util
import io
import json
import wave
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fuzzing import Target, bytes_broken, json_of
from PIL import Image

from tbft.data import InputSpec, read

COCO: dict[str, Any] = {
    "images": [{"id": i, "file_name": f"{i}.png", "location": "a"} for i in range(3)],
    "annotations": [{"id": i, "image_id": i, "category_id": i % 2 + 1} for i in range(3)],
    "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
}
RECORDS = [{"file_name": f"{i}.png", "label": "ab"[i % 2], "subject": i} for i in range(3)]


def _png() -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(out, "PNG")
    return out.getvalue()


def _wav() -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(np.arange(200, dtype="<i2").tobytes())
    return out.getvalue()


def _parquet() -> bytes:
    import pyarrow
    import pyarrow.parquet

    pictures = [{"bytes": _png(), "path": "a"}] * 3
    table = pyarrow.table({"image": pictures, "label": [0, 1, 0], "subject": ["a", "b", "a"]})
    names = {"info": {"features": {"label": {"names": ["cat", "dog"]}}}}
    out = io.BytesIO()
    pyarrow.parquet.write_table(table.replace_schema_metadata({"huggingface": json.dumps(names)}), out)
    return out.getvalue()


def _bytes_of(content: bytes) -> Any:
    return lambda draw: bytes_broken(draw, content)


def _use(path: Path) -> None:
    samples = read(path, InputSpec(skip_damaged=path.name.endswith("json")))
    x, y = samples.batch(slice(0, len(samples)))
    assert torch.isfinite(x).all() and len(x) == len(y) and not (y < 0).any()


def _beside_pictures(path: Path) -> None:
    for i in range(3):
        (path.parent / f"{i}.png").write_bytes(_png())
    _use(path)


def _as_recording(path: Path) -> None:
    (path.parent / "a").mkdir(exist_ok=True)
    path.replace(path.parent / "a" / "it.wav")
    _use(path.parent)


READER_TARGETS: dict[str, Target] = {
    "coco": Target(".json", json_of(COCO), _beside_pictures),
    "records": Target(".json", json_of(RECORDS), _beside_pictures),
    "recording": Target(".wav", _bytes_of(_wav()), _as_recording),
}
if importlib.util.find_spec("pyarrow"):
    READER_TARGETS["parquet"] = Target(".parquet", _bytes_of(_parquet()), _use)
