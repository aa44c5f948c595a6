"""What the files of a set are, and what decodes them."""

from __future__ import annotations

from collections.abc import Callable

from tbft.data.decoding import Decoded, decode
from tbft.data.members import Listing
from tbft.data.recordings import decode_recordings

_DECODERS: dict[str, Callable[..., Decoded]] = {"picture": decode, "recording": decode_recordings}


def decoder_of(listing: Listing) -> Callable[..., Decoded]:
    """(members, spec, name[, damaged]) -> the inputs, for the kind of files that a set holds."""
    return _DECODERS[listing.noun]
