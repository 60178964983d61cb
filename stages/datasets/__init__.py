"""Where images come from: one reader a file, registered here by the name that params.yaml uses as `source`."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeAlias

from pydantic import Field, RootModel

from stages.datasets import cifar, digits, folder, npz, parquet, stl10, tiny_imagenet
from stages.datasets.frame import Entry
from stages.datasets.images import Images

DatasetEntry: TypeAlias = (
    digits.DigitsEntry
    | folder.FolderEntry
    | parquet.ParquetEntry
    | npz.NpzEntry
    | cifar.CifarEntry
    | stl10.STL10Entry
    | tiny_imagenet.TinyImageNetEntry
)
Dataset = RootModel[Annotated[DatasetEntry, Field(discriminator="source")]]  # an entry of the registry

READERS: dict[str, Callable[[Any], Images]] = {
    "digits": digits.read,
    "folder": folder.read,
    "parquet": parquet.read,
    "npz": npz.read,
    "cifar10": cifar.read,
    "cifar100": cifar.read,
    "stl10": stl10.read,
    "tiny_imagenet": tiny_imagenet.read,
}


def read_suspects(entry: Entry) -> Images | None:
    """The images in question, as the entry converts its own; None for a folder without any.  Raises InputError."""
    alike = entry.model_dump(include={"colour", "crop", "size"}) | {"path": entry.suspects}
    if not Path(entry.suspects).is_dir():
        return parquet.read(parquet.ParquetEntry.model_validate({"source": "parquet", **alike}))
    if not folder.files(Path(entry.suspects)):
        return None
    return folder.read(folder.FolderEntry.model_validate({"source": "folder", **alike}))
