"""Grey NIfTI volumes (.nii, .nii.gz), each an image a slice; the file is the unit.  Extra `medical`.

Slices are as they are stored: of axis 2 slice k is `volume[:, :, k]`, and its rows run along axis 0.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from leakgauge.datasets.images import Images, listed
from leakgauge.datasets.slices import NEEDED, Slice, SlicesEntry, files_of, read_slices
from leakgauge.errors import InputError

SUFFIXES = (".nii", ".nii.gz")
LARGEST = 2**30  # voxels of a volume: a damaged header could claim any number


class NiftiEntry(SlicesEntry):
    """An entry of the `datasets` registry.

    axis : what slices follow each other along.
    unit : a pattern on image_ids; without it the unit is the file.
    """

    source: Literal["nifti"]
    axis: Literal[0, 1, 2] = 2


def read(entry: NiftiEntry) -> Images:
    """Every slice of every volume.  Raises InputError naming a file that cannot be read, or is no grey volume."""
    root, found = files_of(Path(entry.path))
    files = [file for file in found.files if file.name.lower().endswith(SUFFIXES)]
    others = [file.relative_to(root).as_posix() for file in found.files if file not in {*files}]
    notes = found.notes + listed("files that are no NIfTI", others)

    def slices(file: Path) -> Iterator[Slice]:
        volume, slope, intercept = _volume(file)
        for number in range(volume.shape[entry.axis]):
            levels = np.take(volume, number, entry.axis).astype(np.float64) * slope + intercept
            yield Slice(f"#{number:04d}", levels, file.relative_to(root).as_posix())

    return read_slices(root, files, slices, entry, notes)


def _volume(file: Path) -> tuple[np.ndarray, float, float]:
    """The stored levels, (X, Y, Z), and the slope and the intercept that rescale them.  Raises InputError."""
    try:
        import nibabel
    except ImportError:
        raise InputError(f"source: nifti {NEEDED}") from None
    try:
        image = nibabel.load(file)
        if not isinstance(image, nibabel.Nifti1Pair):
            raise ValueError(f"is {type(image).__name__}")
        shape = image.shape
        if len(shape) < 3 or math.prod(shape[3:]) != 1 or not 0 < math.prod(shape) <= LARGEST:
            raise InputError(f"{file}: has shape {shape}: needs one volume a file, of three axes")
        if image.get_data_dtype().kind not in "iuf":
            raise InputError(f"{file}: has levels of type {image.get_data_dtype()}: only grey volumes are read")
        proxy = image.dataobj
        assert isinstance(proxy, nibabel.arrayproxy.ArrayProxy)
        return proxy.get_unscaled().reshape(shape[:3]), float(proxy.slope), float(proxy.inter)
    except InputError:
        raise
    except Exception as error:  # whatever is damaged: nibabel raises nearly anything
        said = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{file}: not a readable NIfTI file: {said}") from None
