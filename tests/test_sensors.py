"""Sensors, on trees of sysfs and commands that stand in for hardware."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from fakes import PMIC, ina219, put, vcgencmd, zone
from hypothesis import given
from hypothesis import strategies as st

from tbft.errors import SensorError
from tbft.metering import NO_SENSOR, Places, Sensor, find_sensor, find_sensors, registry
from tbft.metering.meterlog import MeterLog, read_log
from tbft.metering.pmic import board_watts, rail_watts
from tbft.metering.powercap import counted, counters
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


def test_rapl_for_root_alone_tells_the_remedy(tmp_path, monkeypatch):
    zone(tmp_path, "intel-rapl:0", "package-0")
    real = Path.read_text

    def read_text(path, *args, **kwargs):
        if path.name == "energy_uj":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *args, **kwargs)

    monkeypatch.setattr(Path, "read_text", read_text)
    with pytest.raises(SensorError, match=r"root alone; sudo chmod a\+r"):
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
        total += counted(value, after, most)
        value = after
    assert total == sum(taken)


def test_each_zone_wraps_on_its_own(tmp_path):
    zones = [zone(tmp_path, f"intel-rapl:{i}", f"package-{i}", 90, most=100) for i in (0, 1)]
    read = counters(zones)
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


def test_nvml_counts_energy_or_else_reads_power(tmp_path, monkeypatch):
    class NVMLError(Exception):
        pass

    def not_supported(handle):
        raise NVMLError("Not Supported")

    fake = SimpleNamespace(
        NVMLError=NVMLError,
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: 2,
        nvmlDeviceGetHandleByIndex=lambda i: i,
        nvmlDeviceGetTotalEnergyConsumption=lambda handle: 1500 * (handle + 1),
        nvmlDeviceGetPowerUsage=lambda handle: 30_000,
    )
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    sensor = find_sensor("nvml", at(tmp_path))
    assert (sensor.scope, sensor.cumulative, sensor.open()()) == ("gpu", True, 4.5)
    fake.nvmlDeviceGetTotalEnergyConsumption = not_supported
    sensor = find_sensor("nvml", at(tmp_path))
    assert (sensor.cumulative, sensor.open()()) == (False, 60.0)
    fake.nvmlInit = lambda: not_supported(0)
    with pytest.raises(SensorError, match="NVML does not answer: Not Supported"):
        find_sensor("nvml", at(tmp_path))


def test_a_battery_speaks_while_it_discharges(tmp_path):
    battery = tmp_path / "class" / "power_supply" / "BAT0"
    put(battery / "type", "Battery")
    put(battery / "status", "Discharging")
    put(battery / "voltage_now", 12_000_000)
    put(battery / "current_now", -500_000)
    mouse = battery.with_name("hid-mouse")
    put(mouse / "type", "Battery")
    put(mouse / "scope", "Device")
    put(battery.with_name("AC") / "type", "Mains")
    sensor = find_sensor(None, at(tmp_path))
    assert (sensor.name, sensor.scope, sensor.open()()) == ("battery:BAT0", "battery", 6.0)
    put(battery / "power_now", 7_000_000)
    assert sensor.open()() == 7.0
    put(battery / "status", "Charging")
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
