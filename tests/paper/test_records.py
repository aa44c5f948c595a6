"""Records survive a kill, keep apart what must not mix, and are refused when damaged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from made import record, whole, write

from paper.cli import main
from paper.records import Store, read_costs, read_file, read_records
from paper.system_cost import WAYS
from tbft.errors import TbftError


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
        ("nothing", "not a JSON object"),
        ("[]", "not a JSON object"),
        ({"accuracy": None}, "'accuracy' is None"),
        ({"accuracy": True}, "'accuracy' is True"),
        ({"id": []}, r"'id' is \[\]"),
        ({"measurement": {}}, "measurement: 'cpu_seconds' is missing"),
    ],
)
def test_a_damaged_line_is_reported(tmp_path, line, why, capsys):
    damaged = line if isinstance(line, str) else json.dumps(record("full", 0.5) | line)
    (tmp_path / "records.jsonl").write_text(json.dumps(record("front", 0.5)) + f"\n{damaged}\n")
    with pytest.raises(TbftError, match=f"line 2 is not a record .{why}"):
        read_records(tmp_path)
    assert main(["report", "--records", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "line 2" in capsys.readouterr().err


def test_a_folder_without_records_is_reported(tmp_path):
    with pytest.raises(TbftError, match="holds no records"):
        read_records(tmp_path / "elsewhere")


@pytest.mark.parametrize("content", ["{", "[]", "{}"])
def test_damaged_arguments_are_reported(tmp_path, content):
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


def test_folders_tell_what_must_not_mix(tmp_path):
    for recipe, base in (("paper", "a"), ("fast", "a"), ("paper", "b")):
        store = Store(tmp_path / f"{recipe}-{base}", {"identity": {"recipe": recipe, "base": base}})
        store.append(record("front", 0.5, recipe=recipe, base_fingerprint=base))
    places = {(r["recipe"], r["base_fingerprint"]): (r["group"], r["source"]) for r in read_records(tmp_path)}
    assert len({group for group, _ in places.values()}) == 3
    assert places["paper", "a"][1] == places["fast", "a"][1] != places["paper", "b"][1]


def test_a_file_that_only_looks_like_system_costs_is_refused(tmp_path, capsys):
    write(tmp_path, whole())
    (tmp_path / "system-cost-own.json").write_text("{}")
    assert main(["report", "--records", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "was not written by `python -m paper run system-cost`" in capsys.readouterr().err


def test_measurements_that_ship_name_the_ways_of_today():
    costs = read_costs(Path(__file__).parents[2] / "results")
    assert len(costs) == 2
    for one in costs:
        assert all([row["way"] for row in rows] == list(WAYS) for rows in one["system"].values())
