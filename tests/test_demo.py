"""The demo adapts at every level, says what its own figures say, and its last lines can be typed."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import pytest

from tbft import demo
from tbft.cli import demonstrate, main
from tbft.demo import story as telling
from tbft.errors import WriteError


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    return demo.tell(tmp_path_factory.mktemp("demo") / "files", seed=0)


def test_the_demo_adapts_at_every_level():
    outcomes = demo.run(seed=0, repeats=1)
    assert [(o.level, o.matching) for o in outcomes] == [
        ("input", "front"),
        ("feature", "late"),
        ("output", "rear"),
    ]
    for outcome in outcomes:
        own, none, full = (outcome.row(arm) for arm in (outcome.matching, "none", "full"))
        assert own.accuracy > none.accuracy + 0.5, outcome.level
        assert own.accuracy > full.accuracy - 0.06, outcome.level
        assert own.patch_bytes < 0.6 * full.patch_bytes
        assert outcome.row(demo.OURS).accuracy > none.accuracy + 0.4, outcome.level
        assert f"gains {100 * (own.accuracy - none.accuracy):.1f} points" in demo.conclusion(outcome)


def test_one_device_gains_and_the_other_is_left_alone(story):
    assert story.drifted.status == "patched"
    assert story.drifted.after.score > story.drifted.before.score + 0.4
    assert story.patched_accuracy == story.drifted.after.score
    assert story.is_undone
    assert story.page.stat().st_size > 10_000
    assert story.same.status == "unchanged"
    assert story.same.before.score > 0.9


def test_the_demo_does_not_replace_a_base_of_the_user(tmp_path):
    (tmp_path / "base.safetensors").write_bytes(b"mine")
    with pytest.raises(WriteError, match="not the demo's"):
        demo.tell(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["base.safetensors"]


def test_the_text_tells_every_step(story):
    text = "\n".join(telling.text(story))
    reasons = story.drifted.choice.diagnosis.reasons
    assert reasons and all(reason in text for reason in reasons)
    assert f"accuracy  {100 * story.drifted.before.score:.1f} %" in text
    assert "<- chosen" in text and "bit for bit" in text and "Outcome: unchanged" in text
    json.dumps(telling.to_json(story))


def test_its_last_lines_can_be_typed(story, capsys):
    for line in telling.commands(story.files):
        if "--help" not in line:
            assert main(shlex.split(line)) == 0, capsys.readouterr().err


def test_it_says_how_to_call_the_program_afterwards(tmp_path, monkeypatch):
    program = tmp_path / ".venv" / "bin" / "tbft"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program.with_name("python")))
    monkeypatch.chdir(tmp_path)
    assert demonstrate.program() == str(Path(".venv/bin/tbft"))
    monkeypatch.setenv("PATH", str(program.parent))
    assert demonstrate.program() == "tbft"
    program.unlink()
    assert demonstrate.program().endswith("-m tbft")
