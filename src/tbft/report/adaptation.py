"""The page of one adaptation: what drifted, what was done and why, gain and cost, how to undo it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

from tbft.report import charts
from tbft.report.drawing import Picture
from tbft.report.evidence import diagnosis_shown, found
from tbft.report.inputs import Adaptation, Line
from tbft.report.pages import render
from tbft.report.words import DASH, count, joules, percent, points, seconds, size

Values = Mapping[str, Any]

#: So many classes a chart shows at most: those that changed most.
MOST_CLASSES = 24


def adaptation_page(given: Adaptation) -> str:
    """The page as HTML.

    Raises:
        MissingExtraError: the extra `report` is not installed.
    """
    r = given.result
    choice = r["choice"]
    return render(
        "adaptation.html",
        title=f"{r['model'] or 'A model'}, adapted",
        contents=_contents(given),
        kicker=f"{r['model'] or 'A model'} on {_short(r['data'])}",
        headline=_headline(r),
        lead=_lead(r),
        notice=_notice(r),
        tiles=list(_tiles(given)),
        acceptance=_acceptance(r["acceptance"]),
        no_acceptance=_no_acceptance(r),
        strips=given.strips,
        strips_words=_strips_words(given),
        level=r["level"],
        diagnosis=None if choice is None else diagnosis_shown(choice["diagnosis"], given.thresholds),
        plan_words=_plan_words(r),
        plan_facts=_plan_facts(r),
        options=None if choice is None else _options(r, choice),
        learning=_learning(r),
        learning_words=_learning_words(r),
        classes=_classes(r),
        cost=_cost(given),
        commands=list(_commands(given)),
        no_commands=_no_commands(r),
        record=_record(r),
        fingerprints=[
            ("base", r["base_fingerprint"]),
            ("base + patch", r["tuned_fingerprint"] if changed(r) else "the same: nothing was changed"),
        ],
    )


def undone(r: Values) -> bool:
    """Whether a tuned model was judged on held-out labels, and dropped."""
    return r["acceptance"] is not None and not r["acceptance"]["accepted"]


def changed(r: Values) -> bool:
    """Whether there is a patch that changes anything."""
    return r["arm"] != "none" and not undone(r)


def _contents(given: Adaptation) -> list[tuple[str, str]]:
    sections = [
        ("result", "Result"),
        ("samples", "The samples"),
        ("evidence", "What drifted"),
        ("plan", "The plan, and why"),
        ("learning", "Learning"),
        ("classes", "Class by class"),
        ("cost", "What it cost"),
        ("use", "Apply and undo"),
        ("record", "For the record"),
    ]
    return [one for one in sections if one[0] != "samples" or given.strips]


def _short(data: str) -> str:
    """The name of a set without the folders above it."""
    place, plus, drift = data.partition(" + ")
    return f"{PurePath(place).name or place}{plus}{drift}"


def _arm(r: Values) -> str:
    if r["arm"] == "adabn":
        return "adapting BatchNorm statistics alone"
    if r["arm"] == "full":
        return "tuning all of the network"
    if r["block"] is None or "+" in r["arm"]:
        return f"tuning {r['arm'].replace('+', ' and ')}"
    return f"tuning one {'block' if r['arm'] == r['block'] else 'layer'}: {r['arm']}"


def _headline(r: Values) -> str:
    if r["arm"] == "none":
        return f"Nothing was changed: accuracy stays at {percent(r['accuracy_before'])}"
    if undone(r):
        return f"Tried and undone: {_arm(r)} did not help"
    return f"From {percent(r['accuracy_before'])} to {percent(r['accuracy_after'])} by {_arm(r)}"


def _lead(r: Values) -> str:
    if r["choice"] is not None:
        why = f"{found(r['choice']['diagnosis'])}."
    else:
        why = "The plan was given by hand" + (f", for the {r['level']} level." if r["level"] else ".")
    if r["arm"] == "none":
        return f"{why} No patch is needed."
    done = f"Adapted with {count(r['train_samples'], 'labelled sample')}"
    judged = r["acceptance"]
    if judged is not None:
        done += (
            f" and judged on {count(judged['count'], 'other')}, it gains {points(judged['gain'])} points "
            f"(95 % interval {points(judged['low'])} to {points(judged['high'])})"
        )
    taken = f"It took {seconds(r['cpu_seconds'])} of processor time"
    patch = f", and the patch of {size(r['patch_bytes'])} can be undone, bit for bit." if changed(r) else "."
    return f"{why} {done}. {taken}{patch}"


def _notice(r: Values) -> str | None:
    if undone(r):
        judged = r["acceptance"]
        return (
            f"On {judged['count']:,} held-out labels tuning mended {judged['mended']:,} and broke "
            f"{judged['broken']:,}, so the model was left as it was. There is no patch."
        )
    if r["interrupted"]:
        return (
            "Training was stopped by Ctrl-C; what had been learned by then was kept. Run it again to go on."
        )
    return None


def _tiles(given: Adaptation) -> Iterator[dict[str, str]]:
    r = given.result
    gain = r["accuracy_after"] - r["accuracy_before"]
    kind = "wide" + (" good" if gain > 0 else " bad" if gain < 0 else "")
    tested = f"{points(gain)} points, {count(r['test_samples'], 'test sample')}"
    way = f"{percent(r['accuracy_before'])} → {percent(r['accuracy_after'])}"
    yield {"name": "accuracy, before and after", "value": way, "note": tested, "kind": kind}
    tuned = count(r["tuned_parameters"], "parameter")
    yield {"name": "tuned", "value": r["arm"], "note": f"{tuned}, recipe {r['recipe']}"}
    yield {
        "name": "processor time",
        "value": seconds(r["cpu_seconds"]),
        "note": f"all steps, of {seconds(r['wall_seconds'])} elapsed",
    }
    value = joules(r["energy_joules"]) if r["energy_joules"] is not None else "no figure"
    yield {"name": "energy", "value": value, "note": r["energy_kind"]}
    share = (
        f"{percent(r['patch_bytes'] / given.model_bytes)} of the model" if given.model_bytes else "as a file"
    )
    patch = (size(r["patch_bytes"]), share) if changed(r) else ("none", "the model is as it was")
    yield {"name": "patch", "value": patch[0], "note": patch[1]}


def _acceptance(judged: Values | None) -> dict[str, Any] | None:
    if judged is None:
        return None
    said = {"helps": "It helps.", "harms": "It harms.", "cannot tell": "These are too few labels to tell."}
    words = (
        f"Judged on {count(judged['count'], 'label')} that neither choosing nor tuning saw: "
        f"{judged['mended']:,} mended, {judged['broken']:,} broken. {said[judged['verdict']]} "
        "The bar is the exact 95 % interval."
    )
    chart = charts.interval("Gain on held-out labels", judged["gain"], judged["low"], judged["high"])
    return {"chart": chart, "words": words}


def _no_acceptance(r: Values) -> str:
    if r["arm"] == "none":
        return "There was nothing to judge."
    if r["val_samples"]:
        return "The held-out samples chose the epoch, so they could not judge the outcome as well."
    return "No samples were held out to judge the outcome; --val holds some out."


def _strips_words(given: Adaptation) -> str:
    if len(given.strips) > 1:
        return "The same samples, as the base model knows them and as it meets them here, with their labels."
    return (
        "Some of the samples, as they are met here. What the source looked like is not known on this device."
    )


def _plan_words(r: Values) -> str:
    if r["choice"] is not None:
        ties = r["choice"]["contenders"]
        tie = (
            f" Within half a point of the best were {', '.join(ties)}: the cheapest was taken."
            if len(ties) > 1
            else ""
        )
        return r["choice"]["explanation"] + tie
    if r["level"] is not None:
        return (
            f"The level was given by hand. For {r['level']} that means {_arm(r)}; no other way was looked at."
        )
    return f"The arm was given by hand: {r['arm']}. No other way was looked at."


def _plan_facts(r: Values) -> list[tuple[str, str]]:
    share = {None: "by the number of samples", 1.0: "1: they stay the source's"}.get(
        r["source_share"], str(r["source_share"])
    )
    return [
        ("arm", r["arm"]),
        ("level", r["level"] or "not named"),
        ("recipe", f"{r['recipe']}, seed {r['seed']}"),
        ("tuned parameters", count(r["tuned_parameters"])),
        ("source share of statistics", share),
    ]


def _options(r: Values, choice: Values) -> dict[str, Any]:
    costs, expected = choice["costs"], choice["expected_accuracies"]
    optional = [
        ("memory, at least", "least_bytes", size),
        ("energy, estimated", "energy_joules", joules),
    ]
    shown = [one for one in optional if any(cost.get(one[1]) is not None for cost in costs.values())]
    rows = []
    for name, cost in costs.items():
        taken = name == choice["option"]
        more = (write(cost.get(key)) for _, key, write in shown)
        cells = (
            name,
            percent(expected.get(name), 0),
            seconds(cost["cpu_seconds"]),
            *more,
            size(cost["patch_bytes"]),
            _why(name, choice),
        )
        rows.append(Line(cells, "taken" if taken else "out" if name in choice["excluded"] else ""))
    columns = ("option", "expected accuracy", "processor time", *(one[0] for one in shown), "patch", "")
    outcome = charts.Point("outcome", r["cpu_seconds"], r["accuracy_after"])
    known = [charts.Point(n, costs[n]["cpu_seconds"], value, filled=False) for n, value in expected.items()]
    title = "Expected accuracy of the options, and the outcome on the test samples"
    return {
        "columns": columns,
        "rows": rows,
        "chart": charts.costs(title, [*known, outcome], choice["option"]),
    }


def _why(name: str, choice: Values) -> str:
    if name == choice["option"]:
        return "taken"
    if name in choice["excluded"]:
        return f"beyond the budget: {choice['excluded'][name]}"
    if name not in choice["expected_accuracies"]:
        return "not for this drift"
    return "as good, but dearer" if name in choice["contenders"] else ""


def _learning(r: Values) -> list[Picture]:
    history = r["history"]
    if not history:
        return []
    losses = {
        "training": [one["train_loss"] for one in history],
        "held out": [one["val_loss"] for one in history],
    }
    shown = {name: values for name, values in losses.items() if any(v is not None for v in values)}
    made = [charts.learning("Loss after every epoch", shown, r["best_epoch"], "cross-entropy, nats")]
    accuracies = [one["val_accuracy"] for one in history]
    if any(value is not None for value in accuracies):
        curves = {"held out": accuracies}
        made.append(charts.learning("Accuracy after every epoch", curves, r["best_epoch"], "share right"))
    return made


def _learning_words(r: Values) -> str:
    if not r["history"]:
        return "Nothing was trained: this arm takes no gradient steps."
    epochs = len(r["history"])
    kept = f"epoch {r['best_epoch']} of {epochs} was kept" if r["best_epoch"] else "no epoch was kept"
    return f"{count(r['train_samples'], 'sample')} tuned on; {kept}."


def _classes(r: Values) -> dict[str, Any]:
    before, after = r["class_accuracies_before"], r["class_accuracies_after"]
    pairs = {n: (before[n], after[n]) for n in before if before[n] is not None and after.get(n) is not None}
    rows = [
        Line((name, percent(before[name]), percent(after.get(name)), _change(before[name], after.get(name))))
        for name in before
    ]
    if not pairs:
        return {"words": "No class has test samples.", "chart": None, "rows": rows}
    by_change = sorted(pairs, key=lambda n: pairs[n][0] - pairs[n][1])
    better = sum(b < a for b, a in pairs.values())
    worse = sum(b > a for b, a in pairs.values())
    first, last = by_change[0], by_change[-1]
    words = (
        f"Better in {better} of {count(len(pairs), 'class').replace('classs', 'classes')}, worse in {worse}."
    )
    if first != last and changed(r):
        most, least = (f"{name} ({_change(*pairs[name])})" for name in (first, last))
        words += f" It gained most on {most}, least on {least}."
    shown = pairs
    if len(pairs) > MOST_CLASSES:
        most = set(sorted(pairs, key=lambda n: -abs(pairs[n][1] - pairs[n][0]))[:MOST_CLASSES])
        shown = {name: pair for name, pair in pairs.items() if name in most}
        words += f" The chart shows the {MOST_CLASSES} that changed most."
    return {"words": words, "chart": charts.before_after("Accuracy of each class", shown), "rows": rows}


def _change(before: float | None, after: float | None) -> str:
    return DASH if before is None or after is None else points(after - before, 0)


def _cost(given: Adaptation) -> dict[str, Any]:
    r = given.result
    predicted = r["choice"]["costs"][r["choice"]["option"]] if r["choice"] is not None else {}
    scope = {"window": "meanwhile", "process": "since the process began"}[r["peak_rss_scope"]]
    rows = [
        ("processor time, all threads", seconds(r["cpu_seconds"]), seconds(predicted.get("cpu_seconds"))),
        ("elapsed time", seconds(r["wall_seconds"]), DASH),
        (f"highest resident memory, {scope}", size(r["peak_rss_bytes"]), DASH),
    ]
    if r.get("peak_tensor_bytes") is not None:
        rows.append(
            ("most bytes in tensors", size(r["peak_tensor_bytes"]), size(predicted.get("least_bytes")))
        )
    rows.append(
        (f"energy ({r['energy_kind']})", joules(r["energy_joules"]), joules(predicted.get("energy_joules")))
    )
    patch = size(r["patch_bytes"]) if changed(r) else "none"
    rows.append(("patch", patch, size(predicted.get("patch_bytes"))))
    words = f"On {r['threads']} thread{'s' if r['threads'] > 1 else ''}, with {_versions(r)}."
    return {"rows": [Line(row) for row in rows], "words": words, "energy": energy_words(r)}


def energy_words(m: Values) -> str:
    """How an energy figure came about, or why there is none.

    >>> energy_words({"energy_joules": None, "energy_kind": "unavailable"})
    'Energy: unavailable. Nothing measures it here, and no profile of this board allows an estimate.'
    """
    if m["energy_joules"] is None:
        return (
            "Energy: unavailable. Nothing measures it here, and no profile of this board allows an estimate."
        )
    parts = [f"Energy: {joules(m['energy_joules'])}, {m['energy_kind']}"]
    if m.get("energy_source"):
        parts.append(f"by {m['energy_source']}")
    if m.get("energy_scope"):
        parts.append(f"of the {m['energy_scope']}")
    if m.get("energy_relative_error") is not None:
        parts.append(f"± {percent(m['energy_relative_error'], 0)} (one standard deviation)")
    if m.get("energy_net_joules") is not None:
        parts.append(f"{joules(m['energy_net_joules'])} of it beyond idle")
    return ", ".join(parts) + "."


def _commands(given: Adaptation) -> Iterator[tuple[str, str]]:
    r = given.result
    if not changed(r) or given.patch_path is None:
        return
    patch = shlex.quote(given.patch_path)
    if given.weights is None:
        yield (
            "In Python, on your model",
            (
                "from tbft.patch import Patch\n\n"
                f"undo = Patch.load({given.patch_path!r}).apply(model)  # the tuned model\n"
                "undo.apply(model)  # the base again, bit for bit"
            ),
        )
        return
    weights = shlex.quote(given.weights)
    yield "Check that it is whole and fits", f"tbft patch verify {patch} --weights {weights}"
    yield "Apply it", f"tbft patch apply {patch} --weights {weights} --out tuned.safetensors"
    yield "Undo it", f"tbft patch revert {patch} --weights tuned.safetensors --out base-again.safetensors"


def _no_commands(r: Values) -> str:
    if changed(r):
        return "The patch was not written; --out FILE writes it."
    return "There is nothing to apply and nothing to undo: the model is as it was."


def _record(r: Values) -> list[tuple[str, str]]:
    return [
        ("data", r["data"]),
        (
            "samples",
            f"{r['train_samples']:,} train, {r['val_samples']:,} held out, {r['test_samples']:,} test",
        ),
        ("split", f"by {r['group_by']}" if r["group_by"] else "at random, stratified"),
        ("seed", str(r["seed"])),
        ("loss on test", f"{r['loss_before']:.3f} → {r['loss_after']:.3f} nats"),
        ("tensors changed", count(r["tensors_changed"])),
        ("made with", _versions(r)),
    ]


def _versions(r: Values) -> str:
    return ", ".join(f"{name} {version}" for name, version in r["versions"].items())
