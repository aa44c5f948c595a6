"""Patches: what tuning changed, in a small file that can be checked, applied and undone."""

from tbft.patches.patch import FORMAT_VERSION, Header, Patch, make_patch, versions

__all__ = ["FORMAT_VERSION", "Header", "Patch", "make_patch", "versions"]
