"""What every reader returns, and how pictures become one array."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from stages.command import InputError
from stages.datasets.frame import Entry, frame


@dataclass(frozen=True)
class Images:
    """The images of a dataset, in the reader's order; every field has length N.

    ids : unique names.  pixels : (N, H, W, C) uint8, C = 1 or 3.  labels, paths, captions : None where unknown.
    """

    ids: list[str]
    pixels: np.ndarray
    labels: list[int | None]
    paths: list[str | None]
    captions: list[str | None] | None = None  # texts, of datasets that have them


SUFFIXES = {  # the raster formats of Pillow, without those that start other programs
    *(".apng", ".avif", ".bmp", ".dds", ".dib", ".gif", ".ico", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg"),
    *(".pbm", ".pcx", ".pgm", ".png", ".pnm", ".ppm", ".qoi", ".sgi", ".tga", ".tif", ".tiff", ".webp"),
}
FORMATS = sorted({name for suffix, name in Image.registered_extensions().items() if suffix in SUFFIXES})


def decode(source: Path | BinaryIO, name: str) -> Image.Image:
    """One image of a format that `SUFFIXES` stand for, whatever its name.  Raises InputError, which calls it `name`.

    Pillow goes by content: without the list a PostScript file under another name would run Ghostscript.
    """
    try:
        with Image.open(source, formats=FORMATS) as picture:
            picture.load()
            return picture
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{name}: does not decode as an image: {error}") from None


def from_array(pixels: np.ndarray) -> Image.Image:
    """A picture of (H, W) or (H, W, C) uint8, C = 1, 3 or 4."""
    return Image.fromarray(pixels[..., 0] if pixels.shape[2:] == (1,) else pixels)


def gather(pictures: Iterable[Image.Image], count: int, entry: Entry, name: Callable[[int], str]) -> np.ndarray:
    """`count` >= 1 pictures, framed as their entry asks, as (N, H, W, C) uint8; one is in memory at a time.

    name : what to call an image by its number.  Raises InputError for one of another size or number of channels.
    """
    pixels = np.empty(0)
    for number, picture in enumerate(tqdm(pictures, total=count, desc="read images", unit="image", disable=None)):
        image = frame(picture, entry, name(number))
        if number == 0:
            pixels = np.empty((count, *image.shape), np.uint8)
        if image.shape != pixels.shape[1:]:
            key = "size" if image.shape[:2] != pixels.shape[1:3] else "colour"
            raise InputError(
                f"{name(number)}: is {_describe(image)}, but {name(0)} is {_describe(pixels[0])}: all images must have "
                f"one size and one number of channels; `{key}` in the dataset's entry of params.yaml would make it one"
            )
        pixels[number] = image
    return pixels


def _describe(image: np.ndarray) -> str:
    height, width, channels = image.shape
    return f"{width}x{height} with {channels} channel{'s' if channels > 1 else ''}"
