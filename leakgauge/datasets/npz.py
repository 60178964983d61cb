"""A NumPy .npz file; nothing is unpickled.

Arrays: `images`, (N, H, W) or (N, H, W, C) uint8 with C = 1, 3 or 4; optionally `labels`, (N,) integers.  Others are
not taken, and listed.
"""

from pathlib import Path
from typing import Literal

import numpy as np

from leakgauge.datasets.images import Entry, Images, collate, from_array, listed
from leakgauge.errors import InputError

TAKEN = ("images", "labels")


class NpzEntry(Entry):
    """An entry of the `datasets` registry.  path : the file."""

    source: Literal["npz"]


def read(entry: NpzEntry) -> Images:
    """The images in the file's order; the id is the row's number.  Raises InputError naming the file and the array."""
    path = Path(entry.path)
    arrays, others = _load(path)
    if "images" not in arrays:
        raise InputError(f"{path}: no array 'images' (there is {', '.join(sorted([*arrays, *others])) or 'nothing'})")
    images = arrays["images"]
    _check(path, images)
    ids = [str(row) for row in range(len(images))]
    pixels, notes = collate(map(from_array, images), len(ids), entry, lambda number: f"{path}: image {number}")
    labels = _labels(path, arrays.get("labels"), len(ids))
    return Images(ids, pixels, labels, [None] * len(ids), notes=listed("arrays", others) + notes)


def _load(path: Path) -> tuple[dict[str, np.ndarray], list[str]]:
    """The arrays that are taken, and the names of the others."""
    if not path.is_file():
        raise InputError(f"{path}: not found, or not a file")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            if len(set(arrays.files)) < len(arrays.files):
                raise ValueError("two arrays have one name")
            taken = {name: arrays[name] for name in TAKEN if name in arrays.files}
            if strange := [name for name, array in taken.items() if not isinstance(array, np.ndarray)]:
                raise ValueError(f"'{strange[0]}' is no array")
            return taken, sorted({*arrays.files} - {*TAKEN})
    except Exception as error:  # whatever is damaged: numpy and zipfile raise nearly anything
        raise InputError(f"{path}: not a readable .npz file: {error or type(error).__name__}") from None


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
    if labels.max(initial=0) > np.iinfo(np.int64).max:
        raise InputError(f"{path}: array 'labels' has {labels.max()}, more than an int64 holds")
    return [int(label) for label in labels]
