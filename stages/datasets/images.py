"""What every reader returns, and how one encoded image becomes pixels.

Nothing is resized or converted behind the user's back: an image that doesn't fit ends the stage with its name.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from stages.command import InputError


@dataclass(frozen=True)
class Images:
    """The images of a dataset, in the reader's order; every field has length N.

    ids : unique names.  pixels : (N, H, W, C) uint8, C = 1 or 3.  labels, paths : None where unknown.
    """

    ids: list[str]
    pixels: np.ndarray
    labels: list[int | None]
    paths: list[str | None]


def decode(source: Path | BinaryIO, name: str) -> np.ndarray:
    """One image of any format that Pillow knows as (H, W, C) uint8.  Raises InputError, which calls it `name`."""
    try:
        with Image.open(source) as picture:
            mode, pixels = picture.mode, np.asarray(picture)
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{name}: does not decode as an image: {error}") from None
    if mode not in ("L", "RGB"):
        raise InputError(f"{name}: has mode {mode}: convert it to 8-bit grey (L) or RGB")
    return pixels[..., None] if pixels.ndim == 2 else pixels


def stack(images: list[np.ndarray], name: Callable[[int], str]) -> np.ndarray:
    """Images of one size as (N, H, W, C).  name : what to call an image by its number in the InputError of another."""
    for number, image in enumerate(images):
        if image.shape != images[0].shape:
            raise InputError(
                f"{name(number)}: is {_describe(image)}, but {name(0)} is {_describe(images[0])}: "
                "all images must have one size and one number of channels"
            )
    return np.stack(images)


def _describe(image: np.ndarray) -> str:
    height, width, channels = image.shape
    return f"{width}x{height} with {channels} channel{'s' if channels > 1 else ''}"
