"""The meter, profiles and calibration, and whole runs on hardware that is not there."""

from __future__ import annotations

import json
import math
import mmap
import sys
import time
from dataclasses import asdict, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import striped
from fakes import PMIC, counting, ina219, live, put, vcgencmd, zone
from hypothesis import given
from hypothesis import strategies as st

from tbft.cli import main
from tbft.errors import ProfileError, SensorError, TbftError
from tbft.metering import NO_SENSOR, Measurement, Meter, Profile, Sensor, find_profile, measure_idle
from tbft.metering.calibration import State, fit, make_profile, measured_states, sensor_watts
from tbft.metering.loads import LOADS, Busy
from tbft.metering.measurement import added
from tbft.metering.profile import load_profile, shipped_profiles
from tbft.metering.sampling import Sampler
from tbft.models.digits import DigitsNet

BOARD = Profile("desk", "a board", "2026-11-25", "a meter", 2.0, 1.5, None, 0.1, "board", "made up")


def steady(watts: float, cumulative: bool, scope: str = "board") -> Sensor:
    """A sensor of constant power that is never late."""
    return Sensor(
        "steady",
        scope,
        "steady power",
        cumulative=cumulative,
        open=lambda: (lambda: watts * time.monotonic()) if cumulative else (lambda: watts),
        period_seconds=0.01,
    )


class Clock:
    """Time that a test sets; a sampler on it takes no readings of its own."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def sampler(clock: Clock, read, cumulative: bool = False) -> Sampler:
    sensor = Sensor("fake", "board", cumulative=cumulative, open=lambda: read, period_seconds=1000.0)
    made = Sampler(sensor, clock=clock)
    made.start()
    return made


@pytest.mark.parametrize("cumulative", [True, False])
def test_energy_is_power_times_time(cumulative):
    with Meter(steady(5.0, cumulative)) as meter:
        time.sleep(0.15)
    cost = meter.measurement
    assert (cost.energy_kind, cost.energy_source, cost.energy_scope) == ("measured", "steady power", "board")
    assert cost.energy_joules == pytest.approx(5.0 * cost.wall_seconds, rel=0.1)
    assert cost.energy_net_joules is None  # the idle power is not known
    assert cost.power_samples >= 3
    assert 0.01 <= cost.longest_gap_seconds <= cost.wall_seconds


def test_power_is_integrated_by_trapezoids():
    clock, watts = Clock(), [2.0]
    made = sampler(clock, lambda: watts[0])
    span = made.begin()
    clock.now, watts[0] = 104.0, 4.0
    made.end(span)
    made.stop()
    assert (span.joules, span.samples, span.longest_gap_seconds, made.watts) == (12.0, 2, 4.0, 4.0)


@given(st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=8), st.floats(0, 50))
def test_a_clock_that_jumps_gives_no_negative_energy(jumps, watts):
    clock = Clock()
    made = sampler(clock, lambda: watts)
    outer = made.begin()
    for jump in jumps:
        clock.now += jump
        made.end(made.begin())
    made.end(outer)
    made.stop()
    assert outer.joules is None or (math.isfinite(outer.joules) and outer.joules >= 0)


def test_a_counter_that_is_set_back_gives_no_figure():
    clock, joules = Clock(), [500.0]
    made = sampler(clock, lambda: joules[0], cumulative=True)
    span, later = made.begin(), None
    clock.now, joules[0] = 101.0, 3.0
    later = made.begin()
    clock.now, joules[0] = 102.0, 8.0
    assert (made.end(span).joules, made.end(later).joules) == (None, 5.0)
    assert "reset" in span.reason
    made.stop()


@pytest.mark.parametrize("cumulative", [True, False])
def test_without_power_there_is_no_figure(cumulative):
    made = sampler(clock := Clock(), lambda: 0.0, cumulative)
    span = made.begin()
    clock.now += 5
    assert made.end(span).joules is None
    assert span.reason in ("its counter did not move", "it showed no power")
    made.stop()


def test_windows_lie_in_each_other_and_add_up():
    with Meter(steady(4.0, True)) as meter, meter.window("all"):
        for _ in range(3):
            with meter.window("part"):
                time.sleep(0.02)
        time.sleep(0.02)
    part, whole, total = meter.windows["part"], meter.windows["all"], meter.measurement
    assert list(meter.windows) == ["part", "all"]
    for cost in (part, whole, total):
        assert cost.energy_joules == pytest.approx(4.0 * cost.wall_seconds, rel=0.2)
    assert 0.06 <= part.wall_seconds < whole.wall_seconds - 0.02 < total.wall_seconds
    assert part.power_samples >= 6


def test_kinds_never_mix_in_a_sum():
    known = Measurement(1.0, 1.0, 7, "window", 2.0, "measured", power_samples=2, longest_gap_seconds=0.1)
    failed = replace(known, energy_joules=None, energy_kind="unavailable", energy_reason="it broke")
    for both in (added(known, failed), added(failed, known)):
        assert (both.energy_joules, both.energy_kind, both.energy_reason) == (None, "unavailable", "it broke")
    guess = replace(known, energy_kind="estimated")
    assert added(known, guess).energy_joules is None


def test_a_peak_of_memory_survives_a_window_inside():
    with Meter() as meter:
        # Fresh memory: an array may take what was freed before.
        with meter.window("large"), mmap.mmap(-1, 256 << 20) as block:
            for page in range(0, len(block), mmap.PAGESIZE):
                block[page] = 1
        with meter.window("small"):
            pass
    large, small = meter.windows["large"], meter.windows["small"]
    assert meter.measurement.peak_rss_bytes >= large.peak_rss_bytes
    if large.peak_rss_scope == "window":
        assert large.peak_rss_bytes > small.peak_rss_bytes + (64 << 20)


def test_tensors_are_counted_if_asked_for():
    with Meter(count_tensors=True) as meter:
        with meter.window("large"):
            torch.zeros(1000, 1000).sum()
        with meter.window("small"):
            torch.zeros(10).sum()
    large, small = (meter.windows[name].peak_tensor_bytes for name in ("large", "small"))
    assert meter.measurement.peak_tensor_bytes >= large >= 4_000_000 > 1000 > small
    with Meter() as meter:
        pass
    assert meter.measurement.peak_tensor_bytes is None


def test_a_file_that_vanishes_costs_the_figure_and_nothing_else(tmp_path):
    folder = zone(tmp_path, "intel-rapl:0", "package-0")
    from tbft.metering import Places, find_sensor

    with Meter(find_sensor("rapl", Places(tmp_path))) as meter:
        with meter.window("before"):
            put(folder / "energy_uj", 2_000_000)
        (folder / "energy_uj").unlink()
        done = sum(range(10))
    assert done == 45
    assert meter.windows["before"].energy_joules == 2.0
    cost = meter.measurement
    assert (cost.energy_joules, cost.energy_kind) == (None, "unavailable")
    assert "rapl could not be read: FileNotFoundError" in cost.energy_reason
    assert "FileNotFoundError" in cost.energy_in_words()


def test_a_sensor_that_fell_silent_gives_no_figure():
    readings = iter([3.0, 3.0])

    def read():
        if time.monotonic() < silent_until:
            raise OSError(5, "Input/output error")
        return next(readings, 3.0)

    silent_until = 0.0
    sensor = Sensor("shaky", "board", open=lambda: read, period_seconds=0.005)
    with Meter(sensor) as meter:
        silent_until = time.monotonic() + 0.2
        time.sleep(0.3)
    assert meter.measurement.energy_joules is None
    assert "no reading for 0." in meter.measurement.energy_reason


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_nonsense_from_a_sensor_gives_no_figure(value):
    with Meter(Sensor("mad", "board", open=lambda: lambda: value)) as meter:
        pass
    assert meter.measurement.energy_joules is None
    assert "it reads" in meter.measurement.energy_reason


def test_a_sensor_that_does_not_open_and_an_error_in_the_work():
    def refuses():
        raise PermissionError(13, "Permission denied")

    with pytest.raises(ZeroDivisionError), Meter(Sensor("shut", "board", open=refuses)) as meter:
        1 / 0  # noqa: B018
    assert "PermissionError" in meter.measurement.energy_reason


def test_net_of_idle_measured_or_from_a_profile_of_the_same_scope():
    idle = measure_idle(steady(2.0, True), seconds=0.05)
    assert idle == pytest.approx(2.0, rel=0.2)
    with Meter(steady(5.0, True), idle_watts=2.0) as meter:
        time.sleep(0.05)
    cost = meter.measurement
    assert cost.energy_net_joules == pytest.approx(cost.energy_joules - 2.0 * cost.wall_seconds)
    for scope, expected in (("board", 2.0), ("package", None)):
        with Meter(steady(5.0, True, scope), BOARD) as meter:
            pass
        assert (meter.measurement.energy_kind, meter.measurement.idle_watts) == ("measured", expected)
    with pytest.raises(SensorError, match="idle power cannot be measured"):
        measure_idle(NO_SENSOR, seconds=0)


def test_an_estimate_carries_its_profile_and_error():
    with Meter(NO_SENSOR, BOARD) as meter:
        sum(range(200_000))
    cost = meter.measurement
    assert cost.energy_joules == pytest.approx(2.0 * cost.wall_seconds + 1.5 * cost.cpu_seconds)
    assert cost.energy_net_joules == pytest.approx(1.5 * cost.cpu_seconds)
    assert (cost.energy_kind, cost.energy_source) == ("estimated", "profile desk")
    assert (cost.energy_scope, cost.energy_relative_error) == ("board", 0.1)
    assert "± 10 % estimated (board, by profile desk)" in cost.energy_in_words()


def test_without_sensor_and_profile_there_are_no_joules(monkeypatch, tmp_path):
    with Meter() as meter:
        pass
    assert (meter.measurement.energy_joules, meter.measurement.energy_kind) == (None, "unavailable")
    BOARD.save(tmp_path / "desk.json")
    monkeypatch.setenv("TBFT_PROFILE", str(tmp_path / "desk.json"))
    with Meter() as meter:
        pass
    assert meter.measurement.energy_kind == "estimated"


def test_work_queued_on_a_gpu_is_waited_for(monkeypatch):
    waits = []
    cuda = SimpleNamespace(
        is_available=lambda: True, is_initialized=lambda: True, synchronize=lambda: waits.append(1)
    )
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    with Meter(NO_SENSOR) as meter, meter.window("w"):
        pass
    assert len(waits) == 4


def test_live_shows_watts_and_the_processor():
    with Meter(steady(5.0, False)) as meter:
        time.sleep(0.03)
        assert "of a core, 5.0 W" in meter.live()
    with Meter(NO_SENSOR) as meter:
        assert meter.live().endswith("of a core")


def test_a_log_that_grows_is_read_at_the_end(tmp_path, monkeypatch):
    path = tmp_path / "meter.csv"
    now = time.time()
    path.write_text("time,watts\n" + "".join(f"{now + t},3.0\n" for t in range(-2, 5)))
    monkeypatch.setenv("TBFT_METER_LOG", str(path))
    with Meter() as meter:
        time.sleep(0.05)
    cost = meter.measurement
    assert (cost.energy_kind, cost.energy_source) == ("measured", "meter log meter.csv")
    assert cost.energy_joules == pytest.approx(3.0 * cost.wall_seconds, rel=1e-3)
    path.write_text("time,watts\n1,3\n2,3\n")
    with Meter() as meter:
        pass
    assert "are the clocks the same" in meter.measurement.energy_reason


def test_profiles_come_back_as_they_were_saved(tmp_path):
    BOARD.save(tmp_path / "desk.json")
    assert find_profile(str(tmp_path / "desk.json")) == BOARD
    assert find_profile(None) is None
    with pytest.raises(ProfileError, match="did you mean 'raspberry-pi-5'"):
        find_profile("rasberry-pi-5")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"idle_watts": -1}, "idle_watts has to be a number from 0"),
        ({"watts_per_core": None}, "watts_per_core has to be"),
        ({"watts_per_core": True}, "watts_per_core has to be"),
        ({"relative_error": "10 %"}, "relative_error has to be"),
        ({"scope": "bord"}, "did you mean 'board'"),
        ({"source": ""}, "source is missing"),
        ({"surprise": 1}, "unknown key .surprise."),
    ],
)
def test_a_damaged_profile_says_what_is_wrong(tmp_path, change, message):
    path = tmp_path / "p.json"
    path.write_text(json.dumps({**asdict(BOARD), **change}))
    with pytest.raises(ProfileError, match=message):
        load_profile(path)
    path.write_text("{")
    with pytest.raises(ProfileError, match="is not usable"):
        load_profile(path)
    path.write_text("{}")
    with pytest.raises(ProfileError, match=r"lacks .*board"):
        load_profile(path)


def test_every_shipped_profile_has_a_source_that_can_be_found():
    shipped = shipped_profiles()
    assert {"raspberry-pi-4", "raspberry-pi-5", "paper-raspberry-pi-32px"} <= set(shipped)
    for name, profile in shipped.items():
        assert profile.name == name
        assert any(word in profile.source for word in ("commit", "arXiv"))
    paper = shipped["paper-raspberry-pi-32px"]
    assert paper.net_joules(0.53) == pytest.approx(0.106)  # full fine-tuning, as printed
    with pytest.raises(ProfileError, match="only the power above idle"):
        paper.joules(1.0, 1.0)
    with Meter(NO_SENSOR, paper) as meter:
        pass
    assert (meter.measurement.energy_joules, meter.measurement.energy_kind) == (None, "estimated")
    assert "above idle estimated" in meter.measurement.energy_in_words()


@given(
    st.floats(0.5, 20),
    st.floats(0.5, 10),
    st.lists(st.floats(0.2, 8), min_size=2, max_size=12),
    st.floats(0.1, 5),
)
def test_a_fit_finds_the_line_that_made_the_points(idle, per_core, busy, gflop):
    states = [State("idle", 0, idle), State("plain", 1, idle + per_core, 0, 1.0)]
    states += [
        State("convolution", 1, idle + per_core * b, 0, b, gflops_per_second=per_core * b / gflop)
        for b in busy
    ]
    found = fit(states)
    assert found.idle_watts == pytest.approx(idle, rel=1e-6)
    assert found.watts_per_core == pytest.approx(per_core, rel=1e-6)
    assert found.joules_per_gflop == pytest.approx(gflop, rel=1e-6)
    assert found.relative_error < 1e-6
    assert found.watts_per_core_by_load["convolution"] == pytest.approx(per_core, rel=1e-6)


def test_a_fit_reports_its_residuals_and_refuses_what_cannot_be_fitted():
    states = [State("idle", 0, 2.0), State("plain", 1, 3.1, 0, 1), State("memory", 1, 2.9, 0, 1)]
    found = fit([*states, State("plain", 2, 4.0, 0, 2)])
    assert sum(found.residual_watts) == pytest.approx(0, abs=1e-9)
    assert found.relative_error == pytest.approx(math.sqrt(2) * 0.1 / 3 / math.sqrt(2), rel=0.01)
    with pytest.raises(ProfileError, match="three states"):
        fit(states[:2])
    with pytest.raises(ProfileError, match="does not rise"):
        fit([State("idle", 0, 3.0), State("plain", 1, 3.0, 0, 1), State("plain", 2, 3.0, 0, 2)])
    profile = make_profile(fit(states), states, "desk", "a board", "a meter", "board")
    assert profile.joules(2.0, 1.0) == pytest.approx(2 * 2.0 + 1.0)
    assert len(profile.fit["states"]) == 3


@pytest.mark.parametrize("load", list(LOADS))
def test_a_load_keeps_a_core_busy(load):
    with Busy(load, 1) as busy:
        time.sleep(0.3)
    assert 0 < busy.cores < 1.1
    assert (busy.gflops_per_second > 0) == (load == "convolution")
    with pytest.raises(TbftError, match="unknown load"):
        Busy("nothing", 1)


def test_states_are_measured_with_a_sensor():
    watts_of = sensor_watts(steady(3.0, True), seconds=0.25, parts=2)
    idle, busy = measured_states(watts_of, loads=["plain"], cores=1)
    assert (idle.load, idle.busy_cores, busy.cores) == ("idle", 0.0, 1)
    assert idle.watts == pytest.approx(3.0, rel=0.2)
    with pytest.raises(SensorError, match="no power while idle"):
        next(measured_states(sensor_watts(NO_SENSOR, 0.0)))


# Whole runs at the command line


@pytest.fixture
def adapting(tmp_path, monkeypatch):
    """A small network and a set, and a command that adapts to it for a second or so."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    torch.save(DigitsNet(10).state_dict(), "base.pt")
    samples = striped(120)
    np.savez("set.npz", images=samples.inputs, labels=samples.labels)
    monkeypatch.setenv("TBFT_SYSFS_ROOT", str(tmp_path / "sys"))
    return ("personalize digits --weights base.pt --data set.npz --train 0.4 --val 0.2 --test 0.2 --arm full "
            "--batch-size 4 --epochs 40 --learning-rate 0.02 --json").split()  # fmt: skip


def test_a_run_on_a_rapl_that_wraps_comes_out_within_2_percent(adapting, tmp_path, capsys):
    folder = zone(tmp_path / "sys", "intel-rapl:0", "package-0")
    with counting(folder, watts=12.5, most=20_000_000, before=19_500_000):
        assert main([*adapting, "--out", "user.safetensors"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert 12.5 * result["wall_seconds"] > 0.5  # it went round
    assert result["energy_joules"] == pytest.approx(12.5 * result["wall_seconds"], rel=0.02)
    assert (result["energy_kind"], result["energy_source"]) == ("measured", "rapl package-0")
    assert main(["patch", "show", "user.safetensors", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["measured"]["energy_joules"] == result["energy_joules"]


def test_a_run_on_an_ina_comes_out_within_2_percent(adapting, tmp_path, capsys):
    folder = ina219(tmp_path / "sys")
    with live(folder / "power1_input", lambda t: round(1e6 * (4 + math.sin(2 * math.pi * t)))):
        assert main([a for a in adapting if a != "--json"]) == 0
    assert "measured, by hwmon ina219" in capsys.readouterr().out
    put(folder / "power1_input", 4_000_000)
    assert main([*adapting, "--profile", "raspberry-pi-4"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["energy_joules"] == pytest.approx(4 * result["wall_seconds"], rel=0.02)
    net = result["energy_joules"] - 2.2857 * result["wall_seconds"]
    assert (result["energy_net_joules"], result["energy_scope"]) == (pytest.approx(net), "board")


def test_a_run_on_a_pi_5_and_one_with_a_profile(adapting, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("TBFT_VCGENCMD", str(vcgencmd(tmp_path, PMIC)))
    assert main([*adapting, "--sensor", "pmic-board"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["energy_joules"] == pytest.approx(3.90869 * result["wall_seconds"], rel=0.02)
    assert (result["energy_kind"], result["energy_scope"]) == ("estimated", "board")
    assert main([*adapting, "--sensor", "none", "--profile", "raspberry-pi-5"]) == 0
    result = json.loads(capsys.readouterr().out)
    expected = 2.8 * result["wall_seconds"] + 1.725 * result["cpu_seconds"]
    assert (result["energy_joules"], result["energy_source"]) == (
        pytest.approx(expected),
        "profile raspberry-pi-5",
    )
    for wrong in (["--profile", "nothing"], ["--sensor", "rapl"]):
        assert main([*adapting, *wrong]) == 2
    assert "has no package zone" in capsys.readouterr().err


def test_probe_shows_what_there_is_and_what_it_can_measure(tmp_path, capsys, monkeypatch):
    assert main(["energy", "probe"]) == 0
    out = capsys.readouterr().out
    assert "Energy cannot be measured here" in out
    assert main(["energy", "probe", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["taken"], found["sensors"][0]["available"]) == (None, False)
    monkeypatch.setenv("TBFT_SYSFS_ROOT", str(tmp_path))
    put(tmp_path / "firmware" / "devicetree" / "base" / "model", "Raspberry Pi 5 Model B Rev 1.0\0")
    assert main(["energy", "probe"]) == 0
    assert "--profile raspberry-pi-5." in capsys.readouterr().out
    ina219(tmp_path)
    assert main(["energy", "probe"]) == 0
    assert "Energy is measured here by ina219" in capsys.readouterr().out


def test_measure_passes_on_output_and_status(tmp_path, capfd, monkeypatch):
    work = "import sys; sum(range(3 * 10**6)); print('result'); sys.exit(3)"
    ina219(tmp_path, watts=4.0)
    monkeypatch.setenv("TBFT_SYSFS_ROOT", str(tmp_path))
    measure = ["energy", "measure", "--idle", "0.05"]
    assert main([*measure, "--", sys.executable, "-c", work]) == 3
    out, err = capfd.readouterr()
    assert (out, "J measured (board, by hwmon ina219" in err) == ("result\n", True)
    assert main([*measure, "--json", "--", sys.executable, "-c", work]) == 3
    out, err = capfd.readouterr()
    result = json.loads(out)
    assert (err, result["exit_status"]) == ("result\n", 3)
    assert result["energy_joules"] == pytest.approx(4 * result["wall_seconds"], rel=0.02)
    assert result["energy_net_joules"] == pytest.approx(0, abs=0.1)
    assert 0 < result["cpu_seconds"] < result["wall_seconds"] + 0.1
    assert main(["energy", "measure", "--sensor", "none", "--", "sh", "-c", "kill -9 $$"]) == 137
    assert main(["energy", "measure"]) == 2
    assert main(["energy", "measure", "--", "no-such-program"]) == 2
    assert "cannot run 'no-such-program'" in capfd.readouterr().err


def test_calibrate_at_the_command_line(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    calibrate = "energy calibrate --loads plain --cores 2 --seconds 0.25 --out desk.json".split()
    assert main(calibrate) == 2
    assert "give --typed" in capsys.readouterr().err

    class Full(Busy):  # real ones get less of a busy machine in a moment
        def __exit__(self, *of):
            super().__exit__(*of)
            self.cores = self._count

    monkeypatch.setattr("tbft.metering.calibration.Busy", Full)
    typed = iter(["2.0 2.1\n", "oops\n", "3,0\n", "4.0\n"])
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(readline=lambda: next(typed, "")))
    assert main([*calibrate, "--typed", "--meter", "UM25C", "--board", "desk"]) == 0
    captured = capsys.readouterr()
    assert "enter a number such as 3.42" in captured.err
    assert "W per busy core" in captured.out
    profile = load_profile("desk.json")
    assert (profile.name, profile.meter, profile.board) == ("desk", "UM25C", "desk")
    assert [s["watts"] for s in profile.fit["states"]] == [pytest.approx(2.05), 3.0, 4.0]
    assert main([*calibrate, "--typed"]) == 2
    assert "the input ended" in capsys.readouterr().err
    monkeypatch.setenv("TBFT_SYSFS_ROOT", str(tmp_path / "sys"))
    ina219(tmp_path / "sys")  # shows the same whatever the board does
    assert main(calibrate) == 2
    assert "does not rise with busy cores" in capsys.readouterr().err


def test_a_log_is_read_for_a_span_of_time(tmp_path, capsys):
    path = tmp_path / "meter.csv"
    path.write_text("time,watts,marker\n0,2,\n1,2,x\n2,2,\n3,2,\n")
    assert main(["energy", "log", str(path), "--start", "1000", "--seconds", "2", "--marker", "1000"]) == 0
    assert "4.000 J, 2.000 W on average" in capsys.readouterr().out
    assert (
        main(["energy", "log", str(path), "--start", "7", "--seconds", "1", "--offset", "6", "--json"]) == 0
    )
    assert json.loads(capsys.readouterr().out)["joules"] == 2.0
    assert main(["energy", "log", str(path), "--start", "7", "--seconds", "1"]) == 2
