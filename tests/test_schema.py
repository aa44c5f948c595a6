"""Decoded values are typed, within limits, and shown without steering the terminal."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tbft.cli.output import VisibleStream
from tbft.errors import SchemaError, TbftError
from tbft.json_text import decode, read_json
from tbft.schema import Amount, Count, Digest, Name, Share, build
from tbft.text import visible


@dataclass(frozen=True)
class Inner:
    at: tuple[int, float]


@dataclass(frozen=True)
class Outer:
    share: Share
    name: Name
    kind: Literal["a", "b"] = "a"
    count: Count | None = None
    seconds: Amount = 0.0
    digest: Digest | None = None
    inner: tuple[Inner, ...] = ()
    words: dict[str, str] = field(default_factory=dict)
    free: dict[str, Any] = field(default_factory=dict)


RIGHT: dict[str, Any] = {
    "share": 1,
    "name": "caf\u00e9",
    "count": 3,
    "digest": "0" * 64,
    "inner": [{"at": [1, 2]}],
    "words": {"a": "b"},
    "free": {"x": [None, True, {"y": 1.5}]},
}


def test_a_right_object_becomes_its_dataclass():
    made = build(Outer, RIGHT, "it")
    assert made == Outer(
        1.0, "caf\u00e9", "a", 3, 0.0, "0" * 64, (Inner((1, 2.0)),), {"a": "b"}, RIGHT["free"]
    )
    assert type(made.share) is float


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"share": 5}, "share has to be a number from 0 to 1, not 5"),
        ({"share": True}, "share has to be a number, not true"),
        ({"share": "1"}, "share has to be a number"),
        ({"name": ""}, "name has to be a name"),
        ({"kind": "c"}, "kind has to be 'a' or 'b'"),
        ({"count": -1}, "count has to be a number from 0"),
        ({"count": 1.0}, "count has to be a whole number"),
        ({"digest": "x"}, "digest has to be a SHA-256 in hex"),
        ({"inner": [{"at": [1]}]}, r"inner\[0\]\.at has to be a list of 2"),
        ({"inner": [{}]}, r"inner\[0\] lacks at"),
        ({"inner": {}}, "inner has to be a list"),
        ({"words": {"a": 1}}, r"words\.a has to be text"),
        ({"nmae": 1}, "unknown key 'nmae': did you mean 'name'"),
    ],
)
def test_a_wrong_value_is_named(change, message):
    with pytest.raises(TbftError, match=f"it is not usable: {message}"):
        build(Outer, {**RIGHT, **change}, "it")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "NaN",
        '{"a": Infinity}',
        '{"a": 1e999}',
        f'{{"a": {"9" * 400}}}',
        f'{{"a": {"9" * 5000}}}',
        '{"a": 1, "a": 2}',
        '{"a": "\\ud800"}',
        '{"\\udfff": 1}',
        "[" * 40 + "]" * 40,
        "[" * 100_000,
        b"\xff\xfe",
    ],
)
def test_what_is_not_plain_json_is_refused(text, tmp_path):
    with pytest.raises(SchemaError, match=r"is not usable|too large"):
        decode(text, "it")
    blob = text if isinstance(text, bytes) else text.encode()
    (tmp_path / "x.json").write_bytes(blob)
    with pytest.raises(SchemaError):
        read_json(tmp_path / "x.json")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from(sorted([*RIGHT, "kind", "seconds", "other"])), JSON))
def test_no_value_at_all_ends_in_anything_but_a_dataclass_or_a_refusal(change):
    try:
        made = build(Outer, decode(json.dumps({**RIGHT, **change}), "it"), "it")
    except TbftError as error:
        str(error).encode()
    else:
        assert 0 <= made.share <= 1 and made.seconds >= 0 and made.kind in "ab"


@settings(max_examples=150, deadline=None)
@given(st.text())
def test_nothing_that_is_shown_steers_the_terminal(text):
    shown = visible(text, lines=False)
    shown.encode()
    assert not any(letter < " " or letter in "\x7f\x9b\u202e\u2066\u2028" for letter in shown)
    stream = io.StringIO()
    VisibleStream(stream).write(text)
    assert "\x1b" not in stream.getvalue() and "\r" not in stream.getvalue()


def test_progress_bars_still_move_and_names_in_them_do_not():
    stream = io.StringIO()
    out = VisibleStream(stream, progress=True)
    for text in ("\r50 %", "\n\n", "\x1b[A\x1b[A", "\r   \r", "\rreading \x1b[2J\rx"):
        out.write(text)
    assert stream.getvalue() == "\r50 %\n\n\x1b[A\x1b[A\r   \r\rreading \\x1b[2J\\rx"
