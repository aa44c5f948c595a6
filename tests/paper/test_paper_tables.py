"""From records to figures: what is averaged, what is kept apart."""

from __future__ import annotations

from statistics import fmean

import pytest
from made import measured, record

from paper.experiments import BLOCK_METHODS
from paper.published import BLOCK_AVERAGE, published
from paper.tables import tables_of


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


def test_runs_on_a_gpu_or_another_processor_count_for_accuracy_and_not_for_cost():
    there = {"machine": {"processor": "other chip", "system": "Linux", "cores": 16}}
    records = [
        record("full", 0.6, measurement=measured(10.0)),
        record("front", 0.7, measurement=measured(6.0)),
    ]
    records += [
        record("full", 0.8, seed=1, device="cuda", measurement=measured(1.0)),
        record("front", 0.9, seed=1, device="cuda", measurement=measured(1.0)),
        record("full", 0.8, seed=2, measurement=measured(2.0), **there),
        record("front", 0.9, seed=2, measurement=measured(5.0)),
    ]
    (table,) = tables_of(records)
    front = table.figure("front", "10 %")
    assert front.by_seed == {0: 0.7, 1: 0.9, 2: 0.9}
    assert front.cpu_ratio == 0.6
    assert front.cpu_seconds == 5.5
    only_there = tables_of([r for r in records if r["seed"] == 1])[0].figure("front", "10 %")
    assert only_there.cpu_seconds is None
    assert only_there.cpu_ratio is None
