"""The paper's claims, checked on records made by hand, and on those that ship."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from statistics import fmean

import pytest
from made import record, whole, write

from paper.claims import claims_of, text_of
from paper.experiments import BLOCK_METHODS, EXPERIMENTS
from paper.tables import tables_of

ROOT = Path(__file__).parents[2]


def claim(records: list[dict], start: str):
    return next(c for c in claims_of(tables_of(records)) if c.claim.startswith(start))


def test_claims_are_checked_on_the_records():
    records = whole()
    front = claim(records, "input level, cifar10-c, 10 %")
    assert (front.published, front.ours, front.holds) == (3.35, 10.0, True)
    assert front.half_width == 0.0
    assert len(front.records) == 2 * 2 * 15
    assert claim(records, "noise on one block").ours == 4
    gain = claim(records, "the paper's block gains")
    assert (gain.published, gain.ours, gain.holds) == (
        15.3,
        7.5,
        False,
    )  # a quarter of four blocks is its own
    saving = claim(records, "processor time saved by tuning one block")
    assert (saving.published, saving.ours, saving.holds) == (41.57, 40.0, True)
    assert claim(whole(blocks_cost=9.0), "processor time saved by tuning one block").holds is False
    assert claim(whole(gain=0.1), "the paper's block gains").holds is True
    assert claim(whole(gain=-0.2), "output level, cifar-flip").holds is False
    assert claim(records, "feature level: layer3").claim.endswith("(tiny17)")
    assert claim(records, "processor time saved by ours").ours == 90.0


def test_the_saving_of_a_step_is_that_of_the_papers_own_way():
    def cost(model: str, saving: float, quick: bool = False) -> dict:
        rows = [{"way": "substring", "saving_percent": [0, 0, 0, 0, saving, None]}]
        columns = ["block1", "block2", "block3", "fc", "block_avg", "full"]
        return {"model": model, "quick": quick, "finished": "2026-01-01T00:00:00Z", "system_columns": columns,
                "system": {"one sample, one epoch": rows}}  # fmt: skip

    def found(costs: list[dict]):
        return next(c for c in claims_of([], costs) if "as the paper times it" in c.claim)

    both = [cost("resnet26-cifar10", 40.0), cost("resnet26-living17", 42.0)]
    assert (found(both).published, found(both).ours, found(both).holds) == (41.57, 41.0, True)
    assert found([cost("resnet26-cifar10", 20.0), both[1]]).holds is False
    assert found([both[0], cost("resnet26-living17", 42.0, quick=True)]).missing == (
        "system-cost of resnet26-living17"
    )


def test_a_claim_without_its_records_is_open_and_says_what_it_needs():
    records = [r for r in whole() if (r["experiment"], r["method"]) != ("cifar-flip", "layer2")]
    missing = claim(records, "output level, cifar-flip, 10 %")
    assert (missing.holds, missing.ours) == (None, None)
    assert missing.missing == "cifar-flip at 10 %, recipe paper: layer2"
    assert claim(records, "input level, cifar10-c, 10 %").holds is True
    assert claim(records, "the paper's block gains").holds is None  # it needs all four blocks, at every size
    fewer = [r for r in records if r["drift"] != "fog:5"]
    assert claim(fewer, "input level, cifar10-c, 10 %").missing.endswith("some drifts")
    assert all(c.holds is None for c in claims_of(tables_of([record("front", 0.5, quick=True)])))
    assert "open" in text_of(claims_of([]))


def test_a_claim_over_sizes_is_checked_at_those_that_are_there():
    """It names them, stands beside the paper's figure of the same sizes, and tells what else it needs."""
    records = [r for r in whole() if (r["experiment"], r["size"]) != ("cifar-flip", 30)]
    gain = claim(records, "the paper's block gains")
    assert "at 10 %, 20 % (" in gain.claim
    printed = [(3.0, 3.88), (8.89, 9.95), (38.35, 31.22)]
    assert gain.published == pytest.approx(fmean(map(fmean, printed)), abs=0.01)
    assert (gain.ours, gain.missing) == (7.5, "cifar-flip at 30 %, recipe paper")
    full = claim(records, "output level: rear")
    assert (full.published, full.ours, full.holds) == (
        pytest.approx((33.57 + 22.22) / 2, abs=0.01),
        10.0,
        True,
    )
    assert claim(records, "input level: front").missing == ""
    assert claim(records, "processor time saved by ours").ours == 90.0


def test_noise_of_our_recipe_counts_where_the_papers_was_not_run():
    noisy = [r | {"recipe": "fast"} for r in whole() if r["experiment"] == "noise-motivation"]
    diagonal = claim(noisy, "noise on one block")
    assert diagonal.claim.endswith("(recipe fast)")
    assert (diagonal.ours, diagonal.holds) == (4, True)
    assert claim(whole() + noisy, "noise on one block").claim.endswith("(recipe paper)")


def test_a_lead_that_may_be_chance_is_left_open():
    def lead(*front: float):
        rows = [record("front", a, seed=s, drift=d) for s, a in enumerate(front)
                for d in EXPERIMENTS["cifar10-c"].drifts]  # fmt: skip
        rows += [record(m, 0.5, seed=s, drift=d) for m in BLOCK_METHODS[1:] for s in range(len(front))
                 for d in EXPERIMENTS["cifar10-c"].drifts]  # fmt: skip
        return claim(rows, "input level, cifar10-c, 10 %")

    assert (lead(0.503).holds, lead(0.503).ours) == (None, 0.3)
    assert "more seeds" in lead(0.503).missing
    assert lead(0.51).holds is True
    assert lead(0.49).holds is False
    assert lead(0.50, 0.54).holds is None
    assert lead(0.60, 0.61).holds is True


def test_a_claim_whose_methods_share_no_seed_says_so():
    lone = [r for r in whole() if r["method"] != "full" or r["seed"] == 1]
    lone = [r for r in lone if r["method"] != "rear" or r["seed"] == 0]
    open_claim = claim(lone, "output level: rear")
    assert (open_claim.holds, open_claim.missing) == (None, "a seed in common")


def test_a_stand_in_counts_where_the_papers_own_set_has_less():
    stray = record("front", 0.1, experiment="living17", drift=None)
    assert claim([*whole(), stray], "feature level: layer3").claim.endswith("(tiny17)")
    noisy = [r | {"recipe": "fast"} for r in whole() if r["experiment"] == "noise-motivation"]
    begun = record("front", 0.1, experiment="noise-motivation", drift=None, noised="front")
    assert claim([*noisy, begun], "noise on one block").ours == 4


def test_tables_and_claims_load_no_torch(tmp_path):
    write(tmp_path, whole())
    code = (
        "import sys; from paper.claims import claims_of; from paper.records import read_records;"
        "from paper.tables import tables_of; assert claims_of(tables_of(read_records(sys.argv[1])));"
        "print('torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    assert subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout == "False\n"


def test_the_page_beside_the_shipped_records_says_what_they_say():
    path = ROOT / "tools" / "results.py"
    spec = importlib.util.spec_from_file_location("results", path)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    assert tool.page(tool.RESULTS) == (tool.RESULTS / "README.md").read_text(), "run: make readme"
