"""The tables and the picture of the people's records."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Record = dict[str, Any]

ROOT = Path(__file__).parents[1]
TABLES, PICTURE = (
    ROOT / "benchmarks" / "results" / "people" / "README.md",
    ROOT / "docs" / "img" / "people.png",
)
MODES = ("none", "unlabeled 20 %", "1 a class", "2 a class", "5 a class", "10 a class", "20 a class",
         "labeled 20 %")  # fmt: skip
#: A loss of more than this many points counts as harm.
HARM = 1.0
#: The methods that are drawn, in rows, at this mode.
DRAWN, DRAWN_MODE = {"ours": "tbft.personalize", "full as a user": "plain fine-tuning"}, "5 a class"
INTRODUCTION = """# People: what a few labels of one person are worth

Made by `python benchmarks/people.py --report` from the records beside it; do not edit. Each base was trained
on everybody else. The labels come from the first stretch of time of each class; every figure is for the later
half of each class. *Harmed*: people who lose more than a point against the base. Seconds are processor time
for adapting, without the predictions for the test part. TENT learns from the inputs of the test part itself.
`full as a user`: Adam, 1e-3, ten epochs. `ours`: `tbft.personalize` by its defaults, in version {version};
where it refuses, the base is kept. `ours` with another version was run before. An empty cell was not run for
everybody. Some people of `watch` have a base of each of three networks.
"""


@dataclass(frozen=True)
class Summary:
    """A method in one mode, over people; accuracies in percent.

    Attributes:
        worst_change: the change in accuracy of the person who loses most, in points.
        harmed: people who lose more than :data:`HARM` points.
    """

    people: int
    accuracy: float
    macro_f1: float
    worst_accuracy: float
    worst_change: float
    harmed: int
    cpu_seconds: float
    patch_bytes: float


def named(records: Sequence[Record]) -> list[Record]:
    """The records; `ours` in another version than the one written last is a method of its own."""
    versions = [r["version"] for r in records if r["version"]]
    return [
        {**r, "method": f"ours, {r['version']}"} if r["version"] not in (None, *versions[-1:]) else r
        for r in records
    ]


def summarize(records: Sequence[Record], method: str, mode: str) -> Summary | None:
    """A method in one mode; None unless there is a record for every person."""
    base = {r["person"]: r["accuracy"] for r in records if r["method"] == "none"}
    rows = [r for r in records if (r["method"], r["mode"]) == (method, mode)]
    if len(rows) < len(base):
        return None
    changes = [100 * (r["accuracy"] - base[r["person"]]) for r in rows]

    def mean(key: str) -> float:
        return float(np.mean([r[key] for r in rows]))

    return Summary(
        people=len(rows),
        accuracy=100 * mean("accuracy"),
        macro_f1=100 * mean("macro_f1"),
        worst_accuracy=100 * min(r["accuracy"] for r in rows),
        worst_change=min(changes),
        harmed=sum(change < -HARM for change in changes),
        cpu_seconds=mean("cpu_seconds"),
        patch_bytes=mean("patch_bytes"),
    )


def methods_of(records: Sequence[Record]) -> list[str]:
    """The methods in the order of the records, `ours` last."""
    names = dict.fromkeys(r["method"] for r in records)
    return [name for name in names if not name.startswith("ours")] + sorted(
        (name for name in names if name.startswith("ours")), reverse=True
    )


def accuracy_table(records: Sequence[Record]) -> list[str]:
    """Mean accuracy and harmed people of every method in every mode, in Markdown."""
    modes = [mode for mode in MODES if any(r["mode"] == mode for r in records)]
    lines = [
        "| mean accuracy, % (people harmed) | " + " | ".join(modes) + " |",
        "|---" * (len(modes) + 1) + "|",
    ]
    for method in methods_of(records):
        cells = [summarize(records, method, mode) for mode in modes]
        texts = [f"{c.accuracy:.1f} ({c.harmed})" if c else "" for c in cells]
        lines.append(f"| {method} | " + " | ".join(texts) + " |")
    return lines


def detail_table(records: Sequence[Record], mode: str) -> list[str]:
    """Everything about every method in one mode, in Markdown."""
    lines = [
        "| "
        + mode
        + " | accuracy | macro-F1 | worst person | largest loss | harmed | seconds | patch bytes |"
    ]
    lines.append("|---" * 8 + "|")
    for method in methods_of(records):
        found = summarize(records, method, "none" if method in ("none", "tent") else mode)
        if found is not None:
            lines.append(
                f"| {method} | {found.accuracy:.1f} | {found.macro_f1:.1f} | {found.worst_accuracy:.1f} | "
                f"{found.worst_change:+.1f} | {found.harmed} of {found.people} | {found.cpu_seconds:.2f} | "
                f"{found.patch_bytes:,.0f} |"
            )
    return lines


def overall_table(families: dict[str, list[Record]], mode: str) -> list[str]:
    """Every method over the people of all families on which it was run, in Markdown; changes in points."""
    changes: dict[str, list[float]] = {}
    for records in families.values():
        base = {r["person"]: r["accuracy"] for r in records if r["method"] == "none"}
        for r in records:
            if r["mode"] == mode or r["method"] in ("none", "tent"):
                changes.setdefault(r["method"], []).append(100 * (r["accuracy"] - base[r["person"]]))
    lines = [f"| {mode}, all families | people | mean change | harmed | more than 3 points | largest loss |"]
    lines.append("|---" * 6 + "|")
    for method, found in sorted(changes.items(), key=lambda item: -np.mean(item[1])):
        harmed, badly = (sum(change < -limit for change in found) for limit in (HARM, 3))
        lines.append(
            f"| {method} | {len(found)} | {np.mean(found):+.1f} | {harmed} | {badly} | {min(found):+.1f} |"
        )
    return lines


def write_report(paths: Sequence[Path]) -> None:
    """Print the tables, write them beside the records, and draw the picture."""
    families = {path.stem: named([json.loads(line) for line in path.open()]) for path in paths}
    version = {r["version"] for records in families.values() for r in records if r["method"] == "ours"}
    lines = [INTRODUCTION.format(version=" and ".join(sorted(version)))]
    lines += [*overall_table(families, DRAWN_MODE), ""]
    for name, records in families.items():
        people = len({r["person"] for r in records})
        lines += [
            f"## {name}, {people} people\n",
            *accuracy_table(records),
            "",
            *detail_table(records, DRAWN_MODE),
            "",
        ]
    TABLES.write_text("\n".join(lines))
    print("\n".join(lines))
    draw(families)


def draw(families: dict[str, list[Record]]) -> None:
    """One line a person, from the base's accuracy to that after adaptation; a row a method."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        len(DRAWN), len(families), figsize=(1.75 * len(families), 5.4), sharey=True, squeeze=False, dpi=150
    )
    for row, (method, title) in zip(axes, DRAWN.items(), strict=True):
        for axis, (family, records) in zip(row, families.items(), strict=True):
            _draw_people(axis, records, method)
            axis.set_title(family if method == "ours" else "", fontsize=9)
            axis.set_xticks([0, 1], ["before", "after"], fontsize=8)
        row[0].set_ylabel(f"{title}\naccuracy, %", fontsize=9)
    figure.suptitle(
        "Five labeled windows a class: one line a person, accuracy on later windows "
        f"(blue: more than {HARM:.0f} point gained, red: lost; black: the mean)",
        fontsize=9,
    )  # fmt: skip
    figure.tight_layout()
    figure.savefig(PICTURE)


def _draw_people(axis: Any, records: Sequence[Record], method: str) -> None:
    before = {r["person"]: 100 * r["accuracy"] for r in records if r["method"] == "none"}
    rows = [r for r in records if (r["method"], r["mode"]) == (method, DRAWN_MODE)]
    pairs = [(before[r["person"]], 100 * r["accuracy"]) for r in rows]
    for start, end in pairs:
        color = "#0072b2" if end - start > HARM else "#d55e00" if start - end > HARM else "#9aa3ab"
        axis.plot([0, 1], [start, end], color=color, linewidth=1.1, marker="o", markersize=2.5, zorder=2)
    if pairs:
        means = np.mean(pairs, axis=0)
        axis.plot([0, 1], means, color="#1c2024", linewidth=2.4, zorder=3)
        axis.annotate(f"{means[1] - means[0]:+.1f}", (1, means[1]), (4, 0), fontsize=8, va="center",
                      textcoords="offset points", annotation_clip=False)  # fmt: skip
    axis.set_xlim(-0.15, 1.35)
    axis.grid(axis="y", color="#d9dee3", linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)
