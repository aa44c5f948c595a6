"""Patches: what tuning changed, in a small file that can be checked, applied and undone."""

from tbft.patches.header import FORMAT_VERSION, Header, versions
from tbft.patches.patch import Patch, make_patch

__all__ = ["FORMAT_VERSION", "Header", "Patch", "make_patch", "versions"]
