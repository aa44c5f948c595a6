"""An experiment expands into cells and runs, each with an id of its own."""

from __future__ import annotations

import pytest

from paper.experiments import BLOCK_METHODS, CORRUPTIONS, EXPERIMENTS, find_experiment
from paper.runs import Cell, Run, cells
from tbft.data.cifar10c import COMMON
from tbft.errors import TbftError


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
