"""Where the module of a factory is looked up: where the user says, and nowhere by surprise."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tbft.data.factory import call_factory
from tbft.errors import TbftError, TbftWarning


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_module_and_its_neighbors_are_found_in_the_working_directory(place):
    Path("neighbor.py").write_text("value = 7")
    Path("own_module.py").write_text("from neighbor import value\ndef make(): return value")
    Path("pack/deep").mkdir(parents=True)
    Path("pack/deep/mod.py").write_text("def make(): return __name__")
    path = list(sys.path)
    assert call_factory("own_module:make") == 7
    assert call_factory("pack.deep.mod:make") == "pack.deep.mod"
    assert sys.path == path


def test_a_module_is_imported_anew_in_another_working_directory(place, monkeypatch):
    for name in ("one", "two"):
        Path(name).mkdir()
        Path(name, "same_name.py").write_text(f"def make(): return {name!r}")
    for name in ("one", "two"):
        monkeypatch.chdir(place / name)
        assert call_factory("same_name:make") == name


def test_other_modules_are_not_taken_from_the_working_directory(place):
    Path("this.py").write_text("def make(): return 'own'")
    Path("colorsys.py").write_text("raise SystemExit('imported by surprise')")
    Path("uses.py").write_text("import colorsys\ndef make(): return colorsys.__file__")
    assert not call_factory("uses:make").startswith(str(place))
    with pytest.warns(TbftWarning, match=r"this is taken from .*, not from "):
        assert call_factory("this:make") == "own"
    Path("json.py").touch()
    with pytest.raises(TbftError, match="the name of another module that is in use; rename it"):
        call_factory("json:make")


def test_no_command_imports_what_lies_around(place):
    for trap in ("torch", "numpy", "safetensors", "json", "argparse", "PIL", "random", "sitecustomize"):
        Path(f"{trap}.py").write_text("raise SystemExit('imported by surprise')")
    done = subprocess.run(
        [sys.executable, "-m", "tbft", "models"], capture_output=True, text=True, env=os.environ
    )
    assert done.returncode == 0, done.stderr[-500:]
