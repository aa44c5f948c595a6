"""Memory that a step frees is there for the next one."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

from tbft.tuning import pages

CODE = """
import resource, torch
from tbft.tuning.pages import pages_kept
torch.set_num_threads(1)

def faults():
    torch.ones(4 << 20), torch.ones(1 << 18)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        torch.ones(4 << 20), torch.ones(1 << 18)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

outside = faults()
with pages_kept():
    inside, held = faults(), resident()
print(outside, inside, held - resident())
"""


@pytest.mark.skipif(pages._glibc() is None, reason="needs the malloc of glibc, as it comes")
def test_freed_memory_is_kept_inside_and_returned_afterwards():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    outside, inside, returned = map(int, done.stdout.split())
    pages_of_a_tensor = (16 << 20) // resource.getpagesize()
    assert outside > pages_of_a_tensor
    assert inside < pages_of_a_tensor / 4
    assert returned > 8 << 20


@pytest.mark.parametrize("name", ["MALLOC_ARENA_MAX", "GLIBC_TUNABLES"])
def test_settings_of_the_environment_are_left_alone(name, monkeypatch):
    monkeypatch.setenv(name, "1")
    pages._glibc.cache_clear()
    try:
        assert pages._glibc() is None
        with pages.pages_kept():
            pass
    finally:
        pages._glibc.cache_clear()
