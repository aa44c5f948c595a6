"""Metering of what adaptation costs: sensors, board profiles, and the meter."""

from tbft.energy.measurement import Measurement
from tbft.energy.meter import Meter, measure_idle
from tbft.energy.profile import Profile, find_profile
from tbft.energy.registry import find_sensor, find_sensors
from tbft.energy.sensor import NO_SENSOR, Places, Sensor

__all__ = [
    "NO_SENSOR",
    "Measurement",
    "Meter",
    "Places",
    "Profile",
    "Sensor",
    "find_profile",
    "find_sensor",
    "find_sensors",
    "measure_idle",
]
