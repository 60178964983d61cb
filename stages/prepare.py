"""prepare: read a dataset and write its images as Parquet, one row an image, with a hash of the pixels.

datasets.<name> in params.yaml -> data/images/<name>.parquet
"""

from pathlib import Path

from stages.command import run
from stages.datasets import READERS, Dataset
from stages.params import entry
from stages.tables import image_table, write_table


def prepare(dataset: str) -> None:
    """Write data/images/<dataset>.parquet."""
    options = entry("datasets", dataset, Dataset).root
    images = READERS[options.source](options)
    table = image_table(images.ids, images.pixels, images.labels, images.paths, images.captions)
    facts = {"dataset": dataset, **options.model_dump(exclude={"suspects"}, exclude_unset=True)}
    write_table(Path(f"data/images/{dataset}.parquet"), table, facts)
    distinct = len(set(table.column("sha256").to_pylist()))
    _, height, width, channels = images.pixels.shape
    print(f"{dataset}: {table.num_rows} images, {distinct} distinct, {width}x{height}, {channels} channel(s)")


if __name__ == "__main__":
    run(prepare, dataset="a name in the `datasets` registry of params.yaml")
