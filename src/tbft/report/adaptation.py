"""The page of an adaptation: what drifted, what was done and why, gain and cost, how to undo it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import PurePath
from typing import Any

from tbft.report import charts, details, usage
from tbft.report.details import Values, changed, undone
from tbft.report.evidence import diagnosis_shown, verdict_words
from tbft.report.inputs import Adaptation
from tbft.report.pages import render
from tbft.report.tiles import tiles
from tbft.report.words import count, gained, nonbreaking, percent, seconds, sentence, size
from tbft.text import visible_values


def adaptation_page(adaptation: Adaptation) -> str:
    """The page as HTML.

    Raises:
        MissingExtraError: the extra `report` is not installed.
    """
    adaptation = replace(adaptation, result=visible_values(adaptation.result))
    r = adaptation.result
    choice = r["choice"]
    return render(
        "adaptation.html",
        title=f"{r['model'] or 'A model'}, adapted",
        contents=_contents(adaptation),
        kicker=f"{r['model'] or 'A model'} on {_short(r['data'])}",
        headline=_headline(r),
        lead=_lead(r),
        notice=_notice(r),
        tiles=list(tiles(adaptation)),
        acceptance=_acceptance(r["acceptance"]),
        no_acceptance=_no_acceptance(r),
        strips=adaptation.strips,
        strips_words=_strips_words(adaptation),
        level=r["level"],
        diagnosis=None if choice is None else diagnosis_shown(choice["diagnosis"], adaptation.thresholds),
        plan_words=_plan_words(r),
        plan_facts=_plan_facts(r),
        options=None if choice is None else details.options(r, choice),
        learning=details.learning(r),
        learning_words=details.learning_words(r),
        classes=details.classes(r),
        cost=details.cost(adaptation),
        commands=list(usage.commands(adaptation)),
        no_commands=usage.no_commands(r),
        record=usage.record(r),
        fingerprints=[
            ("base", r["base_fingerprint"]),
            ("base + patch", r["tuned_fingerprint"] if changed(r) else "the same: nothing was changed"),
        ],
    )


def _contents(adaptation: Adaptation) -> list[tuple[str, str]]:
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
    return [(id_, name) for id_, name in sections if id_ != "samples" or adaptation.strips]


def _short(data: str) -> str:
    """The name of a set without its parent folders."""
    path, plus, drift = data.partition(" + ")
    return f"{PurePath(path).name or path}{plus}{drift}"


def _arm(r: Values) -> str:
    if r["arm"] == "adabn":
        return "adapting only BatchNorm statistics"
    if r["arm"] == "full":
        return "tuning the whole network"
    if r["block"] is None or "+" in r["arm"]:
        return f"tuning {r['arm'].replace('+', ' and ')}"
    return f"tuning one {'block' if r['arm'] == r['block'] else 'layer'}: {r['arm']}"


def _headline(r: Values) -> str:
    if r["status"] == "rejected":
        return f"Tried and undone: tuning {r['arm']} {_not_kept(r)}"
    if r["status"] != "patched":
        known = r["accuracy_before"] is not None
        stays = f": accuracy stays at {percent(r['accuracy_before'])}" if known else ""
        return f"Nothing was changed{stays}"
    if r["measured_on"] is None:
        return f"Adapted by {_arm(r)}; nothing was held out to measure what it gained"
    if r["accuracy_before"] is None:
        return f"A score of {r['score_before']:.4g} becomes {r['score_after']:.4g} by {_arm(r)}"
    return f"From {percent(r['accuracy_before'])} to {percent(r['accuracy_after'])} by {_arm(r)}"


def _not_kept(r: Values) -> str:
    harmful = r["acceptance"]["verdict"] == "harms"
    return "did not help" if harmful else "was not shown to help"


def _lead(r: Values) -> str:
    if r["choice"] is not None:
        why = f"{verdict_words(r['choice']['diagnosis'])}."
    else:
        why = "The plan was set by the user" + (f", for the {r['level']} level." if r["level"] else ".")
    if r["status"] == "unchanged":
        return f"{why} No patch is needed."
    done = f"Adapted with {count(r['train_samples'], 'labeled sample')}"
    judged = r["acceptance"]
    if judged is not None:
        unit, what = judged["unit"], "accuracy" if judged["unit"] == "points" else "the score"
        low, high = (gained(judged[key], unit).removesuffix(" points") for key in ("low", "high"))
        change = f"{gained(judged['gain'], unit)} (95 % interval {low} to {high})"
        where = f"on {count(judged['count'], 'other')}"
        if judged["cross_fitted"]:
            where = "by cross-fitting"
        done += f" and judged {where}, it changes {what} by {change}"
    taken = f"It took {seconds(r['cpu_seconds'])} of processor time"
    patch = f", and the patch of {size(r['patch_bytes'])} can be undone, bit for bit." if changed(r) else "."
    return f"{why} {done}. {taken}{patch}"


def _notice(r: Values) -> str | None:
    if undone(r):
        decision = r["acceptance"]["decision"]
        return f"{sentence(decision)} Tuning was undone. There is no patch."
    ends = {
        "interrupt": "Training was interrupted",
        "budget": "The budget was spent before training ended",
    }
    if r["stopped"] is None:
        return None
    kept = "what had been learned by then was kept" if changed(r) else "nothing had been learned by then"
    return f"{ends[r['stopped']]}; {kept}."


def _acceptance(judged: Values | None) -> dict[str, Any] | None:
    if judged is None:
        return None
    how = f"Judged on {count(judged['count'], 'sample')} that were used neither for choosing nor for tuning"
    if judged["cross_fitted"]:
        how = f"Each of {count(judged['count'], 'sample')} was judged by a model tuned on the other folds"
    words = (
        f"{how}: {judged['fixed']:,} fixed, {judged['regressed']:,} regressed. "
        f"{sentence(judged['decision'])} "
    )
    if judged["unit"] == "score":
        low, high = (gained(judged[key], "score") for key in ("low", "high"))
        return {"chart": None, "words": f"{words}The score changes by {low} to {high} (95 % interval)."}
    words += "The bar is the 95 % interval."
    chart = charts.interval("Gain on held-out samples", judged["gain"], judged["low"], judged["high"])
    return {"chart": chart, "words": words}


def _no_acceptance(r: Values) -> str:
    if r["arm"] == "none":
        return "There was nothing to judge."
    if r["val_samples"] and r["val_use"] == "epoch":
        return "The held-out samples chose the epoch, so they could not be used to judge the result."
    if r["stopped"] and not changed(r):
        return "Nothing was learned, so there was nothing to judge."
    return "No samples were held out to judge the result; --val holds some out."


def _strips_words(adaptation: Adaptation) -> str:
    if len(adaptation.strips) > 1:
        return "The same samples without and with drift, and their labels."
    return "Some of the samples with their labels. Source samples are not available on this device."


def _plan_words(r: Values) -> str:
    if r["choice"] is not None:
        ties = r["choice"]["contenders"]
        tie = (
            f" Within half a point of the best were {', '.join(ties)}: the cheapest of them was chosen."
            if len(ties) > 1
            else ""
        )
        return nonbreaking(r["choice"]["explanation"] + tie)
    no_others = "No other options were considered."
    if r["level"] is not None:
        return f"The level was set by the user: {r['level']}, which means {_arm(r)}. {no_others}"
    return f"The arm was set by the user: {r['arm']}. {no_others}"


def _as_option(r: Values) -> str:
    """The arm, with the name of the option if that differs."""
    option = r["choice"]["option"]
    return r["arm"] if option == r["arm"] else f"{r['arm']} (the option {option})"


def _plan_facts(r: Values) -> list[tuple[str, str]]:
    share = {None: "by the number of samples", 1.0: "1: the source's are kept"}.get(
        r["source_share"], str(r["source_share"])
    )
    return [
        ("arm", r["arm"] if r["choice"] is None else _as_option(r)),
        ("level", r["level"] or "none given"),
        ("recipe", f"{r['recipe']}, seed {r['seed']}"),
        ("tuned parameters", count(r["tuned_parameters"])),
        ("source share of statistics", share),
    ]
