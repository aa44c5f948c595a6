"""Measures what adaptation costs: sensors, profiles of boards, and the meter."""

from tbft.metering.measurement import Measurement
from tbft.metering.meter import Meter, measure_idle
from tbft.metering.profile import Profile, find_profile
from tbft.metering.registry import find_sensor, find_sensors
from tbft.metering.sensor import NO_SENSOR, Places, Sensor

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
