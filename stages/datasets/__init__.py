"""Where images come from: one reader a file, registered here by the name that params.yaml uses as `source`."""

from collections.abc import Callable
from pathlib import Path

from stages.datasets import digits, folder, parquet
from stages.datasets.images import Images

READERS: dict[str, Callable[[Path], Images]] = {
    "digits": digits.read,
    "folder": folder.read,
    "parquet": parquet.read,
}
