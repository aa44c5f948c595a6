"""The class maps of BREEDS (Santurkar et al. 2020) on ImageNet's classes, registered.

``tools/derive_class_maps.py`` derives their files in ``hierarchies/`` from the published hierarchy.
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache, partial
from importlib.resources import files
from typing import Any

from tbft.data.class_map import ClassMap, ClassMapFamily, register_class_map
from tbft.data.class_map_files import parse_class_map

SOURCE = "Santurkar et al. 2020, BREEDS"

#: How the leaves of a superclass are split into domains. ``none`` has the leaves of ``rand``, all as source.
SPLITS = {
    "rand": "split at random",
    "good": "similar leaves in both domains",
    "bad": "similar leaves in one domain",
    "none": "no target domain",
}


@cache
def _packaged(name: str) -> dict[str, Any]:
    text = (files("tbft.scenarios") / "hierarchies" / f"{name}.json").read_text(encoding="utf-8")
    record: dict[str, Any] = json.loads(text)
    return record


def _load_breeds(name: str, split: str) -> ClassMap:
    record = _packaged(name)
    parsed = parse_class_map(record["splits"][split], f"{name}:{split}")
    leaf_names = {leaf: record["leaf_names"][leaf] for leaf in parsed.leaves}
    summary = f"{_SUMMARIES[name]}; {SPLITS[split]}"
    return replace(parsed, leaf_names=leaf_names, summary=summary, source=SOURCE)


_SUMMARIES = {
    "living17": "17 kinds of animals, 4 leaf classes of ImageNet each",
    "nonliving26": "26 kinds of things, 4 leaf classes of ImageNet each",
    "entity13": "13 kinds of animals and things, 20 leaf classes of ImageNet each",
    "entity30": "30 kinds of animals and things, 8 leaf classes of ImageNet each",
}

for _name, _summary in _SUMMARIES.items():
    register_class_map(ClassMapFamily(_name, tuple(SPLITS), partial(_load_breeds, _name), _summary, SOURCE))
