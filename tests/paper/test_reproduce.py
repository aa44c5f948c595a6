"""`python -m paper`: expansion, records, engines, tables, claims."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean

import pytest
from conftest import heed_interrupts

from paper.claims import claims_of
from paper.cli import main
from paper.engines import Outcome, scheduled
from paper.experiments import BLOCK_METHODS, CORRUPTIONS, EXPERIMENTS, find_experiment
from paper.published import BLOCK_AVERAGE, published
from paper.records import Store, read_file, read_records
from paper.reporting import text_of, write_report
from paper.runs import Cell, Run, Settings, cells
from paper.tables import tables_of
from tbft.data.cifar10c import COMMON
from tbft.errors import MissingExtraError, TbftError

TESTS = Path(__file__).parents[1]
METHODS = ("none", "adabn", "front", "rear", "full")


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make ``toys:net`` and so on importable here and in every process that is started from here."""
    monkeypatch.syspath_prepend(TESTS)
    known = [str(TESTS), str(TESTS.parent / "src"), str(TESTS.parent), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, known)))


def settings(model: str = "toys:net", recipe: str = "paper") -> Settings:
    from paper.runner import make_settings

    return make_settings("cifar-flip", recipe, model=model, data="toys:pictures")


def test_expansion_has_every_drift_of_a_seed_before_the_next_seed():
    found = cells(EXPERIMENTS["cifar10-c"], sizes=[10, 20], seeds=2)
    assert len(found) == 2 * 2 * 15
    assert CORRUPTIONS == COMMON  # said twice, since experiments load no torch and the reader does
    assert [c.drift for c in found[:15]] == [f"{name}:5" for name in CORRUPTIONS]
    assert {(c.size, c.seed) for c in found[:15]} == {(10, 0)}
    assert found[15] == Cell("shot_noise:5", None, 10, 1)
    assert [c.noised for c in cells(EXPERIMENTS["noise-motivation"], seeds=1)] == list(BLOCK_METHODS)


def test_expansion_refuses_what_an_experiment_has_not():
    with pytest.raises(TbftError, match="unknown size '15'"):
        cells(EXPERIMENTS["cifar10-c"], sizes=[15])
    with pytest.raises(TbftError, match="did you mean 'contrast'"):
        cells(EXPERIMENTS["cifar10-c"], corruptions=["contrst"])
    with pytest.raises(TbftError, match="no corruptions"):
        cells(EXPERIMENTS["cifar-flip"], corruptions=["contrast"])
    with pytest.raises(TbftError, match="unknown experiment"):
        find_experiment("cifar")


def test_ids_differ_in_every_argument_and_stay_the_same():
    cell = Cell("fog:5", None, 10, 0)
    runs = [Run("g", cell, "front"), Run("h", cell, "front"), Run("g", cell, "full")]
    runs += [Run("g", Cell("fog:5", None, 10, 1), "front"), Run("g", cell, "front", "other")]
    assert len({run.id for run in runs}) == len(runs)
    assert Run("g", cell, "front").id == "db08501bedde785c"


def test_a_torn_line_is_passed_over_and_cut_off(tmp_path):
    store = Store(tmp_path / "e-1", {"identity": 1})
    first, second = record("front", 0.5), record("full", 0.6)
    assert store.append(first)
    with store.path.open("a") as file:
        file.write('{"id": "b", "accur')  # as kill -9 leaves it
    assert store.done() == {first["id"]}
    assert store.append(second)
    assert [json.loads(line) for line in store.path.read_text().splitlines()] == [first, second]


def test_of_two_writers_the_second_is_told_that_the_run_is_there(tmp_path):
    first, second = Store(tmp_path, {"identity": 1}), Store(tmp_path, {"identity": 1})
    assert first.append(record("front", 0.5))
    assert not second.append(record("front", 0.5))
    assert len(read_file(first.path)) == 1


def test_a_torn_first_line_is_cut_off_too(tmp_path):
    store = Store(tmp_path, {"identity": {}})
    store.path.write_text('{"id":')
    assert store.done() == set()
    store.append(record("front", 0.5))
    assert len(store.done()) == 1


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("nothing", "no JSON object"),
        ("[]", "no JSON object"),
        ({"accuracy": None}, "'accuracy' is None"),
        ({"accuracy": True}, "'accuracy' is True"),
        ({"id": []}, r"'id' is \[\]"),
        ({"measurement": {}}, "measurement: 'cpu_seconds' is missing"),
    ],
)
def test_a_damaged_line_is_told(tmp_path, line, why, capsys):
    damaged = line if isinstance(line, str) else json.dumps(record("full", 0.5) | line)
    (tmp_path / "records.jsonl").write_text(json.dumps(record("front", 0.5)) + f"\n{damaged}\n")
    with pytest.raises(TbftError, match=f"line 2 is no record .{why}"):
        read_records(tmp_path)
    assert main(["report", "--records", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "line 2" in capsys.readouterr().err


def test_a_folder_without_records_is_told(tmp_path):
    with pytest.raises(TbftError, match="holds no records"):
        read_records(tmp_path / "elsewhere")


@pytest.mark.parametrize("content", ["{", "[]", "{}"])
def test_damaged_arguments_are_told(tmp_path, content):
    (tmp_path / "arguments.json").write_text(content)
    with pytest.raises(TbftError, match="other arguments"):
        Store(tmp_path, {"identity": {"recipe": "paper"}})


def test_a_folder_of_other_arguments_is_refused(tmp_path):
    Store(tmp_path, {"identity": {"recipe": "paper"}, "notes": []})
    Store(tmp_path, {"identity": {"recipe": "paper"}, "notes": ["said otherwise"]})
    with pytest.raises(TbftError, match="other arguments"):
        Store(tmp_path, {"identity": {"recipe": "fast"}, "notes": []})


def test_numbers_that_json_has_no_word_for_are_refused(tmp_path):
    store = Store(tmp_path, {"identity": {}})
    with pytest.raises(ValueError, match="not JSON compliant"):
        store.append(record("front", float("nan")))
    assert not store.done()


def measured(cpu_seconds: float, joules: float | None = None) -> dict:
    kind = "unavailable" if joules is None else "measured"
    return {"cpu_seconds": cpu_seconds, "energy_joules": joules, "energy_kind": kind}


def record(method: str, accuracy: float, **changes: object) -> dict:
    made = {
        "experiment": "cifar10-c", "quick": False, "recipe": "paper", "model": "resnet26-cifar10",
        "data": "CIFAR-10 test set (JPEG copy)", "drift": "fog:5", "noised": None, "method": method,
        "arm": method, "size": 10, "seed": 0, "accuracy": accuracy, "finished": "2026-01-01T00:00:00Z",
        "measurement": measured(1.0), "base_fingerprint": "4b64b7", "engine": "serial", "versions": {},
        "machine": {}, "commit": None, "dirty": False,
    }  # fmt: skip
    made |= changes
    return {"id": str(sorted(map(str, made.items()))), **made}


def test_a_figure_is_the_mean_over_seeds_of_means_over_drifts():
    values = {("fog:5", 0): 0.6, ("snow:5", 0): 0.8, ("fog:5", 1): 0.7, ("snow:5", 1): 0.9}
    records = [record("front", v, drift=drift, seed=seed) for (drift, seed), v in values.items()]
    records.append(record("front", 0.1, seed=2))  # has no snow: this seed does not count
    (table,) = tables_of(records)
    figure = table.figure("front", "10 %")
    assert figure.accuracy == pytest.approx(0.75)
    assert figure.by_seed == pytest.approx({0: 0.7, 1: 0.8})
    assert figure.half_width == pytest.approx(12.706 * 0.05, rel=1e-3)  # t of one degree, times s / sqrt(2)
    assert figure.cpu_ratio is None
    assert len(figure.runs) == 4
    assert table.complete == {"10 %": False}
    detail = table.detail["10 %"]["fog:5"]["front"]
    assert detail.accuracy == pytest.approx((0.6 + 0.7 + 0.1) / 3)


def test_block_average_best_arm_and_cost():
    accuracies = {"front": 0.7, "layer2": 0.6, "layer3": 0.5, "rear": 0.4, "full": 0.65, "ours": 0.72}
    seconds = {"front": 8, "layer2": 6, "layer3": 4, "rear": 2, "full": 10, "ours": 1}
    records = []
    for method, accuracy in accuracies.items():
        records.append(record(method, accuracy, measurement=measured(seconds[method])))
    (table,) = tables_of(records)
    assert table.figure(BLOCK_AVERAGE, "10 %").accuracy == pytest.approx(0.55)
    assert table.figure(BLOCK_AVERAGE, "10 %").cpu_ratio == pytest.approx(0.5)
    assert table.figure("ours", "10 %").cpu_ratio == pytest.approx(0.1)
    assert table.best == {"10 %": "ours"}
    assert table.best_block == {"10 %": "front"}
    assert list(table.figures) == [*BLOCK_METHODS, BLOCK_AVERAGE, "full", "ours"]


def test_of_a_run_with_two_definitions_the_later_counts():
    records = [record("ours", 0.9, finished="2026-01-02T00:00:00Z"), record("ours", 0.1)]
    (table,) = tables_of(records)
    assert table.figure("ours", "10 %").accuracy == 0.9


def test_what_is_the_same_with_every_recipe_is_in_the_tables_of_all():
    records = [record("front", 0.5), record("front", 0.6, recipe="fast"), record("ours", 0.7, recipe="fast")]
    paper, fast = tables_of(records)
    assert (paper.recipe, paper.figure("front", "10 %").accuracy) == ("paper", 0.5)
    assert paper.figure("ours", "10 %") == fast.figure("ours", "10 %")
    assert [t.recipe for t in tables_of(records[1:])] == ["fast"]


def test_quick_records_and_other_bases_have_tables_of_their_own():
    records = [record("front", 0.5), record("front", 0.6, quick=True), record("front", 0.7, model="mine")]
    found = tables_of(records)
    assert [(t.quick, t.model) for t in found] == [
        (False, "mine"), (False, "resnet26-cifar10"), (True, "resnet26-cifar10"),
    ]  # fmt: skip
    assert found[2].published == {}


def test_other_weights_data_and_versions_of_a_recipe_have_tables_of_their_own():
    """Files may be called the same, and `fast` may change; the folder's hash tells."""
    records = [
        record("front", 0.9, source="a", group="1"),
        record("front", 0.2, source="b", group="2", seed=1),
        record("full", 0.3, source="b", group="3", recipe="fast"),
        record("ours", 0.4, source="b", group="3", recipe="fast"),
    ]
    found = {t.group: {m: f["10 %"].accuracy for m, f in t.figures.items()} for t in tables_of(records)}
    assert found == {"1": {"front": 0.9}, "2": {"front": 0.2, "ours": 0.4}, "3": {"full": 0.3, "ours": 0.4}}


def test_folders_tell_what_must_not_mix(tmp_path):
    for recipe, base in (("paper", "a"), ("fast", "a"), ("paper", "b")):
        store = Store(tmp_path / f"{recipe}-{base}", {"identity": {"recipe": recipe, "base": base}})
        store.append(record("front", 0.5, recipe=recipe, base_fingerprint=base))
    places = {(r["recipe"], r["base_fingerprint"]): (r["group"], r["source"]) for r in read_records(tmp_path)}
    assert len({group for group, _ in places.values()}) == 3
    assert places["paper", "a"][1] == places["fast", "a"][1] != places["paper", "b"][1]


def test_a_drift_just_begun_does_not_empty_a_column_nor_a_method_tried_on_few_narrow_it():
    records = [record(m, 0.5, drift=d) for m in ("front", "full") for d in ("fog:5", "snow:5", "frost:5")]
    records += [record("front", 0.9, drift="contrast:5"), record("memo", 0.4, drift="fog:5")]
    (table,) = tables_of(records)
    assert table.figure("full", "10 %").accuracy == table.figure("front", "10 %").accuracy == 0.5
    assert table.figure("memo", "10 %") is None
    assert table.detail["10 %"]["fog:5"]["memo"].accuracy == 0.4
    assert "contrast:5" not in table.detail["10 %"]


def test_the_cost_of_a_part_is_that_of_the_whole():
    """MEMO is evaluated on a few samples; others, on all of the test part."""
    few = record("memo", 0.4, test_samples=1500, details={"samples_evaluated": 200})
    (table,) = tables_of([few, record("full", 0.5, test_samples=1500)])
    assert table.figure("memo", "10 %").cpu_seconds == pytest.approx(7.5)
    assert table.figure("memo", "10 %").cpu_ratio == pytest.approx(7.5)
    assert table.figure("full", "10 %").cpu_seconds == 1.0


def test_energy_is_given_where_all_runs_have_the_same_kind():
    known = [record("front", 0.5, seed=s, measurement=measured(1.0, 4.0)) for s in (0, 1)]
    (table,) = tables_of(known)
    figure = table.figure("front", "10 %")
    assert (figure.energy_joules, figure.energy_kind) == (
        4.0,
        "measured",
    )
    (table,) = tables_of([*known, record("front", 0.5, seed=2)])
    figure = table.figure("front", "10 %")
    assert (figure.energy_joules, figure.energy_kind) == (None, "unavailable")


def test_published_figures_are_the_papers():
    assert published("cifar-flip")["rear"]["30 %"] == (0.8491, 0.002)
    assert published("noise-motivation")["layer3"]["layer3"] == (0.8304, 0.0029)
    averages = {
        size: fmean(published("cifar10-c")[m][size][0] for m in BLOCK_METHODS)
        for size in ("10 %", "20 %", "30 %")
    }
    for size, average in averages.items():
        assert published("cifar10-c")[BLOCK_AVERAGE][size][0] == pytest.approx(average, abs=1e-4)


def whole(gain: float = 0.0, blocks_cost: float = 6.0) -> list[dict]:
    """Records of all that claims need, with the right block ahead by ten points and `gain`."""
    records = []
    for name, right in (("cifar10-c", "front"), ("tiny17", "layer3"), ("cifar-flip", "rear")):
        experiment = EXPERIMENTS[name]
        for cell in cells(experiment, seeds=2):
            for method in (*BLOCK_METHODS, "full", "ours"):
                accuracy = 0.5 + (0.1 + gain) * (method in (right, "ours")) + 0.01 * cell.seed
                cost = {"full": 10.0, "ours": 1.0}.get(method, blocks_cost)
                place = {"experiment": name, "model": experiment.model, **asdict(cell)}
                records.append(record(method, accuracy, **place, measurement=measured(cost)))
    for cell in cells(EXPERIMENTS["noise-motivation"], seeds=1):
        for method in BLOCK_METHODS:
            accuracy = 0.8 if method == cell.noised else 0.6
            records.append(
                record(method, accuracy, experiment="noise-motivation", noised=cell.noised, drift=None)
            )
    return records


def claim(records: list[dict], start: str):
    return next(c for c in claims_of(tables_of(records)) if c.claim.startswith(start))


def test_claims_are_checked_on_the_records():
    records = whole()
    front = claim(records, "input level, cifar10-c, 10 %")
    assert (front.published, front.ours, front.holds) == (3.35, 10.0, True)
    assert front.half_width == 0.0
    assert len(front.records) == 2 * 2 * 15
    assert claim(records, "noise on one block").ours == 4
    gain = claim(records, "the right block gains")
    assert (gain.published, gain.ours, gain.holds) == (
        15.3,
        7.5,
        False,
    )  # a quarter of four blocks is its own
    saving = claim(records, "tuning one block (block average) saves of full fine")
    assert (saving.published, saving.ours, saving.holds) == (41.57, 40.0, True)
    assert claim(whole(blocks_cost=9.0), "tuning one block (block average) saves of full fine").holds is False
    assert claim(whole(gain=0.1), "the right block gains").holds is True
    assert claim(whole(gain=-0.2), "output level, cifar-flip").holds is False
    assert claim(records, "feature level: layer3").claim.endswith("(tiny17)")
    assert claim(records, "ours, its choosing included").ours == 90.0


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
    assert claim(records, "the right block gains").holds is None  # it needs all four blocks, at every size
    fewer = [r for r in records if r["drift"] != "fog:5"]
    assert claim(fewer, "input level, cifar10-c, 10 %").missing.endswith("some drifts")
    assert all(c.holds is None for c in claims_of(tables_of([record("front", 0.5, quick=True)])))
    assert "open" in text_of(claims_of([]))


def test_a_claim_over_sizes_is_checked_at_those_that_are_there():
    """It names them, stands beside the paper's figure of the same sizes, and tells what else it needs."""
    records = [r for r in whole() if (r["experiment"], r["size"]) != ("cifar-flip", 30)]
    gain = claim(records, "the right block gains")
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
    assert claim(records, "ours, its choosing included").ours == 90.0


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
    assert (open_claim.holds, open_claim.missing) == (None, "a seed that both have")


def test_a_stand_in_counts_where_the_papers_own_set_has_less():
    stray = record("front", 0.1, experiment="living17", drift=None)
    assert claim([*whole(), stray], "feature level: layer3").claim.endswith("(tiny17)")
    noisy = [r | {"recipe": "fast"} for r in whole() if r["experiment"] == "noise-motivation"]
    begun = record("front", 0.1, experiment="noise-motivation", drift=None, noised="front")
    assert claim([*noisy, begun], "noise on one block").ours == 4


def test_tables_and_claims_load_no_torch(tmp_path, toys):
    write(tmp_path, whole())
    code = (
        "import sys; from paper.claims import claims_of; from paper.records import read_records;"
        "from paper.tables import tables_of; assert claims_of(tables_of(read_records(sys.argv[1])));"
        "print('torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "False\n"


def write(folder: Path, records: list[dict]) -> None:
    (folder / "e").mkdir()
    (folder / "e" / "records.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))


def test_the_page_beside_the_shipped_records_says_what_they_say():
    path = TESTS.parent / "tools" / "results.py"
    spec = importlib.util.spec_from_file_location("results", path)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    assert tool.page(tool.RESULTS) == (tool.RESULTS / "README.md").read_text(), "run: make readme"


def test_a_run_end_to_end_and_again(tmp_path, toys, capsys):
    command = ["run", "cifar-flip", "--model", "toys:net", "--data", "toys:pictures",
               "--sizes", "10", "--seeds", "1", "--out", str(tmp_path), "--json"]  # fmt: skip
    assert main(command) == 0
    counts = json.loads(capsys.readouterr().out)
    assert counts["done"] == counts["wanted"] >= 8
    records = read_records(tmp_path)
    by_method = {r["method"]: r for r in records}
    assert by_method["rear"]["arm"] == "rear" and by_method["layer2"]["arm"] == "middle"
    for one in records:
        assert (one["train_samples"], one["val_samples"], one["test_samples"]) == (150, 225, 225)
        assert 0 <= one["accuracy"] <= 1
        assert one["accuracy_before"] == by_method["none"]["accuracy"]
    assert len(by_method["full"]["history"]) >= 1
    assert by_method["none"]["measurement"]["cpu_seconds"] < by_method["full"]["measurement"]["cpu_seconds"]
    assert by_method["ours"]["choosing_cpu_seconds"] > 0
    assert by_method["ours"]["details"]["card_cpu_seconds"] > 0
    assert by_method["ours"]["details"]["acceptance_samples"] == 225

    before = read_file(next(tmp_path.glob("*/records.jsonl")))
    assert main(command) == 0
    counts = json.loads(capsys.readouterr().out)
    assert (counts["found"], counts["done"]) == (counts["wanted"], 0)
    assert read_file(next(tmp_path.glob("*/records.jsonl"))) == before

    report = write_report(tmp_path, tmp_path / "report")
    assert report.tables[0].figure("full", "10 %").cpu_ratio == 1.0


def test_the_pool_gives_the_same_accuracies_also_where_a_worker_dies(tmp_path, toys, monkeypatch):
    from paper.runner import run

    options = {"sizes": [10], "seeds": 2, "methods": METHODS}
    run(settings(), tmp_path / "serial", **options)
    monkeypatch.setenv("TOY_GRAVE", str(tmp_path / "grave"))
    summary = run(settings("toys:mortal"), tmp_path / "pool", engine="pool", workers=2, **options)
    assert (tmp_path / "grave").exists()
    assert not summary.failed
    assert accuracies(tmp_path / "serial") == accuracies(tmp_path / "pool")
    kinds = {r["measurement"]["energy_kind"] for r in read_records(tmp_path / "pool")}
    assert kinds == {"unavailable"}


def accuracies(folder: Path) -> dict:
    return {(r["method"], r["seed"]): (r["accuracy"], r["best_epoch"]) for r in read_records(folder)}


def test_a_run_whose_worker_always_dies_is_reported_and_the_rest_goes_on(tmp_path, toys, monkeypatch):
    from paper.runner import run

    monkeypatch.delenv("TOY_GRAVE", raising=False)
    summary = run(
        settings("toys:mortal"), tmp_path, sizes=[10], seeds=1, methods=["none", "full", "adabn"],
        engine="pool", workers=1,
    )  # fmt: skip
    assert [outcome.run.method for outcome in summary.failed] == ["full"]
    assert "died 2 times: exit status -9" in summary.failed[0].reason
    assert sorted(r["method"] for r in read_records(tmp_path)) == ["adabn", "none"]


@pytest.mark.parametrize(
    ("engine", "how"),
    [("serial", signal.SIGKILL), pytest.param("pool", signal.SIGINT, marks=pytest.mark.slow)],
)
def test_killed_and_resumed(tmp_path, toys, engine, how):
    """Whatever moment the process is killed at, whole lines are there, and nothing is done twice."""
    command = [sys.executable, "-m", "paper", "run", "cifar-flip", "--model", "toys:net",
               "--data", "toys:pictures", "--out", str(tmp_path), "--sizes", "10", "--engine", engine,
               "--workers", "2", "--methods", *METHODS]  # fmt: skip
    process = subprocess.Popen(
        [*command, "--seeds", "50"], stderr=subprocess.DEVNULL, preexec_fn=heed_interrupts
    )
    wait_for_lines(tmp_path, 3)
    process.send_signal(how)
    assert process.wait() == {signal.SIGKILL: -9, signal.SIGINT: 130}[how]
    (path,) = tmp_path.glob("*/records.jsonl")
    before = read_file(path)
    with path.open("a") as file:
        file.write('{"id": "half a li')
    command[command.index("--engine") + 1] = "serial"  # engines share their records
    done = subprocess.run([*command, "--seeds", "1", "--json"], capture_output=True, text=True, check=True)
    counts = json.loads(done.stdout)
    after = read_file(path)
    assert after[: len(before)] == before
    assert len({r["id"] for r in after}) == len(after)
    first = [r for r in after if r["seed"] == 0]
    assert sorted(r["method"] for r in first) == sorted(METHODS)
    assert counts["found"] + counts["done"] == len(METHODS)


class FakeCrew:
    """Workers that do as they are told, each event as `next` is to give it."""

    def __init__(self, events: list) -> None:
        self.events, self.given = list(events), []

    def hire(self, number: int) -> None: ...

    def give(self, number: int, run: Run) -> None:
        self.given.append((number, run))

    def next(self):
        number, outcome = self.events.pop(0)
        run = [run for n, run in self.given if n == number][-1]
        return number, Outcome(run, {"id": run.id}) if outcome is None else outcome

    def dismiss(self) -> None: ...


def test_an_idle_worker_may_die():
    runs = [Run("g", Cell(None, None, 10, seed), "none") for seed in range(3)]
    crew = FakeCrew([(0, None), (1, None), (1, "exit status -9"), (0, None)])
    found = list(scheduled(crew, [runs[:1], runs[1:2], runs[2:]], workers=2))
    assert sorted(outcome.run.cell.seed for outcome in found) == [0, 1, 2]
    assert all(outcome.record for outcome in found)


def test_an_idle_worker_takes_half_of_what_another_has_before_it():
    runs = [
        Run("g", Cell(None, None, 10, 0), method) for method in ("none", "adabn", "front", "rear", "full")
    ]
    crew = FakeCrew([(1, None), (1, None), (0, None), (1, None), (0, None)])
    found = list(scheduled(crew, [runs], workers=2))
    assert [(n, run.method) for n, run in crew.given] == [
        (0, "none"), (1, "rear"), (1, "full"), (1, "front"), (0, "adabn"),
    ]  # fmt: skip
    assert len(found) == len(runs)


def test_what_another_process_did_meanwhile_is_passed_over():
    runs = [Run("g", Cell(None, None, 10, seed), "none") for seed in range(3)]
    crew = FakeCrew([(0, None)])
    found = list(scheduled(crew, [runs], 1, is_done=lambda run: run.cell.seed != 1))
    assert [run.cell.seed for _, run in crew.given] == [1]
    assert {o.run.cell.seed: (bool(o.record), o.reason) for o in found} == {
        0: (False, ""), 1: (True, ""), 2: (False, ""),
    }  # fmt: skip


def test_what_does_not_follow_the_recipe_is_done_once_for_all_recipes(tmp_path, toys):
    from paper.runner import run

    options = {"sizes": [10, 10], "seeds": 1, "methods": ["none", "none", "rear"]}
    first = run(settings(), tmp_path, **options)
    assert (first.wanted, first.done) == (2, 2)
    second = run(settings(recipe="fast"), tmp_path, **options)
    assert (second.wanted, second.found, second.done) == (2, 1, 1)


def test_another_card_is_another_run_of_ours(tmp_path, toys):
    from paper.bench import Bench

    paths = [tmp_path / name for name in ("a", "b")]
    for path in paths:
        path.write_bytes(path.name.encode())
    made = [Bench(replace(settings(), card=c)).definitions()["ours"] for c in (None, *map(str, paths))]
    assert len(set(made)) == 3


def test_auto_rgn_is_as_long_as_the_arms_beside_it():
    from paper.baselines.auto_rgn import RECIPE, as_long_as
    from tbft.plan import find_recipe

    paper = find_recipe("paper").replace(epochs=50, patience=20, batch_size=16)
    made = as_long_as(paper)
    length = made.duration
    assert (length.epochs, length.patience, length.batch_size) == (50, 20, 16)
    assert made.optimization.optimizer == "adam"
    assert as_long_as(find_recipe("paper")).duration.batch_size == RECIPE.duration.batch_size


def wait_for_lines(folder: Path, count: int, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if any(path.read_bytes().count(b"\n") >= count for path in folder.glob("*/records.jsonl")):
            return
        time.sleep(0.05)
    raise AssertionError(f"no {count} records in {seconds} s")


@pytest.mark.slow
def test_ray_survives_a_killed_worker_and_has_the_same_records(tmp_path, toys, monkeypatch):
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    from paper.runner import run

    monkeypatch.setenv("TOY_GRAVE", str(tmp_path / "grave"))
    options = {"sizes": [10], "seeds": 2, "methods": METHODS}
    summary = run(settings("toys:mortal"), tmp_path / "ray", engine="ray", workers=2, **options)
    assert (tmp_path / "grave").exists()
    assert not summary.failed
    run(settings(), tmp_path / "serial", **options)
    assert accuracies(tmp_path / "ray") == accuracies(tmp_path / "serial")
    again = run(settings("toys:mortal"), tmp_path / "ray", engine="ray", workers=2, **options)
    assert again.found == again.wanted == 2 * len(METHODS)


def test_without_ray_its_extra_is_named(tmp_path, toys, monkeypatch):
    from paper.runner import run

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"tbft\[ray\]"):
        run(settings(), tmp_path, sizes=[10], seeds=1, methods=["none"], engine="ray")


def test_bad_arguments_are_told(tmp_path, toys, monkeypatch, capsys):
    start = ["run", "cifar-flip", "--out", str(tmp_path)]
    toy = ["--model", "toys:net", "--data", "toys:pictures"]
    assert main([*start, *toy, "--recipe", "best"]) == 2
    assert main([*start, *toy, "--engine", "fast"]) == 2
    assert main([*start, *toy, "--methods", "best"]) == 2
    assert main([*start, *toy, "--weights", "nowhere.pth"]) == 2
    assert main(["run", "system-cost", "--engine", "pool", "--out", str(tmp_path)]) == 2
    noisy = ["run", "noise-motivation", "--out", str(tmp_path), *toy]
    assert main(noisy) == 2
    assert main([*start, *toy, "--test-data", str(tmp_path)]) == 2
    monkeypatch.delenv("TBFT_DATA", raising=False)
    assert main(start) == 2
    told = capsys.readouterr().err
    for words in (
        "not 'best'",
        "unknown engine 'fast'",
        "unknown method 'best'",
        "nowhere.pth",
        "set TBFT_DATA",
        "leave --engine out",
        "give it with --test-data",
        "leave --test-data out",
    ):
        assert words in told, words


def test_a_part_of_a_sorted_set_has_all_classes(stripes):
    from paper.methods import some

    by_class = stripes.subset(sorted(range(len(stripes)), key=lambda i: stripes.labels[i]))
    assert some(by_class, 9, 0).class_counts() == {"row0": 3, "row1": 3, "row2": 3}
    assert len(some(by_class, 1000, 0)) == len(by_class)


def test_a_published_set_is_used_with_the_drift_that_is_on_it(tmp_path, toys):
    import numpy as np
    from toys import pictures

    from paper.runner import make_settings, run

    folder = tmp_path / "CIFAR-10-C"
    folder.mkdir()
    whole = pictures()
    np.save(folder / "labels.npy", np.tile(whole.labels, 5))  # the five severities, one after the other
    dark = np.zeros_like(whole.inputs)
    np.save(folder / "shot_noise.npy", np.concatenate([dark] * 4 + [whole.inputs]))
    np.save(folder / "contrast.npy", np.concatenate([whole.inputs] * 4 + [dark]))
    settings = make_settings("cifar10-c", model="toys:net", data=str(folder))
    options = {"sizes": [10], "seeds": 1, "methods": ["none", "full"]}
    run(settings, tmp_path / "out", corruptions=["shot_noise", "contrast"], **options)
    found = {(r["drift"], r["method"]): r for r in read_records(tmp_path / "out")}
    assert found["contrast:5", "full"]["accuracy"] == pytest.approx(1 / 3, abs=0.02)  # nothing to see
    assert found["shot_noise:5", "full"]["accuracy"] > 0.6
    assert len({r["split_digest"] for r in found.values()}) == 1


def test_noise_is_found_that_makes_the_model_as_bad_as_asked(digits_blocks, stripes):
    from paper.noise import add_noise
    from tbft.data import split_samples
    from tbft.pipeline import personalize
    from tbft.plan import Plan, find_recipe
    from tbft.verification.evaluation import evaluate_samples

    parts = split_samples(stripes, "rest", 0.2, 0.2)
    recipe = find_recipe("paper").replace(batch_size=8, epochs=8, learning_rate=0.05)
    personalize(digits_blocks, parts, plan=Plan("full", recipe)).patch.apply(digits_blocks.model)
    assert evaluate_samples(digits_blocks.model, stripes).accuracy > 0.9
    rear = {k: v.clone() for k, v in digits_blocks.model.state_dict().items()}
    std = add_noise(digits_blocks, "late", 0.6, stripes, seed=0)
    assert evaluate_samples(digits_blocks.model, stripes).accuracy == pytest.approx(0.6, abs=0.1)
    assert 1e-3 < std < 10
    changed = {k for k, v in digits_blocks.model.state_dict().items() if not v.equal(rear[k])}
    assert changed == {k for k in digits_blocks.infos[2].keys if "running" not in k and "num" not in k}


@pytest.mark.data
def test_a_quick_cell_of_the_real_thing(tmp_path, data_dir):
    from paper.runner import make_settings, run

    run(make_settings("cifar-flip", "paper", quick=True), tmp_path, methods=["none", "adabn", "rear", "ours"])
    by_method = {r["method"]: r for r in read_records(tmp_path)}
    assert by_method["rear"]["accuracy"] > by_method["adabn"]["accuracy"] + 0.3
    assert by_method["ours"]["arm"] == "fc"
    assert by_method["ours"]["accuracy"] > by_method["none"]["accuracy"] + 0.3


def test_a_file_that_only_looks_like_system_costs_is_refused(tmp_path, capsys):
    write(tmp_path, whole())
    (tmp_path / "system-cost-own.json").write_text("{}")
    assert main(["report", "--records", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "was not written by `python -m paper run system-cost`" in capsys.readouterr().err
