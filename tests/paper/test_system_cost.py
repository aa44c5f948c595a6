"""The paper's own way of tuning, and its table of costs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import striped

from paper.paper_way import SUBSTRINGS, by_substring, paper_way
from paper.system_cost import COLUMNS, one_sample, published, whole_job
from tbft.blocks import split
from tbft.data import Parts
from tbft.data.placeholder import random_pictures
from tbft.models.resnet26 import ResNet26
from tbft.plan import find_recipe


def test_the_papers_substrings_match_more_than_its_front():
    model = ResNet26()
    assert sum(p.numel() for p in by_substring(model, SUBSTRINGS["block1"])) == 180_400
    assert sum(p.numel() for p in split(model).tuned_modules("front")[0].parameters()) == 19_120


def test_the_papers_way_can_be_told_which_gradients_to_compute(digits_blocks):
    parts = Parts(striped(30), striped(15, seed=1), striped(15, seed=2), 0, None)
    once = find_recipe("paper").replace(epochs=1, batch_size=10)
    fc = list(digits_blocks.block("rear").parameters())
    every = paper_way(digits_blocks, "rear", once, parts, 0)
    few = paper_way(digits_blocks, "rear", once, parts, 0, fc)
    assert all(torch.equal(every[key], few[key]) for key in every)
    assert all(p.requires_grad and p.grad is None for p in digits_blocks.model.parameters())


def test_the_table_of_system_costs_holds_all_ways_and_blocks():
    blocks = split(ResNet26(3, 32, depth=1))
    samples = random_pictures(40, 32, classes=3)
    for rows in (one_sample(blocks, samples, 2), whole_job(blocks, samples, 40)):
        assert [row.way for row in rows] == ["substring", "optimizer only", "frozen", "tbft"]
        for row in rows:
            assert len(row.cpu_seconds) == len(COLUMNS) + 1
            assert row.cpu_seconds[4] == pytest.approx(np.mean(row.cpu_seconds[:4]))
            assert row.saving_percent[-1] is None
    assert rows[0].energy_joules is None
    assert rows[3].cpu_seconds[3] < rows[1].cpu_seconds[3] / 2  # a cached head beside every gradient


def test_published_figures_are_those_of_the_paper():
    assert published(32)["time_s"] == [0.45, 0.33, 0.29, 0.17, 0.31, 0.53]
    assert published(64) is None
