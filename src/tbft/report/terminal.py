"""Adaptations, diagnoses and choices as text for the terminal, made from their plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tbft.report.details import energy_words, measured_count
from tbft.report.words import confidence_words
from tbft.text import visible

Values = Mapping[str, Any]

STOPS = {
    "budget": "stopped when the budget was spent",
    "interrupt": "interrupted",
}


def table(rows: Sequence[tuple[str, ...]], right: str = "") -> str:
    """Rows in columns; `right` lists the digits of right-aligned columns.

    >>> print(table([("name", "n"), ("front", "7")], right="1"))
    name   n
    front  7
    """
    rows = [tuple(visible(cell, lines=False) for cell in row) for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = (
        "  ".join(
            cell.rjust(w) if str(i) in right else cell.ljust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
    return "\n".join(lines)


def summary(r: Values, patch_path: str | None = None, page: str | None = None) -> str:
    """An adaptation in a few lines.

    Args:
        r: the values of ``Personalization.to_json()``.
    """
    rows = [
        ("data", r["data"]),
        ("samples", f"{r['train_samples']:,} train, {r['val_samples']:,} val, {r['test_samples']:,} test"),
        ("arm", f"{r['arm']}, {_why(r)}: {r['tuned_parameters']:,} parameters tuned"),
        ("recipe", f"{r['recipe']}, seed {r['seed']}{_epochs(r)}"),
        (r["measure"], accuracy(r)),
    ]
    if r["acceptance"] is not None:
        rows.append(("gain", r["acceptance"]["text"]))
    if forecast := (r["choice"] or {}).get("forecast"):
        rows.append(("labels", forecast["line"]))
    peak = r["peak_rss_bytes"]
    rows += [
        ("time", f"{r['wall_seconds']:.1f} s, processor time {r['cpu_seconds']:.1f} s"),
        ("memory", f"{'unknown' if peak is None else f'{peak / 2**20:,.0f} MiB'} at the peak"),
        ("energy", energy_words(r).removeprefix("Energy: ").removesuffix(".")),
        ("patch", _patch(r, patch_path)),
    ]
    if page:
        rows.append(("page", page))
    return table([*rows, *(("note", note) for note in r["notes"])])


def accuracy(r: Values) -> str:
    """Accuracy or score before and after, and the part on which it was measured."""
    if r["measured_on"] is None:
        return "not measured: nothing was held out (--val, --test)"
    gain = r["score_after"] - r["score_before"]
    score = f"{r['score_before']:.4g} -> {r['score_after']:.4g} ({gain:+.3g})"
    if r["accuracy_before"] is None:
        return f"{score} on {_measured_on(r)}"
    points = 100 * (r["accuracy_after"] - r["accuracy_before"])
    change = f"{100 * r['accuracy_before']:.1f} % -> {100 * r['accuracy_after']:.1f} % ({points:+.1f} points)"
    if max(abs(r[f"score_{when}"] - r[f"accuracy_{when}"]) for when in ("before", "after")) > 1e-6:
        change += f", score {score},"
    return f"{change} on {_measured_on(r)}"


def _measured_on(r: Values) -> str:
    """The samples on which accuracy or score was measured, and what else they were used for."""
    count, judged = measured_count(r), r["acceptance"] is not None
    if r["measured_on"] == "test":
        return f"the {count:,} test samples"
    if r["measured_on"] == "folds":
        how = "training samples, by models not tuned on them" if judged else "training samples"
    else:
        chose = r["best_epoch"] and r["val_use"] == "epoch"
        used = " that also decided" if judged else " that also chose the epoch" if chose else ""
        how = f"held-out samples{used}"
    return f"the {count:,} {how} (--test holds out others)"


def _held_back(r: Values) -> bool:
    """Whether nothing was done because what is expected to help is beyond the budget."""
    choice = r["choice"]
    if choice is None or choice["option"] != "none":
        return False
    expected = choice["expected_accuracies"]
    return any(expected.get(name, 0.0) > expected["none"] for name in choice["excluded"])


def _why(r: Values) -> str:
    if _held_back(r):
        return "as what is expected to help is beyond the budget"
    if r["choice"] is not None:
        name = diagnosis_name(r["choice"]["diagnosis"])
        return "chosen by trials" if name == "not diagnosed" else f"chosen for: {name}"
    return "named" if r["level"] is None else f"for the {r['level']} level"


def _epochs(r: Values) -> str:
    kept = ""
    if r["best_epoch"]:
        done = len(r["history"])
        of = f"{r['best_epoch']} of {done}" if done == r["epochs"] or not r["stopped"] else (
            f"{r['best_epoch']} of {r['epochs']} planned"
        )  # fmt: skip
        kept = f", epoch {of} kept"
    return kept + (f", {STOPS[r['stopped']]}" if r["stopped"] else "")


def _patch(r: Values, path: str | None) -> str:
    if r["status"] != "patched":
        return {
            "unchanged": "none: beyond the budget" if _held_back(r) else "none needed",
            "rejected": "none: the base is kept",
            "stopped": "none: nothing was learned",
        }[r["status"]]
    share = 100 * r["patch_bytes"] / r["model_bytes"]
    return f"{r['patch_bytes']:,} bytes ({share:.1f} % of the model)" + (f" -> {path}" if path else "")


def diagnosis_name(diagnosis: Values) -> str:
    """The levels joined by ``+``, or the verdict if there are none."""
    return "+".join(diagnosis["levels"]) or str(diagnosis["verdict"])


def diagnosis_text(diagnosis: Values) -> str:
    """A diagnosis and its reasons, one per line.

    Args:
        diagnosis: the values of ``Diagnosis.to_json()``.
    """
    name = f"drift at the {' and '.join(diagnosis['levels'])} level" if diagnosis["levels"] else {
        "none": "no drift, or none that matters"
    }.get(diagnosis["verdict"], diagnosis["verdict"])  # fmt: skip
    lines = [f"{name}{confidence_words(diagnosis)}"]
    lines += [f"  - {reason}" for reason in diagnosis["reasons"]]
    if diagnosis["advice"]:
        lines.append(f"to be more confident: {diagnosis['advice']}")
    return "\n".join(lines)


def choice_text(choice: Values) -> str:
    """Expected accuracy and cost of each option, and the chosen one.

    Args:
        choice: the values of ``Choice.to_json()``.
    """
    rows = [("option", "expected %", "seconds", "joules", "patch bytes", "")]
    for name, cost in choice["costs"].items():
        value = choice["expected_accuracies"].get(name)
        shown = "-" if value is None else f"{100 * value:.0f}"
        energy = "unavailable" if cost["energy_joules"] is None else f"{cost['energy_joules']:.1f}"
        shown = shown if choice["diagnosis"]["evidence"]["has_classes"] else "-"
        note = choice["excluded"].get(name, "")
        if name == choice["option"]:
            note = "<- chosen" + ("" if name == choice["arm"] else f": here the arm {choice['arm']}")
        rows.append((name, shown, f"{cost['cpu_seconds']:.1f}", energy, f"{cost['patch_bytes']:,}", note))
    return f"{table(rows, right='1234')}\n{choice['explanation']}"
