"""A folder of images, searched to any depth: 8-bit grey or RGB, all of one size.

Nothing is resized or converted behind the user's back: an image that doesn't fit ends the stage with its name.
"""

from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from stages.command import InputError
from stages.datasets.images import Images

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp"}


def read(path: Path) -> Images:
    """Every image below `path`, sorted; its id is its path from there.  Raises InputError naming a bad file."""
    if not path.is_dir():
        raise InputError(f"{path}: not a folder")
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES)
    if not files:
        raise InputError(f"{path}: no images in this folder ({', '.join(sorted(SUFFIXES))})")
    images = [_read_image(file) for file in tqdm(files, desc="read images", unit="image", disable=None)]
    for file, image in zip(files, images, strict=True):
        if image.shape != images[0].shape:
            raise InputError(
                f"{file}: is {_describe(image)}, but {files[0]} is {_describe(images[0])}: "
                "all images must have one size and one number of channels"
            )
    ids = [file.relative_to(path).as_posix() for file in files]
    return Images(ids, np.stack(images), [None] * len(ids), list(ids))


def _read_image(file: Path) -> np.ndarray:
    """One image as (H, W, C) uint8."""
    try:
        with Image.open(file) as picture:
            mode, pixels = picture.mode, np.asarray(picture)
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{file}: does not decode as an image: {error}") from None
    if mode not in ("L", "RGB"):
        raise InputError(f"{file}: has mode {mode}: convert it to 8-bit grey (L) or RGB")
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _describe(image: np.ndarray) -> str:
    height, width, channels = image.shape
    return f"{width}x{height} with {channels} channel{'s' if channels > 1 else ''}"
