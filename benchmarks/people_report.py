"""The tables and the picture of the people's records, and the tables of the page on them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Record = dict[str, Any]

ROOT = Path(__file__).parents[1]
TABLES = ROOT / "benchmarks" / "results" / "people" / "README.md"
PAGE, PICTURE = ROOT / "docs" / "people.md", ROOT / "docs" / "img" / "people.png"
#: The page's tables are between these lines.
BEGIN, END = "<!-- made by benchmarks/people.py --report -->", "<!-- end -->"
MODES = ("none", "unlabeled 20 %", "1 a class", "2 a class", "5 a class", "10 a class", "20 a class",
         "labeled 20 %")  # fmt: skip
#: Losses of more points than these are counted.
HARM, GREAT_HARM = 1.0, 3.0
#: The methods that are drawn, in rows, at this mode.
DRAWN, DRAWN_MODE = {"ours": "tbft.personalize", "full as a user": "plain fine-tuning"}, "5 a class"
INTRODUCTION = """# People: what a few labels of one person are worth

Made by `python benchmarks/people.py --report` from the records beside it; do not edit. Each base was trained
on everybody else. The labels come from the first stretch of time of each class; every figure is for the later
half of each class. A person counts once for each base: of several networks, and of several seeds. *Harmed*:
those who lose more than a point against the base. Seconds are processor time for adapting, without the
predictions for the test part. TENT learns from the inputs of the test part itself, and it and AdaBN need
BatchNorm. `full as a user`: Adam, 1e-3, ten epochs. `ours`: `tbft.personalize` by its defaults, in version
{version}; where it refuses, the base is kept.
"""


@dataclass(frozen=True)
class Summary:
    """A method in one mode, over people; accuracies in percent.

    Attributes:
        gain: mean change in accuracy against the base, in points.
        worst_change: the change in accuracy of the person who loses most, in points.
        harmed, badly_harmed: people who lose more than :data:`HARM` and :data:`GREAT_HARM` points.
    """

    people: int
    accuracy: float
    gain: float
    macro_f1: float
    worst_accuracy: float
    worst_change: float
    harmed: int
    badly_harmed: int
    cpu_seconds: float
    patch_bytes: float


def latest(records: Sequence[Record]) -> list[Record]:
    """The records of modes that were run to the end, which is `ours`, in the version written last."""
    versions = [r["version"] for r in records if r["version"]]
    now = [r for r in records if r["version"] in (None, *versions[-1:])]
    ended = {(who(r), r["mode"]) for r in now if r["method"] == "ours"}
    return [r for r in now if r["mode"] in ("none", "unlabeled 20 %") or (who(r), r["mode"]) in ended]


def summarize(records: Sequence[Record], method: str, mode: str) -> Summary | None:
    """A method in one mode, over the people who have it; None if nobody has."""
    base = {who(r): r["accuracy"] for r in records if r["method"] == "none"}
    there = {who(r) for r in records if r["mode"] == mode}
    mode = "none" if method in ("none", "tent") else mode
    rows = [r for r in records if (r["method"], r["mode"]) == (method, mode) and who(r) in there]
    if not rows:
        return None
    changes = [100 * (r["accuracy"] - base[who(r)]) for r in rows]

    def mean(key: str) -> float:
        return float(np.mean([r[key] for r in rows]))

    return Summary(
        people=len(rows),
        accuracy=100 * mean("accuracy"),
        gain=float(np.mean(changes)),
        macro_f1=100 * mean("macro_f1"),
        worst_accuracy=100 * min(r["accuracy"] for r in rows),
        worst_change=min(changes),
        harmed=sum(change < -HARM for change in changes),
        badly_harmed=sum(change < -GREAT_HARM for change in changes),
        cpu_seconds=mean("cpu_seconds"),
        patch_bytes=mean("patch_bytes"),
    )


def who(record: Record) -> tuple[str, str, int]:
    """The base that a record is about."""
    return record["family"], record["person"], record["seed"]


def methods_of(records: Sequence[Record]) -> list[str]:
    """The methods in the order of the records, `ours` last."""
    names = dict.fromkeys(r["method"] for r in records)
    return [name for name in names if name != "ours"] + ["ours"] * ("ours" in names)


def modes_of(records: Sequence[Record]) -> list[str]:
    return [mode for mode in MODES if any(r["mode"] == mode for r in records)]


def accuracy_table(records: Sequence[Record]) -> list[str]:
    """Mean accuracy and harmed people of every method in every mode, in Markdown."""
    modes = modes_of(records)
    lines = [
        "| mean accuracy, % (people harmed) | " + " | ".join(modes) + " |",
        "|---" * (len(modes) + 1) + "|",
    ]
    for method in methods_of(records):
        cells = [summarize(records, method, m) if (method in ("none", "tent")) == (m == "none") else None
                 for m in modes]  # fmt: skip
        texts = [f"{c.accuracy:.1f} ({c.harmed})" if c else "" for c in cells]
        lines.append(f"| {method} | " + " | ".join(texts) + " |")
    return lines


def detail_table(records: Sequence[Record], mode: str, title: str) -> list[str]:
    """All figures of every method in one mode, the largest mean gain first, in Markdown."""
    columns = ("bases", "mean gain", "accuracy", "macro-F1", "worst person", "largest loss", "lose > 1 point",
               "> 3 points", "seconds", "patch bytes")  # fmt: skip
    lines = [f"| {title} | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    rows = {m: summarize(records, m, mode) for m in methods_of(records)}
    found = {method: row for method, row in rows.items() if row is not None}
    for method, row in sorted(found.items(), key=lambda item: -item[1].gain):
        lines.append(
            f"| {method} | {row.people} | {row.gain:+.1f} | {row.accuracy:.1f} | {row.macro_f1:.1f} | "
            f"{row.worst_accuracy:.1f} | {row.worst_change:+.1f} | {row.harmed} | {row.badly_harmed} | "
            f"{row.cpu_seconds:.2f} | {row.patch_bytes:,.0f} |"
        )
    return lines


def overview_table(records: Sequence[Record]) -> list[str]:
    """Mean gain of every method in every mode, with those who lose, in Markdown."""
    modes = [mode for mode in modes_of(records) if mode != "none"]
    lines = ["| mean gain, points | " + " | ".join(modes) + " |", "|---" * (len(modes) + 1) + "|"]
    counts = ["bases"]
    for mode in modes:
        counts.append(str(len({who(r) for r in records if r["mode"] == mode})))
    for method in methods_of(records):
        cells = [summarize(records, method, mode) for mode in modes if method != "none"]
        texts = [f"{c.gain:+.1f} ({c.harmed}, {c.badly_harmed})" if c else "" for c in cells]
        if any(texts):
            name = f"**{method}**" if method == "ours" else method
            lines.append(f"| {name} | " + " | ".join(texts) + " |")
    return [*lines, "| " + " | ".join(counts) + " |"]


def gain_table(families: dict[str, list[Record]], methods: Sequence[str]) -> list[str]:
    """Accuracy of the base and mean gains of some methods by family, at :data:`DRAWN_MODE`, in Markdown."""
    lines = ["| family | bases | accuracy of the base, % | " + " | ".join(methods) + " |"]
    lines.append("|---" * (len(methods) + 3) + "|")
    for name, records in families.items():
        base = summarize(records, "none", "none")
        cells = [summarize(records, method, DRAWN_MODE) for method in methods]
        texts = [f"{c.gain:+.1f} ({c.harmed}, {c.badly_harmed})" if c else "" for c in cells]
        if base is not None:
            lines.append(f"| {name} | {base.people} | {base.accuracy:.1f} | " + " | ".join(texts) + " |")
    return lines


def person_table(records: Sequence[Record]) -> list[str]:
    """Each base's accuracy without and with `ours`, by mode, in Markdown."""
    modes = [mode for mode in modes_of(records) if mode not in ("none", "unlabeled 20 %")]
    lines = ["| accuracy, % | none | " + " | ".join(modes) + " |", "|---" * (len(modes) + 2) + "|"]
    for base in dict.fromkeys(who(r) for r in records):
        own = [r for r in records if who(r) == base]
        none = next(r["accuracy"] for r in own if r["method"] == "none")
        found = {r["mode"]: r["accuracy"] for r in own if r["method"] == "ours"}
        texts = [f"{100 * found[mode]:.1f}" if mode in found else "" for mode in modes]
        lines.append(f"| {base[1]}, seed {base[2]} | {100 * none:.1f} | " + " | ".join(texts) + " |")
    return lines


def write_report(paths: Sequence[Path]) -> None:
    """Print the tables, write them beside the records, and draw the picture."""
    families = {
        path.stem: latest([{**json.loads(line), "family": path.stem} for line in path.open()])
        for path in paths
    }
    together = [record for records in families.values() for record in records]
    version = {r["version"] for r in together if r["method"] == "ours"}
    lines = [INTRODUCTION.format(version=" and ".join(sorted(version)))]
    for mode in modes_of(together)[1:]:
        lines += [*detail_table(together, mode, f"{mode}, all families"), ""]
    for name, records in families.items():
        lines += [f"## {name}, {len({who(r) for r in records})} bases\n", *accuracy_table(records), ""]
        lines += [*detail_table(records, DRAWN_MODE, DRAWN_MODE), "", "`ours`, each person:", ""]
        lines += [*person_table(records), ""]
    TABLES.write_text("\n".join(lines))
    shown = [*overview_table(together), "", *detail_table(together, DRAWN_MODE, DRAWN_MODE), ""]
    shown += gain_table(families, ("ours", "adabn", "new head", "block late", "full as in the paper"))
    print("\n".join(shown))
    before, rest = PAGE.read_text().split(BEGIN)
    PAGE.write_text("\n".join([before + BEGIN, "", *shown, "", END + rest.split(END)[1]]))
    draw(families)


def draw(families: dict[str, list[Record]]) -> None:
    """One line a base, from its accuracy to that after adaptation; a column a set, a row a method."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    sets: dict[str, list[Record]] = {}
    for family, records in families.items():
        sets.setdefault(family.rpartition("-")[0], []).extend(records)
    figure, axes = plt.subplots(
        len(DRAWN), len(sets), figsize=(2.3 * len(sets), 5.6), sharey=True, squeeze=False, dpi=150
    )
    for row, (method, title) in zip(axes, DRAWN.items(), strict=True):
        for axis, (name, records) in zip(row, sets.items(), strict=True):
            _draw_people(axis, records, method)
            axis.set_title(name.replace("-", " ") if method == "ours" else "", fontsize=11)
            axis.set_xticks([0, 1], ["before", "after"], fontsize=10)
        row[0].set_ylabel(f"{title}\naccuracy, %", fontsize=10)
    figure.suptitle(
        "Five labeled windows of each class: one line a person and base model, accuracy on later windows\n"
        f"(blue: more than {HARM:.0f} point gained; orange: lost; black: the mean)",
        fontsize=10,
    )  # fmt: skip
    figure.tight_layout()
    figure.savefig(PICTURE)


def _draw_people(axis: Any, records: Sequence[Record], method: str) -> None:
    before = {who(r): 100 * r["accuracy"] for r in records if r["method"] == "none"}
    rows = [r for r in records if (r["method"], r["mode"]) == (method, DRAWN_MODE)]
    pairs = [(before[who(r)], 100 * r["accuracy"]) for r in rows]
    for start, end in pairs:
        color = "#0072b2" if end - start > HARM else "#d55e00" if start - end > HARM else "#9aa3ab"
        axis.plot([0, 1], [start, end], color=color, linewidth=1.1, marker="o", markersize=2.5, zorder=2)
    if pairs:
        means = np.mean(pairs, axis=0)
        axis.plot([0, 1], means, color="#1c2024", linewidth=2.6, zorder=3)
        axis.annotate(f"{means[1] - means[0]:+.1f}", (1, means[1]), (5, 0), fontsize=10, va="center",
                      textcoords="offset points", annotation_clip=False)  # fmt: skip
    axis.set_xlim(-0.15, 1.4)
    axis.grid(axis="y", color="#d9dee3", linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)
