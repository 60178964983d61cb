"""describe: named features of every image of a dataset: how bright, how busy, at which scales, how compressible.

They depend on the images alone, so all of a dataset's are computed once and `split` shares them out by role.

data/images/<dataset>.parquet -> data/features/<dataset>.parquet
"""

from pathlib import Path

import numpy as np
import pyarrow as pa

from leakgauge.cli import run
from leakgauge.compute import spread
from leakgauge.features import CHUNK, named_features
from leakgauge.tables import decode_images, read_table, write_table


def describe(dataset: str) -> None:
    """Write data/features/<dataset>.parquet: image_id, label and one float32 column a statistic."""
    images = read_table(Path(f"data/images/{dataset}.parquet"), ["image_id", "image", "label"])
    rows = np.arange(images.num_rows)
    parts = [images.take(rows[start : start + CHUNK]) for start in rows[::CHUNK]]  # a slice would travel as a whole
    table = pa.concat_tables(spread(_describe, [(part,) for part in parts], "describe"))
    names = table.column_names
    for place, name in enumerate(("image_id", "label")):
        table = table.add_column(place, name, images.column(name))
    write_table(Path(f"data/features/{dataset}.parquet"), table, {"dataset": dataset})
    print(f"{dataset}: {len(names)} features of {table.num_rows} images")


def _describe(images: pa.Table) -> pa.Table:
    return pa.table(named_features(decode_images(images)))


if __name__ == "__main__":
    run(describe, dataset="a name in the `datasets` registry of params.yaml")
