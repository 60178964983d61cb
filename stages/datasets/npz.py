"""A NumPy .npz file; nothing is unpickled.

Arrays: `images`, (N, H, W) or (N, H, W, C) uint8 with C = 1, 3 or 4; optionally `labels`, (N,) integers.
"""

import zlib
from pathlib import Path
from typing import Literal
from zipfile import BadZipFile

import numpy as np

from stages.command import InputError
from stages.datasets.frame import Entry
from stages.datasets.images import Images, from_array, gather


class NpzEntry(Entry):
    """An entry of the `datasets` registry.  path : the file."""

    source: Literal["npz"]


def read(entry: NpzEntry) -> Images:
    """The images in the file's order; the id is the row's number.  Raises InputError naming the file and the array."""
    path = Path(entry.path)
    arrays = _load(path)
    if "images" not in arrays:
        raise InputError(f"{path}: no array 'images' (there is {', '.join(arrays) or 'nothing'})")
    images = arrays["images"]
    _check(path, images)
    ids = [str(row) for row in range(len(images))]
    pixels = gather(map(from_array, images), len(ids), entry, lambda number: f"{path}: image {number}")
    return Images(ids, pixels, _labels(path, arrays.get("labels"), len(ids)), [None] * len(ids))


def _load(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise InputError(f"{path}: not found, or not a file")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in ("images", "labels") if name in arrays}
    except (ValueError, OSError, TypeError, EOFError, BadZipFile, zlib.error) as error:
        raise InputError(f"{path}: not a readable .npz file: {error}") from None


def _check(path: Path, images: np.ndarray) -> None:
    """Raises InputError for what is no array of images."""
    found = f"{path}: array 'images' is {images.dtype} of shape {images.shape}"
    if images.dtype != np.uint8:
        raise InputError(f"{found}: needs uint8, 0 to 255")
    if images.ndim == 4 and images.shape[3] not in (1, 3, 4) and images.shape[1] in (1, 3, 4):
        raise InputError(f"{found}: channels come last: save images.transpose(0, 2, 3, 1)")
    if images.ndim not in (3, 4) or images.shape[3:] not in ((), (1,), (3,), (4,)) or not images.size:
        raise InputError(f"{found}: needs (N, H, W) or (N, H, W, C) with 1, 3 or 4 channels")


def _labels(path: Path, labels: np.ndarray | None, count: int) -> list[int | None]:
    if labels is None:
        return [None] * count
    if labels.shape != (count,) or labels.dtype.kind not in "iu":
        found = f"{path}: array 'labels' is {labels.dtype} of shape {labels.shape}"
        raise InputError(f"{found}: needs an integer for each of {count} images")
    return [int(label) for label in labels]
