"""prepare: read a dataset and write its images as Parquet, one row an image, with a hash of the pixels.

datasets.<name> in params.yaml -> data/images/<name>.parquet
"""

from pathlib import Path
from typing import Any

import pyarrow as pa

from stages.command import run
from stages.datasets import READERS, Dataset
from stages.params import entry
from stages.tables import image_table, write_table


def prepare(dataset: str) -> None:
    """Write data/images/<dataset>.parquet."""
    table, facts = read_dataset(dataset)
    write_table(Path(f"data/images/{dataset}.parquet"), table, facts)
    distinct = len(set(table.column("sha256").to_pylist()))
    height, width, channels = (table.column(name)[0] for name in ("height", "width", "channels"))
    print(f"{dataset}: {table.num_rows} images, {distinct} distinct, {width}x{height}, {channels} channel(s)")


def read_dataset(dataset: str) -> tuple[pa.Table, dict[str, Any]]:
    """The images of an entry of `datasets`, and what the entry says of them.  Raises InputError."""
    options = entry("datasets", dataset, Dataset).root
    images = READERS[options.source](options)
    table = image_table(images.ids, images.pixels, images.labels, images.paths, images.captions)
    return table, {"dataset": dataset, **options.model_dump(exclude={"suspects"}, exclude_unset=True)}


if __name__ == "__main__":
    run(prepare, dataset="a name in the `datasets` registry of params.yaml")
