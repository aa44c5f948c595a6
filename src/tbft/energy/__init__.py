"""Metering of what adaptation costs."""

from tbft.energy.meter import Measurement, Meter

__all__ = ["Measurement", "Meter"]
