"""The later sections of the page of an adaptation: options, learning, classes, cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tbft.report import charts
from tbft.report.drawing import Picture
from tbft.report.inputs import Adaptation, Line
from tbft.report.words import DASH, count, joules, percent, points, seconds, size

Values = Mapping[str, Any]

#: Maximum number of classes in a chart.
MAX_CLASSES = 24


def measured_count(r: Values) -> int:
    """Number of samples on which accuracy or score was measured."""
    judged = r["acceptance"]
    if r["measured_on"] == "folds":
        return int(r["train_samples"] if judged is None else judged["count"])
    return int(r[f"{r['measured_on']}_samples"])


def undone(r: Values) -> bool:
    """Whether the tuned model was rejected on held-out samples."""
    return r["acceptance"] is not None and not r["acceptance"]["accepted"]


def changed(r: Values) -> bool:
    """Whether there is a patch that changes anything."""
    return bool(r["status"] == "patched")


def options(r: Values, choice: Values) -> dict[str, Any]:
    """Table and chart of the options."""
    costs, has_classes = choice["costs"], choice["diagnosis"]["evidence"]["has_classes"]
    expected = choice["expected_accuracies"] if has_classes else {}
    optional = [
        ("memory, at least", "min_bytes", size),
        ("energy, estimated", "energy_joules", joules),
    ]
    shown = [column for column in optional if any(c.get(column[1]) is not None for c in costs.values())]
    rows = []
    for name, cost in costs.items():
        chosen = name == choice["option"]
        more = (write(cost.get(key)) for _, key, write in shown)
        cells = (
            name,
            percent(expected.get(name), 0),
            seconds(cost["cpu_seconds"]),
            *more,
            size(cost["patch_bytes"]),
        )
        mark = "chosen" if chosen else "out" if name in choice["excluded"] else ""
        rows.append(Line(cells, mark, _why(name, choice)))
    columns = ("option", "expected accuracy", "processor time", *(name for name, *_ in shown), "patch")
    outcomes = (
        []
        if r["accuracy_after"] is None
        else [charts.Point("outcome", r["cpu_seconds"], r["accuracy_after"])]
    )
    known = [charts.Point(n, costs[n]["cpu_seconds"], value, filled=False) for n, value in expected.items()]
    title = "Expected accuracy of the options, and the result"
    return {
        "columns": columns,
        "rows": rows,
        "chart": charts.costs(title, [*known, *outcomes], choice["option"]) if known else None,
    }


def _why(name: str, choice: Values) -> str:
    if name == choice["option"]:
        return "chosen" if name == choice["arm"] else f"chosen; here the arm {choice['arm']}"
    if name in choice["excluded"]:
        return f"beyond the budget: {choice['excluded'][name]}"
    if name not in choice["expected_accuracies"]:
        return "not suited to this drift"
    return "as good, but more expensive" if name in choice["contenders"] else ""


def learning(r: Values) -> list[Picture]:
    """Curves of the loss, and of the accuracy if the recipe validates; empty if nothing was trained."""
    history = r["history"]
    if not history:
        return []
    losses = {
        "training": [record["train_loss"] for record in history],
        "held out": [record["val_loss"] for record in history],
    }
    shown = {name: values for name, values in losses.items() if any(v is not None for v in values)}
    pictures = [charts.learning("Loss after every epoch", shown, r["best_epoch"], "loss")]
    accuracies = [None if e["val_accuracy"] is None else 100 * e["val_accuracy"] for e in history]
    if any(value is not None for value in accuracies):
        curves = {"held out": accuracies}
        pictures.append(charts.learning("Accuracy after every epoch", curves, r["best_epoch"], "accuracy, %"))
    return pictures


def learning_words(r: Values) -> str:
    """Number of samples, and the epoch that was kept."""
    if not r["history"]:
        return "Nothing was trained: this arm takes no gradient steps."
    epochs = len(r["history"])
    kept = f"epoch {r['best_epoch']} of {epochs} was kept" if r["best_epoch"] else "no epoch was kept"
    return f"Tuned on {count(r['train_samples'], 'sample')}; {kept}."


def classes(r: Values) -> dict[str, Any]:
    """Accuracy of each class before and after, in words, rows and a chart."""
    before, after = r["class_accuracies_before"], r["class_accuracies_after"]
    pairs = {n: (before[n], after[n]) for n in before if before[n] is not None and after.get(n) is not None}
    rows = [
        Line((name, percent(before[name]), percent(after.get(name)), _change(before[name], after.get(name))))
        for name in before
    ]
    if not pairs:
        words = "No class has samples to evaluate on."
        words = words if r["measure"] == "accuracy" else "The samples have targets instead of classes."
        return {"words": words, "chart": None, "rows": rows}
    by_change = sorted(pairs, key=lambda n: pairs[n][0] - pairs[n][1])
    better = sum(b < a for b, a in pairs.values())
    worse = sum(b > a for b, a in pairs.values())
    first, last = by_change[0], by_change[-1]
    words = (
        f"Better in {better} of {count(len(pairs), 'class').replace('classs', 'classes')}, worse in {worse}."
    )
    if first != last and changed(r):
        largest, smallest = (f"{name} ({_change(*pairs[name])})" for name in (first, last))
        words += f" The gain is largest for {largest} and smallest for {smallest}."
    shown = pairs
    if len(pairs) > MAX_CLASSES:
        top = set(sorted(pairs, key=lambda n: -abs(pairs[n][1] - pairs[n][0]))[:MAX_CLASSES])
        shown = {name: pair for name, pair in pairs.items() if name in top}
        words += f" The chart shows the {MAX_CLASSES} that changed most."
    return {"words": words, "chart": charts.before_after("Accuracy of each class", shown), "rows": rows}


def _change(before: float | None, after: float | None) -> str:
    return DASH if before is None or after is None else points(after - before, 0)


def cost(adaptation: Adaptation) -> dict[str, Any]:
    """The measured cost, beside the cost predicted for the arm."""
    r = adaptation.result
    predicted = r["choice"]["costs"][r["choice"]["option"]] if r["choice"] is not None else {}
    scope = {"window": "during tuning", "process": "since the process began"}[r["peak_rss_scope"]]
    rows = [
        ("processor time, all threads", seconds(r["cpu_seconds"]), seconds(predicted.get("cpu_seconds"))),
        ("elapsed time", seconds(r["wall_seconds"]), DASH),
        (f"peak resident memory, {scope}", size(r["peak_rss_bytes"]), DASH),
    ]
    if r.get("peak_tensor_bytes") is not None:
        rows.append(
            ("peak memory of tensors", size(r["peak_tensor_bytes"]), size(predicted.get("min_bytes")))
        )
    figure = joules(known_joules(r))
    rows.append((f"energy ({r['energy_kind']})", figure, joules(predicted.get("energy_joules"))))
    patch = size(r["patch_bytes"]) if changed(r) else "none"
    rows.append(("patch", patch, size(predicted.get("patch_bytes"))))
    words = f"On {r['threads']} thread{'s' if r['threads'] > 1 else ''}, with {versions_words(r)}."
    return {"rows": [Line(row) for row in rows], "words": words, "energy": energy_words(r)}


def known_joules(m: Values) -> float | None:
    """The gross energy, or the energy above idle if only that is known."""
    figure: float | None = m["energy_joules"]
    return m.get("energy_net_joules") if figure is None else figure


def energy_words(m: Values) -> str:
    """The energy, and how it was measured or estimated, or why it is unavailable.

    >>> energy_words({"energy_joules": None, "energy_kind": "unavailable"})
    'Energy: unavailable. No sensor measures it here.'
    """
    figure, net = m["energy_joules"], m.get("energy_net_joules")
    if m["energy_kind"] == "unavailable" or (figure is None and net is None):
        why = m.get("energy_reason") or "no sensor measures it here"
        return f"Energy: unavailable. {why[0].upper()}{why[1:]}."
    parts = [f"Energy: {joules(net if figure is None else figure)}, {m['energy_kind']}"]
    if m.get("energy_source"):
        parts.append(f"by {m['energy_source']}")
    if m.get("energy_scope"):
        parts.append(f"of the {m['energy_scope']}")
    if m.get("energy_relative_error") is not None:
        parts.append(f"± {percent(m['energy_relative_error'], 0)} (one standard deviation)")
    if net is not None:
        parts.append("above idle" if figure is None else f"{joules(net)} of it above idle")
    return ", ".join(parts) + "."


def versions_words(r: Values) -> str:
    """Versions of what the run was made with."""
    return ", ".join(f"{name} {version}" for name, version in r["versions"].items())
