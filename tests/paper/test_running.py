"""Running experiments: in this process or a pool, killed and resumed, beside another process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Timer

import pytest
from conftest import heed_interrupts
from made import record

from paper import engines
from paper.cli import main
from paper.engines import Outcome, Work, outcomes
from paper.records import Store, read_file, read_records
from paper.reporting import write_report
from paper.runner import Given, Scope, make_settings, run
from paper.runs import Cell, Run, Settings

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
METHODS = ("none", "adabn", "front", "rear", "full")


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make ``toys:net`` and so on importable here and in every process that is started from here."""
    monkeypatch.syspath_prepend(HERE)
    known = [str(HERE), str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, known)))


def settings(model: str = "toys:net", recipe: str = "paper") -> Settings:
    return make_settings("cifar-flip", recipe, Given(model=model, data="toys:pictures"))


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


@pytest.mark.slow
def test_the_pool_gives_the_same_accuracies_also_where_a_worker_dies(tmp_path, toys, monkeypatch):
    scope = Scope(sizes=[10], seeds=1, methods=["none", "front", "full"])
    run(settings(), tmp_path / "serial", scope)
    monkeypatch.setenv("TOY_GRAVE", str(tmp_path / "grave"))
    summary = run(settings("toys:mortal"), tmp_path / "pool", scope, engine="pool", workers=2)
    assert (tmp_path / "grave").exists()
    assert not summary.failed
    assert accuracies(tmp_path / "serial") == accuracies(tmp_path / "pool")
    kinds = {r["measurement"]["energy_kind"] for r in read_records(tmp_path / "pool")}
    assert kinds == {"unavailable"}


def accuracies(folder: Path) -> dict:
    return {(r["method"], r["seed"]): (r["accuracy"], r["best_epoch"]) for r in read_records(folder)}


class FakePool:
    """Runs by method: ``full`` kills its worker, and the pool with it; ``front`` takes a while."""

    def __init__(self, started: list[tuple[str, int]], width: int) -> None:
        self.started, self.width, self.slow = started, width, list[Future]()

    def submit(self, _, run: Run) -> Future:
        future: Future = Future()
        self.started.append((run.method, self.width))
        if run.method == "full":
            for lost in (future, *(slow for slow in self.slow if not slow.done())):
                lost.set_exception(BrokenProcessPool())
        elif run.method == "front":
            self.slow.append(future)
            Timer(0.05, lambda: future.done() or future.set_result(Outcome(run, {"id": run.id}))).start()
        else:
            future.set_result(Outcome(run, {"id": run.id}))
        return future


@pytest.fixture
def started(monkeypatch) -> list[tuple[str, int]]:
    """(method, processes of its pool) of every run that a fake pool was given."""
    started: list[tuple[str, int]] = []

    @contextmanager
    def pool(work: Work, width: int) -> Iterator[FakePool]:
        yield FakePool(started, width)

    monkeypatch.setattr(engines, "_pool", pool)
    return started


def runs(*methods: str) -> list[Run]:
    return [Run("g", Cell(None, None, 10, 0), method) for method in methods]


WORK = Work(Settings("e", "paper", "m", None, ()), "pool", {})


def test_a_run_that_kills_its_worker_is_found_out_and_costs_no_other_run(started):
    wanted = runs("none", "front", "full", "adabn", "rear")
    found = {o.run.method: o for o in outcomes(WORK, wanted, workers=2)}
    assert started == [
        ("none", 2), ("front", 2), ("full", 2), ("front", 1), ("full", 1), ("adabn", 2), ("rear", 2)
    ]  # fmt: skip
    assert {method for method, outcome in found.items() if outcome.record is None} == {"full"}
    assert "died again" in found["full"].reason


def test_what_another_process_has_taken_is_not_started(started):
    found = list(outcomes(WORK, runs("none", "adabn"), 1, is_free=lambda run: run.method == "none"))
    assert [(o.run.method, bool(o.record), o.reason) for o in found] == [
        ("none", True, ""),
        ("adabn", False, ""),
    ]
    assert started == [("none", 1)]


@pytest.mark.slow
def test_a_run_whose_worker_always_dies_is_reported_and_the_rest_continues(tmp_path, toys, monkeypatch):
    monkeypatch.delenv("TOY_GRAVE", raising=False)
    scope = Scope(sizes=[10], seeds=1, methods=["none", "full", "adabn"])
    summary = run(settings("toys:mortal"), tmp_path, scope, engine="pool", workers=1)
    assert [outcome.run.method for outcome in summary.failed] == ["full"]
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


CLAIMING = """
import sys
from pathlib import Path
from paper.records import Store
with Store(Path(sys.argv[1]), {"identity": 1}).claims() as claim:
    print(claim("0123456789abcdef"), flush=True)
    sys.stdin.read()
"""


def test_two_processes_share_the_runs_of_a_folder(tmp_path, toys):
    """What one has claimed the other leaves alone, until the first one ends, however it ends."""
    command = [sys.executable, "-c", CLAIMING, str(tmp_path)]
    other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout and other.stdout.readline() == "True\n"
    store = Store(tmp_path, {"identity": 1})
    with store.claims() as claim:
        assert not claim("0123456789abcdef")
        assert claim("f123456789abcdef")
        other.kill()
        other.wait()
        assert claim("0123456789abcdef")
        store.append(record("front", 0.5, id="0123456789abcdef"))
        assert not claim("0123456789abcdef")
    for pipe in (other.stdin, other.stdout):
        pipe.close()


def wait_for_lines(folder: Path, count: int, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if any(path.read_bytes().count(b"\n") >= count for path in folder.glob("*/records.jsonl")):
            return
        time.sleep(0.05)
    raise AssertionError(f"no {count} records in {seconds} s")


def test_what_does_not_follow_the_recipe_is_done_once_for_all_recipes(tmp_path, toys):
    scope = Scope(sizes=[10, 10], seeds=1, methods=["none", "none", "rear"])
    first = run(settings(), tmp_path, scope)
    assert (first.wanted, first.done) == (2, 2)
    second = run(settings(recipe="fast"), tmp_path, scope)
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

    made = as_long_as(find_recipe("paper").replace(epochs=50, patience=20, batch_size=16))
    length = made.duration
    assert (length.epochs, length.patience, length.batch_size) == (50, 20, 16)
    assert made.optimization.optimizer == "adam"
    assert as_long_as(find_recipe("paper")).duration.batch_size == RECIPE.duration.batch_size


def test_bad_arguments_are_reported(tmp_path, toys, monkeypatch, capsys):
    start = ["run", "cifar-flip", "--out", str(tmp_path)]
    toy = ["--model", "toys:net", "--data", "toys:pictures"]
    assert main([*start, *toy, "--recipe", "best"]) == 2
    assert main([*start, *toy, "--engine", "fast"]) == 2
    assert main([*start, *toy, "--methods", "best"]) == 2
    assert main([*start, *toy, "--workers", "0"]) == 2
    assert main([*start, *toy, "--seeds", "0"]) == 2
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
        "0 workers",
        "0 seeds",
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

    folder = tmp_path / "CIFAR-10-C"
    folder.mkdir()
    whole = pictures()  # in no order: classes in turn would repeat anyway
    whole = whole.subset(np.random.default_rng(0).permutation(len(whole)))
    np.save(folder / "labels.npy", np.tile(whole.labels, 5))  # the five severities, one after the other
    dark = np.zeros_like(whole.inputs)
    np.save(folder / "shot_noise.npy", np.concatenate([dark] * 4 + [whole.inputs]))
    np.save(folder / "contrast.npy", np.concatenate([whole.inputs] * 4 + [dark]))
    settings = make_settings("cifar10-c", given=Given(model="toys:net", data=str(folder)))
    scope = Scope([10], 1, ["shot_noise", "contrast"], ["none", "full"])
    run(settings, tmp_path / "out", scope)
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
    run(make_settings("cifar-flip", quick=True), tmp_path, Scope(methods=["none", "adabn", "rear", "ours"]))
    by_method = {r["method"]: r for r in read_records(tmp_path)}
    assert by_method["rear"]["accuracy"] > by_method["adabn"]["accuracy"] + 0.3
    assert by_method["ours"]["arm"] in ("fc", "ridge", "prototypes")  # all of them replace the head
    assert by_method["ours"]["accuracy"] > by_method["none"]["accuracy"] + 0.3
