"""The page of the reproduced paper: true to its tables, claims and records."""

from __future__ import annotations

import json
from itertools import product

import pytest
from made import measured, record
from pages_read import Page, checked

from paper.claims import Claim, claims_of
from paper.cli import main
from paper.experiments import BLOCK_METHODS
from paper.page import reproduction_page
from paper.page.accuracy import best_blocks
from paper.tables import tables_of

ACCURACIES = {
    "none": 0.2,
    "front": 0.67,
    "layer2": 0.58,
    "layer3": 0.57,
    "rear": 0.53,
    "full": 0.65,
    "ours": 0.69,
}
CLAIMS = [
    Claim("front is best", "points", 3.35, 9.0, True, half_width=0.4, records=("a", "b")),
    Claim("one block saves energy", "%", 41.57, 27.5, False, records=("a",)),
    Claim("layer3 is best", "points", 10.2, None, None, missing="living17"),
    Claim("tbft is as good", "points", None, -0.3, True, records=("a",)),
]


def corrupted() -> list[dict]:
    """All methods on two corruptions at two sizes with two seeds, and the front with the recipe fast."""
    made = []
    for method, drift, size, seed in product(ACCURACIES, ("fog:5", "contrast:5"), (10, 20), (0, 1)):
        accuracy = ACCURACIES[method] + 0.001 * (size - 10) + 0.01 * seed + 0.02 * (drift == "fog:5")
        cost = measured(40.0 if method == "full" else 10.0)
        made.append(record(method, accuracy, drift=drift, size=size, seed=seed, measurement=cost))
    return [*made, record("front", 0.7, recipe="fast")]


def noisy(methods=BLOCK_METHODS, noised=("front", "rear")) -> list[dict]:
    """Noise on some blocks, of which the noised one is the best to tune."""
    place = {"experiment": "noise-motivation", "drift": None, "data": "CIFAR-10 (JPEG copy)"}
    return [record(m, 0.85 if m == n else 0.3, noised=n, **place) for m, n in product(methods, noised)]


def system_cost(**changes) -> dict:
    """A file of system-cost."""
    row = {
        "way": "frozen",
        "cpu_seconds": [0.012] * 6,
        "saving_percent": [51.5] * 5 + [None],
        "energy_joules": None,
    }
    printed = {"time_s": [0.45] * 6, "saving_pct": [15.09] * 5 + [None], "energy_j": [0.09] * 6}
    made = {
        "model": "resnet26-cifar10", "resolution": 32, "published": printed, "energy_kind": "unavailable",
        "system_columns": ["block1", "block2", "block3", "fc", "block_avg", "full"], "quick": False,
        "finished": "2026-11-25T00:00:00Z", "system": {"one sample, one epoch": [row]},
    }  # fmt: skip
    return {**made, **changes}


def page(records: list[dict], claims: list[Claim] | None = None, costs: tuple[dict, ...] = ()) -> Page:
    tables = tables_of(records)
    return checked(reproduction_page(tables, claims_of(tables) if claims is None else claims, records, costs))


def test_the_page_says_what_its_tables_and_claims_say():
    shown = page([*corrupted(), *noisy()], CLAIMS, (system_cost(),))
    for words in (
        "1 of the paper's 2 claims that could be checked holds", "1 claim is still open",
        "✓ holds", "✕ does not hold", "○ not enough records", "9 ± 0.4\u00a0points",
        "\u22120.3\u00a0points", "2\u00a0records",
        "needs living17", "68.5 ± 6.4", "69.5 ± 6.4", "73.5 ± 0.2",
        "front at 10 % (68.5\u00a0%, as in the paper)", "4\u00a0runs", "25.0\u00a0%",
        "python -m paper run tiny17", "saves 52\u00a0%", "saves 15\u00a0%", "12\u00a0ms",
        "energy unavailable",
        "time multiplied by a constant", "Measured here, recipe paper",
        "The block with the noise is the best one to tune in 2 of 2 columns",
    ):  # fmt: skip
        assert words in shown.text, words
    best = [a for tag, a in shown.elements if tag == "strong" and a.get("class") == "best"]
    assert len(best) == 2 * 2  # at two sizes, with two recipes
    charts = shown.charts()
    assert any(">68.5<" in svg and ">73.5<" in svg and ">70.5  ◂ best<" in svg for svg in charts)
    assert any(">fog<" in svg and ">70<" in svg for svg in charts)
    assert any("processor seconds, logarithmic" in svg for svg in charts)
    assert "What drifts look like" not in shown.text


def test_means_that_lack_drifts_are_named(undrawn):
    few = [one for one in corrupted() if (one["drift"], one["size"]) != ("fog:5", 20)]
    assert "At 10 % and 20 % some drifts have no records yet" in page(few).text


def test_the_best_block_is_named_only_where_all_have_been_tuned(undrawn):
    lacking = noisy(BLOCK_METHODS[:3], ["front"])
    assert "in 0 of 0 columns" in page(lacking).text
    assert "Best block" not in page([one for one in corrupted() if one["method"] != "rear"]).text
    values = {(block, "front"): 0.1 for block in BLOCK_METHODS} | {("rear", "rear"): 0.2}
    assert best_blocks(values | {("layer2", "front"): 0.3}) == [("layer2", "front")]


def test_a_claim_that_does_not_hold_is_said_not_to(undrawn):
    shown = page(corrupted(), CLAIMS[1:2])
    assert "0 of the paper's 1 claim that could be checked hold" in shown.text and "✓ holds" not in shown.text


def test_without_records_every_section_says_how_to_make_them():
    shown = page([], [])
    for name in ("cifar10-c", "cifar-flip", "noise-motivation", "system-cost"):
        assert f"python -m paper run {name}" in shown.text
    assert "No claim of the paper can be checked yet" in shown.text


def test_quick_records_stand_only_where_there_are_no_others(undrawn):
    quick = [one | {"quick": True} for one in corrupted()]
    shown = page([*quick, *(one for one in corrupted() if one["recipe"] == "paper")])
    titles = ["Recipe paper", "Recipe fast, quick version"]
    assert [word for word in shown.words if word.startswith("Recipe") and "training" not in word] == titles
    measured = [system_cost(quick=True, finished="2027"), system_cost(), system_cost(finished="2025")]
    assert "quick version" not in page([], [], tuple(measured)).text


@pytest.mark.parametrize("hostile", ['<script>alert("1")</script>', "</style>'\"&amp;", "a" * 300])
def test_hostile_names_are_shown_and_not_obeyed(hostile, undrawn):
    records = [one | {"model": hostile, "data": hostile} for one in corrupted()]
    assert hostile in page(records, [Claim(hostile, "points", 1.0, 1.0, True)]).text


def test_the_page_is_made_from_records_alone(tmp_path, capsys):
    processor = {"processor": "<b>chip</b>", "system": "Linux", "cores": 2, "threads": 1}
    changes = {"experiment": "cifar-flip", "drift": "labels:reverse", "machine": processor}
    changes |= {"commit": "52a47e5c0d", "engine": "pool"}
    foggy = [one for one in corrupted() if one["drift"] == "fog:5" and one["recipe"] == "paper"]
    flipped = [one | changes | {"dirty": one["seed"] == 1} for one in foggy]
    folder = tmp_path / "records" / "cifar-flip-1"
    folder.mkdir(parents=True)
    (folder / "records.jsonl").write_text("".join(json.dumps(one) + "\n" for one in flipped))
    (tmp_path / "records" / "system-cost-resnet26-cifar10.json").write_text(json.dumps(system_cost()))
    assert main(["report", "--records", str(tmp_path / "records"), "--out", str(tmp_path / "out")]) == 0
    assert "index.html" in capsys.readouterr().out
    shown = checked((tmp_path / "out" / "index.html").read_text())
    (table,) = json.loads((tmp_path / "out" / "tables.json").read_text())["tables"]
    for by_size in table["figures"].values():
        for figure in by_size.values():
            assert f"{100 * figure['accuracy']:.1f} ± {100 * figure['half_width']:.1f}" in shown.words
    for claim in json.loads((tmp_path / "out" / "claims.json").read_text()):
        assert claim["claim"] in shown.words
    for words in ("14 of 28 records", "<b>chip</b>, 2 cores", "52a47e5c0d", "saves 52", "front at 10 %",
                  "not rear", "labels:reverse", "shared the machine"):  # fmt: skip
        assert words in shown.text, words
