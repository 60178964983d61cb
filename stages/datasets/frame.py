"""How an image may change on its way in: by nothing but what its dataset's entry in params.yaml says.

In this order: `bits` says how many of 16 bits are in use, `colour` converts the image, `crop` cuts its middle square
out, `size` resizes the square.  Without these keys nothing is converted, cut or resized, and an image that would need
it ends the stage.  A camera's EXIF orientation is not followed, as it is not in most training code; the notes count it.
"""

from typing import Annotated, Literal

import numpy as np
from PIL import Image
from pydantic import Field, PositiveInt

from stages.command import InputError
from stages.params import Options

MODES = {"rgb": "RGB", "grey": "L"}  # Pillow's names
DEEP = ("I", "F")  # Pillow would clip these at 255
ODDITIES = "leakgauge"  # the key of a picture's `info` that holds what `images.decode` noticed
BITS = 8  # of a channel that is kept


class Entry(Options):
    """What every entry of the `datasets` registry has; a reader's own adds to it.

    path : what the images are read from, for DVC to watch: it must exist.  Where nothing of the user's own is read, it
        is the file that knows where they come from, like stages/datasets/digits.py.
    suspects : images in question, a folder or a Parquet file, which DVC watches too; `suspects/none`: there are none.
    bits : of 16-bit images, how many bits are in use: 12 if levels run from 0 to 4095.  The upper 8 of these are kept;
        a level that needs more bits ends the stage.  In colour it can only be 16, for Pillow keeps the upper 8 alone.
    colour : rgb, or grey (ITU-R 601 luma); transparency is dropped.
    crop : centre, the largest square in the middle; where it cannot be exact, half a pixel up or to the left of it.
    size : width and height in pixels, up or down by Pillow's antialiased LANCZOS.
    """

    source: str
    path: str
    suspects: str = "suspects"
    bits: Annotated[int, Field(ge=8, le=16)] | None = None
    colour: Literal["rgb", "grey"] | None = None
    crop: Literal["centre"] | None = None
    size: PositiveInt | None = None


def frame(picture: Image.Image, entry: Entry, name: str) -> np.ndarray:
    """An image as its entry asks for it, (H, W, C) uint8, C = 1 or 3.  Raises InputError, which calls it `name`."""
    picture = _coloured(_shallow(picture, entry, name), entry, name)
    width, height = picture.size
    if entry.crop:
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        picture = picture.crop((left, top, left + side, top + side))
    if entry.size:
        if picture.width != picture.height:
            raise InputError(
                f"{name}: is {width}x{height}, no square that `size` could resize: `crop: centre` in the dataset's "
                "entry of params.yaml would cut its middle out"
            )
        picture = picture.resize((entry.size, entry.size), Image.Resampling.LANCZOS)
    pixels = np.asarray(picture)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _shallow(picture: Image.Image, entry: Entry, name: str) -> Image.Image:
    """A picture of 8 bits a channel of one of 16, by the range that its entry names; others as they are."""
    if picture.mode.startswith("I;16"):
        levels = np.asarray(picture)
        highest = int(levels.max())
        if entry.bits is None:
            raise InputError(
                f"{name}: has 16 bits a pixel and levels up to {highest}: say how many bits are in use by `bits` in "
                f"the dataset's entry of params.yaml, like `bits: 12` for levels 0 to 4095; this image needs at least "
                f"`bits: {max(BITS, highest.bit_length())}`"
            )
        if highest >= 2**entry.bits:
            raise InputError(
                f"{name}: has level {highest}, above {2**entry.bits - 1}, the highest of `bits: {entry.bits}` in the "
                "dataset's entry of params.yaml: raise `bits`, for all images are scaled alike"
            )
        return Image.fromarray((levels >> (entry.bits - BITS)).astype(np.uint8))
    if "deep" in picture.info.get(ODDITIES, []) and entry.bits != 16:
        raise InputError(
            f"{name}: has 16 bits a channel in colour: if all 16 are in use, `bits: 16` in the dataset's entry of "
            "params.yaml keeps the upper 8; if fewer are, convert it to 8 bits a channel yourself"
        )
    return picture


def _coloured(picture: Image.Image, entry: Entry, name: str) -> Image.Image:
    """In mode L or RGB."""
    if entry.colour is None:
        if picture.mode in MODES.values():
            return picture
        raise InputError(
            f"{name}: has mode {picture.mode}, neither 8-bit grey (L) nor RGB: `colour: rgb` (or grey) in the "
            "dataset's entry of params.yaml would convert it"
        )
    try:
        if picture.mode in DEEP:
            raise ValueError("its grey levels have no known range")
        return picture.convert(MODES[entry.colour])
    except ValueError as error:
        raise InputError(f"{name}: has mode {picture.mode}, convert it to 8 bits a channel yourself: {error}") from None
