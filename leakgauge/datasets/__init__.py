"""Where images come from: one reader a file, registered here by the name that params.yaml uses as `source`."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, TypeAlias

from pydantic import Field, RootModel

from leakgauge.datasets import cifar, digits, folder, npz, parquet, stl10, tiny_imagenet
from leakgauge.datasets.images import Entry, Images
from leakgauge.errors import InputError

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

    Every file is in question: one that cannot be read is refused, but hidden ones.  An image of a folder has a label
    only where the entry has `classes` and the folder that it lies in is one of them.
    Raises InputError, also where the folder is empty: images that are lost must not look like images never asked about.
    """
    place, alike = Path(entry.suspects), entry.model_dump(include={"bits", "colour", "crop", "size"})
    alike |= {"path": entry.suspects}
    if place == NO_SUSPECTS:
        if any(file.name != ".gitkeep" for file in place.rglob("*")):
            raise InputError(
                f"{place}: must stay empty: `suspects: {place}` in params.yaml says that there are none; "
                "put the images into another folder and name that"
            )
        return None
    if not place.is_dir():
        return parquet.read(parquet.ParquetEntry.model_validate({"source": "parquet", **alike}))
    found = folder.walk(place)
    parquets = [file for file in found.others if file.suffix == ".parquet"]
    if strange := [file for file in found.others if file.suffix != ".parquet"]:
        raise InputError(f"{strange[0]}: no image that can be read, and no Parquet file: convert it or take it away")
    if found.images and parquets:
        raise InputError(f"{parquets[0]}: a Parquet file among images, and only one kind is read: take it away")
    if found.images:
        images = folder.read(folder.FolderEntry.model_validate({"source": "folder", **alike}))
        places = {name: number for number, name in enumerate(getattr(entry, "classes", None) or [])}
        return replace(images, labels=[places.get(file.parent.name) for file in found.images])
    if parquets:
        return parquet.read(parquet.ParquetEntry.model_validate({"source": "parquet", **alike}))
    raise InputError(
        f"{place}: no suspects there{''.join(f' ({note})' for note in found.notes)}: put them in, or fetch them "
        f"(`dvc pull`); where there are to be none, the dataset's entry in params.yaml says so by "
        f"`suspects: {NO_SUSPECTS}`"
    )
