"""prepare: read a dataset and write its images as Parquet, one row an image, with a hash of the pixels.

datasets.<name> in params.yaml -> data/images/<name>.parquet
"""

from pathlib import Path
from typing import Literal

from stages.command import run
from stages.datasets import READERS
from stages.params import Options, entry
from stages.tables import image_table, write_table


class Dataset(Options):
    """An entry of the `datasets` registry."""

    source: Literal["digits", "folder", "parquet"]
    path: str  # what the entry is read from: DVC watches it


def prepare(dataset: str) -> None:
    """Write data/images/<dataset>.parquet."""
    options = entry("datasets", dataset, Dataset)
    images = READERS[options.source](Path(options.path))
    table = image_table(images.ids, images.pixels, images.labels, images.paths)
    write_table(Path(f"data/images/{dataset}.parquet"), table, {"dataset": dataset, **options.model_dump()})
    distinct = len(set(table.column("sha256").to_pylist()))
    _, height, width, channels = images.pixels.shape
    print(f"{dataset}: {table.num_rows} images, {distinct} distinct, {width}x{height}, {channels} channel(s)")


if __name__ == "__main__":
    run(prepare, dataset="a name in the `datasets` registry of params.yaml")
