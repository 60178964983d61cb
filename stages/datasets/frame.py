"""How an image may change on its way in: by nothing but what its dataset's entry in params.yaml says.

In this order: `colour` converts it, `crop` cuts its middle square out, `size` resizes the square.  Without these keys
nothing is converted, cut or resized, and an image that would need it ends the stage.  A camera's note to turn its image
(EXIF) is not followed, as it is not in most training code.
"""

from typing import Literal

import numpy as np
from PIL import Image
from pydantic import PositiveInt

from stages.command import InputError
from stages.params import Options

MODES = {"rgb": "RGB", "grey": "L"}  # Pillow's names
DEEP = ("I", "F")  # Pillow would clip these at 255


class Entry(Options):
    """What every entry of the `datasets` registry has; a reader's own adds to it.

    path : what the images are read from, for DVC to watch: it must exist.  Where nothing of the user's own is read, it
        is the file that knows where they come from, like stages/datasets/digits.py.
    suspects : images in question, a folder or a Parquet file, which DVC watches too; `suspects/none`: there are none.
    colour : rgb, or grey (ITU-R 601 luma); transparency is dropped, of 16 bits the upper 8 stay.
    crop : centre, the largest square in the middle; where it cannot be exact, half a pixel up or to the left of it.
    size : width and height in pixels, up or down by Pillow's antialiased LANCZOS.
    """

    source: str
    path: str
    suspects: str = "suspects"
    colour: Literal["rgb", "grey"] | None = None
    crop: Literal["centre"] | None = None
    size: PositiveInt | None = None


def frame(picture: Image.Image, entry: Entry, name: str) -> np.ndarray:
    """An image as its entry asks for it, (H, W, C) uint8, C = 1 or 3.  Raises InputError, which calls it `name`."""
    picture = _coloured(picture, entry, name)
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


def _coloured(picture: Image.Image, entry: Entry, name: str) -> Image.Image:
    """In mode L or RGB."""
    if entry.colour is None:
        if picture.mode in MODES.values():
            return picture
        raise InputError(
            f"{name}: has mode {picture.mode}, neither 8-bit grey (L) nor RGB: `colour: rgb` (or grey) in the "
            "dataset's entry of params.yaml would convert it"
        )
    if picture.mode.startswith("I;16"):
        picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))  # Pillow would clip at 255
    try:
        if picture.mode in DEEP:
            raise ValueError("its grey levels have no known range")
        return picture.convert(MODES[entry.colour])
    except ValueError as error:
        raise InputError(f"{name}: has mode {picture.mode}, convert it to 8 bits a channel yourself: {error}") from None
