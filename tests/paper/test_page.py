"""The page of the reproduced paper."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product

from pages_read import checked

from paper.cli import main
from paper.inputs import (
    Claim,
    CostTable,
    CostWay,
    Effort,
    Experiment,
    Figure,
    Grid,
    Noise,
    Reproduction,
    Results,
)
from paper.page import reproduction_page

SIZES = ("10 %", "20 %")


def accuracies(**shares: float) -> Grid:
    cells = {
        (row, m): Figure(share + 0.01 * i, 0.004, 3)
        for i, row in enumerate(SIZES)
        for m, share in shares.items()
    }
    return Grid(SIZES, list(shares), cells)


def reproduction(**changed) -> Reproduction:
    measured = accuracies(
        none=0.2, front=0.671, layer2=0.587, layer3=0.57, rear=0.532, full=0.655, ours=0.6961
    )
    published = accuracies(front=0.7353, layer2=0.7018, layer3=0.7017, rear=0.6824, full=0.7321)
    detail = Grid(
        ["fog:5", "contrast:5"],
        ["none", "front"],
        {("fog:5", "none"): Figure(0.31), ("fog:5", "front"): Figure(0.62)},
    )
    effort = [
        Effort("none", "paper", 0.0, 0.2),
        Effort("front", "paper", 38.0, 0.671),
        Effort("front", "fast", 9.0, 0.69),
    ]
    blocks = ("front", "layer2", "layer3", "rear")
    square = {
        (tuned, n): Figure(0.85 if tuned == n else 0.3) for tuned, n in product(blocks, ("front", "rear"))
    }
    noise = Grid(blocks, ["front", "rear"], square)
    cost = [
        CostWay("frozen", [0.45, 0.53], [0.15, None], [2.0, 3.0], "estimated"),
        CostWay("published", [0.46, 0.54], [0.1509, None]),
    ]
    found = Results(
        "paper",
        "resnet26",
        "CIFAR-10 (JPEG copy)",
        False,
        measured,
        {"front": 0.94},
        published,
        detail,
        "10 %",
    )
    given = Reproduction(
        claims=[
            Claim("front is best", "front at 10 %", "front at 10 %", True, 12),
            Claim("saves energy", "41.57 %", "38.2 % of time", False, 8),
            Claim("block 3 is best", "65.8 %", "needs tiny17", None, 0),
            Claim("tbft is as good", None, "1 points", True, 3),
        ],
        experiments=[
            Experiment("cifar10-c", "c", "front", [found], effort, "10 %"),
            Experiment("tiny17", "t", "layer3"),
        ],
        noise=Noise(noise, noise),
        costs=[CostTable("ResNet-26 at 32 px", ["front", "full"], cost)],
        method=[("machine", "two cores")],
        warnings=["2 records come from a dirty tree."],
    )  # fmt: skip
    return replace(given, **changed)


def test_the_reproductions_page_says_what_its_records_say():
    page = checked(reproduction_page(reproduction()))
    for words in (
        "1 of the paper's 2 claims that could be checked holds", "✓ holds", "✕ does not hold",
        "○ not enough records",
        "67.1 ± 0.4", "68.1 ± 0.4", "73.5 ± 0.4",
        "front at 10 % (67.1\u00a0%, as the paper says)", "3\u00a0runs",
        "python -m paper run tiny17", "python -m paper run cifar10-c --recipe fast",
        "dirty tree", "two cores",
        "saves 15\u00a0%", "2\u00a0J", "estimated", "unavailable",
        "is the best one to tune in 2 of 2 columns", "Measured here, recipe paper",
    ):  # fmt: skip
        assert words in page.text
    assert [word for word in page.words if word in ("69.6 ± 0.4", "70.6 ± 0.4")] == [
        "69.6 ± 0.4",
        "70.6 ± 0.4",
    ]
    best = [i for i, (tag, a) in enumerate(page.elements) if tag == "strong" and a.get("class") == "best"]
    assert len(best) == len(SIZES)
    charts = page.charts()
    assert any(">67.1<" in svg and ">73.5<" in svg and ">69.6  ◂ best<" in svg for svg in charts)
    assert any(">fog<" in svg and ">62<" in svg for svg in charts)
    assert "What drifts look like" not in page.text
    assert "no records yet" not in page.text


def test_means_that_lack_drifts_are_said_to(undrawn):
    whole = reproduction()
    (found,) = whole.experiments[0].results
    lacking = replace(whole.experiments[0], results=[replace(found, partial=["20 %"])])
    page = checked(reproduction_page(replace(whole, experiments=[lacking])))
    assert "At 20 % some drifts have no records yet" in page.text


def test_the_best_block_is_told_where_all_have_been_tuned():
    from paper.page import _best_blocks

    cells = {(row, "front"): Figure(0.8 if row == "front" else 0.4) for row in ("front", "layer2", "layer3")}
    assert _best_blocks(Grid(["front"], ["front"], cells)) == []
    assert _best_blocks(Grid(["front"], ["front"], cells | {("rear", "front"): Figure(0.1)})) == [
        ("front", "front")
    ]


def test_a_claim_that_does_not_hold_is_said_not_to(undrawn):
    wrong = reproduction(claims=[Claim("front is best", "front", "rear", False, 3)])
    page = checked(reproduction_page(wrong))
    assert "0 of the paper's 1 claim that could be checked hold" in page.text and "✓ holds" not in page.text


def test_without_records_every_section_says_what_makes_them():
    empty = reproduction(
        claims=[], experiments=[Experiment("cifar10-c", "c"), Experiment("cifar-flip", "f")], costs=[],
        noise=Noise(None, reproduction().noise.published), method=[], warnings=[],
    )  # fmt: skip
    page = checked(reproduction_page(empty))
    for name in ("cifar10-c", "cifar-flip", "noise-motivation", "system-cost"):
        assert f"python -m paper run {name}" in page.text
    assert "No claim of the paper can be checked yet" in page.text


def records() -> list[dict]:
    """Of the label reversal, as ``python -m paper run`` writes them; quick ones of the noise table too."""
    shares = {
        "none": 0.03,
        "adabn": 0.05,
        "front": 0.2,
        "layer2": 0.3,
        "layer3": 0.5,
        "rear": 0.74,
        "full": 0.44,
    }
    common = {
        "recipe": "paper",
        "model": "resnet26-cifar10",
        "base_fingerprint": "4b64b739093f15ff",
        "data": "JPEG copy",
        "engine": "pool",
        "versions": {"tbft": "0.1.0", "torch": "2.13.0", "python": "3.11"},
        "commit": "52a47e5c0d",
        "machine": {"processor": "<b>chip</b>", "system": "Linux", "cores": 2, "threads": 1},
    }
    made = []
    for i, (method, seed, share) in enumerate(product([*shares, "ours"], (0, 1), (10, 20, 30))):
        accuracy = round(shares.get(method, 0.75) + 0.01 * seed + 0.001 * share, 4)
        cost = {"cpu_seconds": 1.0 + i, "energy_joules": None, "energy_kind": "unavailable"}
        made.append(
            {
                **common,
                "id": f"{i:x}",
                "experiment": "cifar-flip",
                "quick": False,
                "drift": "labels:reverse",
                "noised": None,
                "method": method,
                "size": share,
                "seed": seed,
                "accuracy": accuracy,
                "measurement": cost,
                "dirty": seed == 1,
                "finished": f"2026-11-2{seed}T00:00:00Z",
            }
        )
    for method, noised in product(["front", "rear"], ["front", "rear"]):
        noisy = {"experiment": "noise-motivation", "quick": True, "drift": None, "noised": noised, "size": 10}
        accuracy = 0.81 if method == noised else 0.4
        made.append({**made[0], **noisy, "id": method + noised, "method": method, "accuracy": accuracy})
    return made


def test_numbers_come_from_the_records_alone(tmp_path, capsys):
    folder = tmp_path / "records" / "cifar-flip-1"
    folder.mkdir(parents=True)
    (folder / "records.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records()))
    system = {
        "way": "frozen",
        "cpu_seconds": [0.012] * 6,
        "saving_percent": [51.5] * 5 + [None],
        "energy_joules": None,
    }
    printed = {"time_s": [0.45] * 6, "saving_pct": [15.09] * 5 + [None], "energy_j": [0.09] * 6}
    columns = ["block1", "block2", "block3", "fc", "block_avg", "full"]
    cost = {
        "model": "resnet26-cifar10",
        "resolution": 32,
        "system_columns": columns,
        "published": printed,
        "energy_kind": "unavailable",
        "quick": False,
        "finished": "2026-11-25T00:00:00Z",
        "system": {"one sample, one epoch": [system]},
    }
    (tmp_path / "records" / "system-cost-resnet26-cifar10.json").write_text(json.dumps(cost))
    assert main(f"report --records {tmp_path}/records --out {tmp_path}/out".split()) == 0
    assert "index.html" in capsys.readouterr().out
    page = checked((tmp_path / "out" / "index.html").read_text())
    made = json.loads((tmp_path / "out" / "tables.json").read_text())["tables"]
    flip = next(table for table in made if table["experiment"] == "cifar-flip")
    for by_size in flip["figures"].values():
        for figure in by_size.values():
            assert f"{100 * figure['accuracy']:.1f} ± {100 * figure['half_width']:.1f}" in page.words
    assert (
        sum(f">{100 * flip['figures']['rear']['10 %']['accuracy']:.1f}" in svg for svg in page.charts()) == 1
    )
    for claim in json.loads((tmp_path / "out" / "claims.json").read_text()):
        assert claim["claim"] in page.words
        if claim["holds"] is None:
            assert f"needs {claim['missing']}" in page.words
    assert page.text.count("✓ holds") + page.text.count("✕ does not hold") >= 5
    for words in (
        "24 of 52 records",
        "<b>chip</b>, 2 cores",
        "52a47e5c0d",
        "quick version",
        "saves 52",
        "12\u00a0ms",
        "rear at 10 %",
        "as the paper says",
        "labels:reverse",
    ):
        assert words in page.text
    assert any(">81<" in svg and ">40<" in svg for svg in page.charts())
