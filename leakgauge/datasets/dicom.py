"""Grey DICOM images, each file with one or several slices; the patient (PatientID) is the unit.  Extra `medical`.

Levels are rescaled as the file says (in CT to Hounsfield units) before the window of the dataset's entry; the window
that a file suggests is not followed.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

from leakgauge.datasets.images import LARGEST, Images, listed
from leakgauge.datasets.slices import NEEDED, Slice, SlicesEntry, files_of, read_slices
from leakgauge.errors import InputError

SUFFIXES = (".dcm", ".dicom", ".ima")
PREAMBLE, MAGIC = 128, b"DICM"
PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
GREY = ("MONOCHROME1", "MONOCHROME2")


class DicomEntry(SlicesEntry):
    """An entry of the `datasets` registry.  unit : a pattern on image_ids; without it the unit is the PatientID."""

    source: Literal["dicom"]


def read(entry: DicomEntry) -> Images:
    """Every slice of every DICOM file with an image, whatever the file's suffix.

    Raises InputError naming a file that cannot be read, is in colour or names no patient.
    """
    root, found = files_of(Path(entry.path))
    files, others, without = [], [], []
    for file in found.files:
        if not _is_dicom(file):
            others.append(file.relative_to(root).as_posix())
        elif _has_image(file):
            files.append(file)
        else:
            without.append(file.relative_to(root).as_posix())
    notes = found.notes + listed("files that are no DICOM", others) + listed("DICOM files without an image", without)
    return read_slices(root, files, _slices, entry, notes)


def _is_dicom(file: Path) -> bool:
    """Raises InputError for a file that only its suffix calls so."""
    with file.open("rb") as stream:
        is_dicom = stream.read(PREAMBLE + len(MAGIC))[PREAMBLE:] == MAGIC
    if not is_dicom and file.suffix.lower() in SUFFIXES:
        raise InputError(f"{file}: is no DICOM file with a preamble: convert it, or take it away")
    return is_dicom


def _dataset(file: Path) -> Any:
    """A pydicom Dataset, its pixels not yet decoded.  Raises InputError."""
    try:
        from pydicom import dcmread
    except ImportError:
        raise InputError(f"source: dicom {NEEDED}") from None
    try:
        return dcmread(file)
    except Exception as error:  # whatever is damaged: pydicom raises nearly anything
        raise _unreadable(file, error) from None


def _unreadable(file: Path, error: Exception) -> InputError:
    return InputError(f"{file}: not a readable DICOM file: {' '.join(str(error).split()) or type(error).__name__}")


def _has_image(file: Path) -> bool:
    dataset = _dataset(file)
    return any(name in dataset for name in PIXELS)


def _slices(file: Path) -> Iterator[Slice]:
    dataset = _dataset(file)
    from pydicom.pixels import iter_pixels

    try:
        kind, patient = dataset.get("PhotometricInterpretation"), str(dataset.get("PatientID") or "").strip()
        patient.encode()
        several = int(dataset.get("NumberOfFrames") or 1) > 1
        if int(dataset.Rows) * int(dataset.Columns) > LARGEST:
            raise ValueError(f"claims {dataset.Rows} rows and {dataset.Columns} columns")
        if kind not in GREY:
            raise InputError(f"{file}: is {kind}: only grey DICOM is read ({' or '.join(GREY)})")
        for number, levels in enumerate(iter_pixels(dataset, raw=True)):
            rescaled = np.asarray(_rescaled(levels, dataset, number), np.float64)
            yield Slice(f"#{number:04d}" if several else "", rescaled, patient or None, kind == GREY[0])
    except InputError:
        raise
    except Exception as error:  # whatever is damaged, or compressed in a way that pydicom alone cannot decode
        raise _unreadable(file, error) from None


def _rescaled(levels: np.ndarray, dataset: Any, number: int) -> np.ndarray:
    """The levels of a frame, (H, W), as the file rescales them; an enhanced one may do so frame by frame."""
    from pydicom.pixels import apply_modality_lut

    for groups, frame in (("PerFrameFunctionalGroupsSequence", number), ("SharedFunctionalGroupsSequence", 0)):
        group = dataset[groups].value[frame] if groups in dataset else {}
        if "PixelValueTransformationSequence" in group:
            how = group["PixelValueTransformationSequence"].value[0]
            return levels * float(how.RescaleSlope) + float(how.RescaleIntercept)
    return apply_modality_lut(levels, dataset)
