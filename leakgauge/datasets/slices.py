"""Grey slices of medical images: a window makes 8 bits of their levels, and a patient is the unit.

A slice of one level, nothing but background, shows no patient.  It would be an exact copy of those of other patients,
and copies make one unit of their patients: it is left out, and listed.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from pydantic import Field, PositiveFloat

from leakgauge.datasets.folder import Found, walk
from leakgauge.datasets.images import Entry, Images, collate, counted, from_array, listed
from leakgauge.errors import InputError
from leakgauge.options import Options

NEEDED = "needs pydicom and nibabel: `pip install -e '.[medical]'`"


class Window(Options):
    """Levels from centre - width / 2 to centre + width / 2 become 0 to 255; those outside are clipped.

    In CT, levels are Hounsfield units: {centre: 40, width: 400} shows soft tissue.
    """

    centre: float = Field(allow_inf_nan=False)
    width: PositiveFloat = Field(allow_inf_nan=False)


class SlicesEntry(Entry):
    """What both medical sources have.

    path : a file, or a folder, searched to any depth.
    window : the levels that become 0 to 255, after the file's own rescale slope and intercept.
    """

    window: Window


@dataclass(frozen=True)
class Slice:
    """A slice of a file.

    place : of several, which: `#0000`, ..., else empty.  levels : (H, W) float64, rescaled.  inverted : low is bright.
    """

    place: str
    levels: np.ndarray
    unit: str | None
    inverted: bool = False


Reader = Callable[[Path], Iterator[Slice]]  # the slices of a file; raises InputError naming it


def files_of(path: Path) -> tuple[Path, Found]:
    """The folder that ids count from, and the files below it, or the one file.  Raises InputError."""
    if path.is_dir():
        return path, walk(path)
    if not path.is_file():
        raise InputError(f"{path}: not found, or neither a file nor a folder")
    return path.parent, Found([path])


def read_slices(root: Path, files: list[Path], read: Reader, entry: SlicesEntry, notes: list[str]) -> Images:
    """Every slice of some files, one in memory at a time; files are read twice.

    An id is the path from `root`, and behind it the place of the slice.  notes : on what else there is.  Raises
    InputError naming the file.
    """
    ids, units, flat = [], [], []
    clipped = inverted = 0
    for name, one in _named(root, files, read):
        pixels = _windowed(root / name, one, entry.window)
        if pixels.min() == pixels.max():
            flat.append(name)
            continue
        low, high = _ends(entry.window)
        clipped += bool(one.levels.min() < low or one.levels.max() > high)
        inverted += one.inverted
        ids.append(name)
        units.append(one.unit)
    notes = notes + listed("slices of one level", flat)
    if not ids:
        raise InputError(f"{entry.path}: no images there{''.join(f'; {note}' for note in notes)}")
    if entry.unit is None and None in units:
        raise InputError(f"{root / ids[units.index(None)]}: names no patient: say what the unit is by `unit`")
    skipped = {*flat}

    def pictures() -> Iterator[Image.Image]:
        for name, one in _named(root, files, read):
            if name not in skipped:
                yield from_array(_windowed(root / name, one, entry.window))

    pixels, odd = collate(pictures(), len(ids), entry, lambda number: str(root / ids[number]))
    if clipped:
        notes.append(f"{counted(clipped)} with levels outside of the window, which are clipped")
    if inverted:
        notes.append(f"{counted(inverted)} in which low is bright (MONOCHROME1), which are inverted")
    known = [unit for unit in units if unit is not None] if entry.unit is None else None
    paths: list[str | None] = [name.partition("#")[0] for name in ids]
    return Images(ids, pixels, [None] * len(ids), paths, notes=notes + odd, units=known)


def _named(root: Path, files: list[Path], read: Reader) -> Iterator[tuple[str, Slice]]:
    for file in files:
        name = file.relative_to(root).as_posix()
        yield from ((f"{name}{one.place}", one) for one in read(file))


def _windowed(name: Path, one: Slice, window: Window) -> np.ndarray:
    """(H, W) uint8.  Raises InputError for levels that are not finite."""
    if not one.levels.size or not np.isfinite(one.levels).all():
        raise InputError(f"{name}: has levels that are not finite, or none")
    low, high = _ends(window)
    shares = np.clip((one.levels - low) / (high - low), 0, 1)
    return np.round((1 - shares if one.inverted else shares) * 255).astype(np.uint8)


def _ends(window: Window) -> tuple[float, float]:
    return window.centre - window.width / 2, window.centre + window.width / 2
