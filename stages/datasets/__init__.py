"""Where images come from: one reader a file, registered here by the name that params.yaml uses as `source`."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, TypeAlias

from pydantic import Field, RootModel

from stages.command import InputError
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
NO_SUSPECTS = Path("suspects/none")  # in git, and empty; DVC wants to watch something


def read_suspects(entry: Entry) -> Images | None:
    """The images in question, as the entry converts its own; None where the entry says that there are none.

    A folder's images have no labels: what its own folders are called says nothing of the dataset's classes.
    Raises InputError, also where the folder is empty: images that are lost must not look like images never asked about.
    """
    place, alike = Path(entry.suspects), entry.model_dump(include={"colour", "crop", "size"}) | {"path": entry.suspects}
    if place == NO_SUSPECTS:
        if any(file.name != ".gitkeep" for file in place.rglob("*")):
            raise InputError(
                f"{place}: must stay empty: `suspects: {place}` in params.yaml says that there are none; "
                "put the images into another folder and name that"
            )
        return None
    if place.is_dir() and folder.files(place):
        images = folder.read(folder.FolderEntry.model_validate({"source": "folder", **alike}))
        return replace(images, labels=[None] * len(images.ids))
    if not place.is_dir() or any(place.rglob("*.parquet")):
        return parquet.read(parquet.ParquetEntry.model_validate({"source": "parquet", **alike}))
    if others := [file for file in sorted(place.rglob("*")) if file.is_file() and not file.name.startswith(".")]:
        raise InputError(f"{others[0]}: no image that can be read, and no Parquet file: convert it or take it away")
    raise InputError(
        f"{place}: no suspects there: put them in, or fetch them (`dvc pull`); where there are to be none, "
        f"the dataset's entry in params.yaml says so by `suspects: {NO_SUSPECTS}`"
    )
