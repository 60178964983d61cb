"""Where images come from: one reader a file, registered here by the name that params.yaml uses as `source`."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from stages.datasets import digits, folder, parquet
from stages.datasets.images import Images
from stages.params import Options


class Dataset(Options):
    """An entry of the `datasets` registry."""

    source: Literal["digits", "folder", "parquet"]
    path: str  # what the entry is read from: DVC watches it
    suspects: str  # images in question, a folder or a Parquet file; an empty folder for none


READERS: dict[str, Callable[[Path], Images]] = {
    "digits": digits.read,
    "folder": folder.read,
    "parquet": parquet.read,
}


def read_suspects(options: Dataset) -> Images | None:
    """The images in question; None for a folder without any.  Raises InputError naming a bad file."""
    path = Path(options.suspects)
    if not path.is_dir():
        return parquet.read(path)
    return folder.read(path) if folder.files(path) else None
