"""Where images come from: one reader a file, registered here by the name that params.yaml uses as `source`."""

from collections.abc import Callable
from typing import Annotated, Any, TypeAlias

from pydantic import Field, RootModel

from leakgauge.datasets import (
    arrow,
    cifar,
    dicom,
    digits,
    folder,
    nifti,
    npz,
    parquet,
    stl10,
    tiny_imagenet,
    webdataset,
)
from leakgauge.datasets.images import Images

DatasetEntry: TypeAlias = (
    digits.DigitsEntry
    | folder.FolderEntry
    | parquet.ParquetEntry
    | arrow.ArrowEntry
    | webdataset.WebDatasetEntry
    | dicom.DicomEntry
    | nifti.NiftiEntry
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
    "arrow": arrow.read,
    "webdataset": webdataset.read,
    "dicom": dicom.read,
    "nifti": nifti.read,
    "npz": npz.read,
    "cifar10": cifar.read,
    "cifar100": cifar.read,
    "stl10": stl10.read,
    "tiny_imagenet": tiny_imagenet.read,
}
