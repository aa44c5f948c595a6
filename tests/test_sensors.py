"""Sensors, on trees of sysfs and commands that stand in for hardware."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from fakes import PMIC, battery, ina219, ina3221, nvml, put, vcgencmd, zone
from hypothesis import given
from hypothesis import strategies as st

from tbft.errors import SensorError
from tbft.metering import NO_SENSOR, Places, Sensor, find_sensor, find_sensors, registry
from tbft.metering.meterlog import MeterLog, read_log
from tbft.metering.pmic import board_watts, rail_watts
from tbft.metering.powercap import counter_difference, counters
from tbft.metering.registry import best_sensor


def at(root: Path, command: str = "no-such-command", log: Path | None = None) -> Places:
    return Places(root, command, log)


def test_a_bare_machine_has_sensors_that_say_why_not(tmp_path):
    sensors = find_sensors(at(tmp_path))
    assert {s.name for s in sensors} >= {"rapl", "hwmon", "pmic", "pmic-board", "battery", "nvml"}
    assert all(not s.available and s.reason and s.remedy for s in sensors)
    assert find_sensor(None, at(tmp_path)) is NO_SENSOR
    with pytest.raises(SensorError, match="has no package zone"):
        find_sensor("rapl", at(tmp_path))
    with pytest.raises(SensorError, match="did you mean 'rapl'"):
        find_sensor("rappl", at(tmp_path))


def test_rapl_counts_packages_and_memory_and_nothing_twice(tmp_path):
    packages = [zone(tmp_path, f"intel-rapl:{i}", f"package-{i}") for i in (0, 1)]
    dram = zone(tmp_path, "intel-rapl:0/intel-rapl:0:1", "dram")
    (packages[0].parent / "intel-rapl:0:1").symlink_to(dram)  # Linux shows it twice
    others = [zone(tmp_path, "intel-rapl:0:0", "core"), zone(tmp_path, "intel-rapl:2", "psys")]
    others += [zone(tmp_path, "intel-rapl-mmio:0", "package-0")]
    put(tmp_path / "class" / "powercap" / "intel-rapl" / "enabled", 1)
    sensor = find_sensor("rapl", at(tmp_path))
    assert (sensor.source, sensor.scope) == ("rapl package-0 + dram + package-1", "package")
    read = sensor.open()
    for folder, joules in ((packages[0], 5), (packages[1], 7), (dram, 1), *((o, 100) for o in others)):
        put(folder / "energy_uj", joules * 1_000_000)
    assert read() == 13.0


def test_dies_that_show_one_counter_are_counted_once_and_others_summed(tmp_path):
    dies = [zone(tmp_path, f"intel-rapl:{i}", f"package-0-die-{i}", 1_000_000) for i in range(4)]
    drams = [zone(tmp_path, f"intel-rapl:{i}:0", "dram", 7) for i in range(4)]
    other = zone(tmp_path, "intel-rapl:9", "package-1", 5)
    sensor = find_sensor("rapl", at(tmp_path))
    assert sensor.source == "rapl package-0 (4 dies) + dram (4 dies) + package-1"
    read = sensor.open()
    for folders, value in ((dies, 11_000_000), (drams, 1_000_007), ([other], 2_000_005)):
        for folder in folders:
            put(folder / "energy_uj", value)
    assert read() == 10 + 1 + 2
    for i, die in enumerate(dies):  # each on its own after all, which shows from the first reading on
        put(die / "energy_uj", 11_000_000 + (i + 1) * 1_000_000)
    assert read() == 4 * 10 + (1 + 2 + 3 + 4) + 1 + 2


def test_mirrored_dies_may_count_on_while_they_are_read(tmp_path, monkeypatch):
    dies = [zone(tmp_path, f"intel-rapl:{i}", f"package-0-die-{i}") for i in range(3)]
    counter, real = itertools.count(1_000_000, 50), Path.read_text

    def read_text(path, *args, **kwargs):
        return str(next(counter) % 2_000_000) if path.name == "energy_uj" else real(path, *args, **kwargs)

    for die in dies:
        put(die / "max_energy_range_uj", 2_000_000)
    monkeypatch.setattr(Path, "read_text", read_text)
    read = find_sensor("rapl", at(tmp_path)).open()
    joules = [read() for _ in range(10_000)]  # several rounds of the counter
    assert joules[-1] == pytest.approx(10_000 * 4 * 50e-6, rel=1e-3)


def test_masked_counters_name_the_container(tmp_path):
    folder = tmp_path / "class" / "powercap"
    folder.mkdir(parents=True)
    for name in ("intel-rapl", "intel-rapl:0", "intel-rapl:0:0"):
        (folder / name).symlink_to(f"../../devices/virtual/powercap/intel-rapl/{name}")
    with pytest.raises(SensorError, match=r"intel-rapl:0 leads nowhere: a container hides .* mount"):
        find_sensor("rapl", at(tmp_path))


def test_rapl_for_root_alone_names_the_remedy(tmp_path, monkeypatch):
    zone(tmp_path, "intel-rapl:0", "package-0")
    real = Path.read_text

    def read_text(path, *args, **kwargs):
        if path.name == "energy_uj":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *args, **kwargs)

    monkeypatch.setattr(Path, "read_text", read_text)
    with pytest.raises(SensorError, match=r"only root may read the counters; sudo chmod a\+r"):
        find_sensor("rapl", at(tmp_path))


@given(
    most=st.integers(1, 10**12),
    start=st.integers(0, 10**12),
    steps=st.lists(st.floats(0, 0.999), max_size=20),
)
def test_wrap_around_loses_nothing(most, start, steps):
    taken = [int(share * most) for share in steps]  # less than one round between two readings
    value, total = start % most, 0
    for step in taken:
        after = (value + step) % most
        total += counter_difference(value, after, most)
        value = after
    assert total == sum(taken)


def test_each_zone_wraps_on_its_own(tmp_path):
    zones = [zone(tmp_path, f"intel-rapl:{i}", f"package-{i}", 90, most=100) for i in (0, 1)]
    read = counters([(zone,) for zone in zones])
    put(zones[0] / "energy_uj", 5)
    put(zones[1] / "energy_uj", 95)
    assert read() == pytest.approx(20e-6)


def test_hwmon_prefers_power_and_multiplies_otherwise(tmp_path):
    folder = ina219(tmp_path, watts=3.0)
    sensor = find_sensor(None, at(tmp_path))
    assert (sensor.name, sensor.scope, sensor.open()()) == ("ina219", "board", 3.0)
    put(folder / "curr1_input", 700)
    assert sensor.open()() == 3.0
    (folder / "power1_input").unlink()
    assert sensor.open()() == pytest.approx(3.5)


def test_hwmon_names_the_rails_of_a_jetson(tmp_path):
    folder = tmp_path / "class" / "hwmon" / "hwmon3"
    put(folder / "name", "ina3221")
    for n, label in ((1, "VDD_IN"), (2, "VDD_CPU_GPU_CV"), (3, "VDD_SOC")):
        put(folder / f"in{n}_label", label)
        put(folder / f"in{n}_input", 5000)
        put(folder / f"curr{n}_input", 100 * n)
    put(folder / "in3_enable", 0)
    put(folder / "in7_input", 12)  # the sum of shunt voltages, no channel
    put(folder.with_name("hwmon0") / "name", "cpu_thermal")
    found = {s.name: s for s in find_sensors(at(tmp_path)) if s.name.startswith("ina")}
    assert {n: s.scope for n, s in found.items()} == {
        "ina3221:VDD_IN": "board",
        "ina3221:VDD_CPU_GPU_CV": "rails",
    }
    assert best_sensor(list(found.values())).name == "ina3221:VDD_IN"
    put(folder / "curr1_input", "garbage")
    assert not next(s for s in find_sensors(at(tmp_path)) if s.name == "ina3221:VDD_IN").available


RAILS = (("VDD_GPU_SOC", 19_000, 800), ("VDD_CPU_CV", 19_000, 400), ("VIN_SYS_5V0", 5_000, 900))


def test_the_sum_channel_and_shunt_voltages_are_not_rails(tmp_path):
    ina3221(tmp_path, *RAILS)
    found = {s.name: s for s in find_sensors(at(tmp_path)) if s.available}
    assert {name: s.open()() for name, s in found.items()} == {
        "ina3221:rails": pytest.approx(27.3),
        "ina3221:VDD_GPU_SOC": pytest.approx(15.2),
        "ina3221:VDD_CPU_CV": pytest.approx(7.6),
        "ina3221:VIN_SYS_5V0": pytest.approx(4.5),
    }
    assert {s.scope for s in found.values()} == {"rails"}  # none is called the board
    taken = find_sensor(None, at(tmp_path))
    assert taken.source == "hwmon ina3221, VDD_GPU_SOC + VDD_CPU_CV + VIN_SYS_5V0 (hwmon1)"


def test_a_channel_of_the_board_is_never_added_to_its_rails(tmp_path):
    ina3221(tmp_path, ("VDD_IN", 5000, 1000), ("VDD_CPU_GPU_CV", 5000, 400), ("NC", 5000, 0))
    ina3221(tmp_path, ("VDD_A", 5000, 100), ("VDD_B", 5000, 100), place="hwmon4")
    found = [s for s in find_sensors(at(tmp_path)) if s.available]
    assert (found[0].name, found[0].scope) == ("ina3221:VDD_IN", "board")
    assert not any("rails" in s.name for s in found)


def test_of_several_channels_without_a_name_none_is_the_board(tmp_path):
    ina3221(tmp_path, ("", 5000, 100), ("", 5000, 200), ("", 12_000, 300))
    found = [s for s in find_sensors(at(tmp_path)) if s.available]
    assert [(s.name, s.scope) for s in found] == [
        ("ina3221", "rails"),
        ("ina3221#2", "rails"),
        ("ina3221#3", "rails"),
    ]
    assert "one of 3 channels without a name" in found[0].note


def test_two_chips_of_a_kind_have_two_names(tmp_path):
    ina219(tmp_path)
    (tmp_path / "class" / "hwmon" / "hwmon2").rename(tmp_path / "class" / "hwmon" / "hwmon9")
    ina219(tmp_path)
    names = [s.name for s in find_sensors(at(tmp_path)) if s.available]
    assert names == ["ina219", "ina219#2"]


def test_the_pmic_gives_rails_and_an_estimate_of_the_board(tmp_path):
    assert sum(rail_watts(PMIC).values()) == pytest.approx(2.9)
    command = str(vcgencmd(tmp_path))
    rails = find_sensor("pmic", at(tmp_path, command))
    board = find_sensor("pmic-board", at(tmp_path, command))
    assert (rails.scope, rails.kind, rails.open()()) == ("rails", "measured", pytest.approx(2.9))
    assert (board.scope, board.kind) == ("board", "estimated")
    assert board.open()() == pytest.approx(board_watts(2.9)) == pytest.approx(3.90869)
    assert find_sensor(None, at(tmp_path, command)).name == "pmic"  # an estimate is taken only if named


@pytest.mark.parametrize(("text", "status"), [("error=1 error_msg='Command not registered'", 0), (PMIC, 1)])
def test_a_pi_without_this_pmic_says_so(tmp_path, text, status):
    command = str(vcgencmd(tmp_path, text, status))
    with pytest.raises(SensorError, match=r"cannot be read: .*pmic_read_adc.*Raspberry Pi 5"):
        find_sensor("pmic", at(tmp_path, command))


def found_with(monkeypatch, root: Path, module: object) -> Sensor:
    monkeypatch.setitem(sys.modules, "pynvml", module)
    return next(s for s in find_sensors(at(root)) if s.name == "nvml")


def test_nvml_counts_energy_or_else_reads_power(tmp_path, monkeypatch):
    fake = nvml((1500, 30_000), (3000, 30_000))
    sensor = found_with(monkeypatch, tmp_path, fake)
    assert (sensor.scope, sensor.cumulative, sensor.open()()) == ("gpu", True, 4.5)
    sensor = found_with(monkeypatch, tmp_path, nvml((None, 30_000), (3000, 30_000)))
    assert (sensor.cumulative, sensor.open()(), sensor.source) == (False, 60.0, "nvml power of 2 GPUs")

    def no_driver():
        raise fake.NVMLError("Driver Not Loaded")

    fake.nvmlInit = no_driver
    assert "NVML does not answer: Driver Not Loaded" in found_with(monkeypatch, tmp_path, fake).reason


@pytest.mark.parametrize("card", [(None, None), (0, 0), ("N/A", None)])
def test_a_card_that_shows_no_power_is_not_called_readable(tmp_path, monkeypatch, card):
    sensor = found_with(monkeypatch, tmp_path, nvml(card))
    assert not sensor.available and "neither energy nor power of 1 GPU" in sensor.reason and sensor.remedy
    assert find_sensor(None, at(tmp_path)) is NO_SENSOR


def test_a_card_without_power_beside_another_is_named(tmp_path, monkeypatch):
    sensor = found_with(monkeypatch, tmp_path, nvml((None, None), (None, 25_000)))
    assert (sensor.source, sensor.open()()) == ("nvml power of 1 GPU", 25.0)
    assert "without card 0" in sensor.note


def test_another_package_called_pynvml_is_named(tmp_path, monkeypatch):
    for module in (
        SimpleNamespace(Device=object),
        SimpleNamespace(nvmlInit=lambda: None),
        SimpleNamespace(nvmlInit=lambda: None, nvmlDeviceGetCount=2),
    ):
        sensor = found_with(monkeypatch, tmp_path, module)
        assert "not NVIDIA's: it has no nvml" in sensor.reason and "nvidia-ml-py" in sensor.remedy
    (tmp_path / "pynvml.py").write_text("raise RuntimeError('for Python 2 only')")
    monkeypatch.delitem(sys.modules, "pynvml")
    monkeypatch.syspath_prepend(str(tmp_path))
    reason = next(s.reason for s in find_sensors(at(tmp_path)) if s.name == "nvml")
    assert "cannot be imported (for Python 2 only)" in reason


def test_several_batteries_are_summed(tmp_path):
    first = battery(tmp_path, "BAT0", microwatts=5_000_000)
    battery(tmp_path, "BAT1", microwatts=7_000_000)
    sensor = find_sensor(None, at(tmp_path))
    assert (sensor.name, sensor.open()()) == ("battery:BAT0+BAT1", 12.0)
    for state in ("Full", "Not charging", "Unknown"):  # laptops drain one after the other
        put(first / "status", state)
        assert sensor.open()() == 7.0
    put(first / "status", "Charging")
    with pytest.raises(SensorError, match="one battery charges another: BAT0 is 'charging'"):
        sensor.open()()
    put(first / "status", "Discharging")
    (first / "power_now").unlink()
    with pytest.raises(SensorError, match="BAT0 and BAT1: no power can be read"):
        find_sensor("battery:BAT0+BAT1", at(tmp_path))
    put(first / "present", 0)  # an empty bay
    assert find_sensor(None, at(tmp_path)).name == "battery:BAT1"


def test_a_battery_speaks_while_it_discharges(tmp_path):
    pack = battery(tmp_path, "BAT0")
    put(pack / "voltage_now", 12_000_000)
    put(pack / "current_now", -500_000)
    mouse = pack.with_name("hid-mouse")
    put(mouse / "type", "Battery")
    put(mouse / "scope", "Device")
    put(pack.with_name("AC") / "type", "Mains")
    sensor = find_sensor(None, at(tmp_path))
    assert (sensor.name, sensor.scope, sensor.open()()) == ("battery:BAT0", "battery", 6.0)
    put(pack / "power_now", 7_000_000)
    assert sensor.open()() == 7.0
    put(pack / "status", "Charging")
    with pytest.raises(SensorError, match="not discharging"):
        sensor.open()()
    with pytest.raises(SensorError, match="unplug the mains"):
        find_sensor("battery:BAT0", at(tmp_path))


def test_scopes_are_ranked_and_never_added_up(tmp_path):
    ina219(tmp_path)
    zone(tmp_path, "intel-rapl:0", "package-0")
    sensors = [s for s in find_sensors(at(tmp_path, str(vcgencmd(tmp_path)))) if s.available]
    assert [s.name for s in sensors] == ["ina219", "pmic", "rapl", "pmic-board"]


def write_log(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_log_of_watts_of_joules_and_of_either_clock(tmp_path):
    rows = "".join(f"{t},{w}\n" for t, w in enumerate([2, 4, 4, 2]))
    log = read_log(write_log(tmp_path / "w.csv", "time,watts\n" + rows))
    assert log.joules == (0, 3, 7, 10)
    assert log.between(0.5, 2.5).joules == pytest.approx(7.0)
    assert log.shifted(100).between(100.5, 102.5).joules == pytest.approx(7.0)
    counted_up = read_log(write_log(tmp_path / "j.csv", "Time, Joules,marker\n10,5,\n11,8,start\n12,12,\n"))
    assert counted_up.between(10, 12) == (7.0, 3, 1.0)
    assert counted_up.aligned(1000.0).between(1000, 1001).joules == 4.0
    iso = "time,watts\n2026-11-25T10:00:00Z,2\n2026-11-25T10:00:01+00:00,2\n"
    assert read_log(write_log(tmp_path / "i.csv", iso)).times[1] == pytest.approx(1795600801.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "needs columns 'time'"),
        ("time,volts\n1,2\n", "it has"),
        ("time,watts\n1,2\n", "fewer than two rows"),
        ("time,watts\n1,2\n1,2\n", "does not rise"),
        ("time,watts\n1,2\n2,\n", "write a number in every row"),
        ("time,watts\n1,2\n2,nan\n", "NaN"),
    ],
)
def test_a_log_that_cannot_be_used_says_why(tmp_path, text, message):
    with pytest.raises(SensorError, match=message):
        read_log(write_log(tmp_path / "log.csv", text))


def test_a_log_has_to_cover_the_work():
    log = MeterLog((0.0, 1.0, 2.0), (0.0, 2.0, 4.0))
    assert log.between(1.0, 3.0).joules == 4.0  # a row that is still to come
    for start, end in ((-1.0, 1.0), (0.0, 5.0)):
        with pytest.raises(SensorError, match="are the clocks the same"):
            log.between(start, end)
    with pytest.raises(SensorError, match="no marked row"):
        log.aligned(0.0)


@given(st.lists(st.tuples(st.floats(0.01, 10), st.floats(0, 100)), min_size=2, max_size=20), st.data())
def test_parts_of_a_log_add_up(rows, data):
    times, joules = [0.0], [0.0]
    for step, taken in rows:
        times.append(times[-1] + step)
        joules.append(joules[-1] + taken)
    log = MeterLog(tuple(times), tuple(joules))
    middle = data.draw(st.floats(0, times[-1]))
    whole = log.between(0, middle).joules + log.between(middle, times[-1]).joules
    assert whole == pytest.approx(joules[-1])


def test_other_packages_add_sensors_and_cannot_break_ours(tmp_path, monkeypatch):
    clamp = Sensor("clamp", "board", "a clamp meter", open=lambda: lambda: 1.0)

    def broken():
        raise RuntimeError("no such bus")

    monkeypatch.setattr(registry, "_entry_points", lambda: (lambda: lambda: [clamp], lambda: broken))
    assert find_sensor(None, at(tmp_path)) is clamp
    failed = next(s for s in find_sensors(at(tmp_path)) if s.name == "third-party")
    assert "no such bus" in (failed.reason or "")
