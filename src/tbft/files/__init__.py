"""Files on disk: written whole or not at all, by one process at a time."""

from tbft.files.atomic import atomic_path, leftovers, move_aside, remove_unfinished
from tbft.files.claims import check_writable, claim, claimed, release_claims
from tbft.files.disk import allocate
from tbft.files.kinds import CARD, PATCH, PROFILE, RECORD, REPORT, SHEET, SHEET_MARK, WEIGHTS, Kind
from tbft.files.write_errors import explained

__all__ = [
    "CARD",
    "PATCH",
    "PROFILE",
    "RECORD",
    "REPORT",
    "SHEET",
    "SHEET_MARK",
    "WEIGHTS",
    "Kind",
    "allocate",
    "atomic_path",
    "check_writable",
    "claim",
    "claimed",
    "explained",
    "leftovers",
    "move_aside",
    "release_claims",
    "remove_unfinished",
]
