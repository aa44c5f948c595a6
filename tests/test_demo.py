"""The demo adapts at every level, and what it says comes from its own figures."""

from __future__ import annotations

from tbft import demo


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
        assert f"gains {100 * (own.accuracy - none.accuracy):.1f} points" in demo.conclusion(outcome)
