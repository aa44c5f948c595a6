"""What a model takes in, for readers to check and fit data to."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class InputSpec:
    """What a model takes in. The default takes anything as it is.

    Attributes:
        class_names: the model's outputs in order; a class folder with another name is an error.
        resolution: side of the square pictures in px; other pictures are resized and cropped.
        channels: of the pictures.
        folders: the class folders to read; others are passed over. Default: all.
        mixed: accept pictures of mixed sizes and channels in one set, as photos are.
    """

    class_names: tuple[str, ...] | None = None
    resolution: int | None = None
    channels: int | None = None
    mixed: bool = False
    folders: frozenset[str] | None = None
