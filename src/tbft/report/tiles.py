"""The figures at the top of the page of an adaptation."""

from __future__ import annotations

from collections.abc import Iterator

from tbft.report import details
from tbft.report.details import Values, changed
from tbft.report.inputs import Adaptation
from tbft.report.words import count, gained, joules, percent, seconds, size


def tiles(adaptation: Adaptation) -> Iterator[dict[str, str]]:
    """Accuracy, what was tuned, processor time, energy and size of the patch."""
    r = adaptation.result
    yield _accuracy_tile(r)
    tuned = count(r["tuned_parameters"], "parameter")
    yield {"name": "tuned", "value": r["arm"], "note": f"{tuned}, recipe {r['recipe']}"}
    yield {
        "name": "processor time",
        "value": seconds(r["cpu_seconds"]),
        "note": f"in total, over {seconds(r['wall_seconds'])} of elapsed time",
    }
    energy = details.known_joules(r)
    note = r["energy_kind"] + (", above idle" if energy is not None and r["energy_joules"] is None else "")
    yield {"name": "energy", "value": "no figure" if energy is None else joules(energy), "note": note}
    share = (
        f"{percent(r['patch_bytes'] / adaptation.model_bytes)} of the model"
        if adaptation.model_bytes
        else "as a file"
    )
    patch = (size(r["patch_bytes"]), share) if changed(r) else ("none", "the model is unchanged")
    yield {"name": "patch", "value": patch[0], "note": patch[1]}


def _accuracy_tile(r: Values) -> dict[str, str]:
    name = f"{r['measure']}, before and after"
    if r["measured_on"] is None:
        return {"name": name, "value": "not measured", "note": "nothing was held out", "kind": "wide"}
    in_points = r["accuracy_before"] is not None
    shown = "accuracy" if in_points else "score"
    gain = r[f"{shown}_after"] - r[f"{shown}_before"]
    kind = "wide" + (" good" if gain > 0 else " bad" if gain < 0 else "")
    kinds = {"test": "test sample", "val": "held-out sample", "folds": "cross-fitted sample"}
    samples = count(details.measured_count(r), kinds[r["measured_on"]])
    write = percent if in_points else "{:.4g}".format
    change = f"{write(r[f'{shown}_before'])} → {write(r[f'{shown}_after'])}"
    note = f"{gained(gain, 'points' if in_points else 'score')}, {samples}{_at_home(r)}"
    return {"name": name, "value": change, "note": note, "kind": kind}


def _at_home(r: Values) -> str:
    """The accuracy on the source, for comparison, if a source card knows it."""
    evidence = None if r["choice"] is None else r["choice"]["diagnosis"]["evidence"]
    if evidence is None or not evidence["has_card"] or r["accuracy_before"] is None:
        return ""
    return f"; on the source {percent(evidence['source_accuracy'])}"
