"""suspect: read the images in question and describe them, as `images` does with a dataset's own.

A stage of its own, so that new suspects leave everything that was computed without them as it is.

datasets.<name>.suspects in params.yaml -> data/suspects/<name>/images.parquet, data/suspects/<name>/features.parquet
"""

from pathlib import Path

import pyarrow as pa

from leakgauge.cli import run
from leakgauge.config import entry
from leakgauge.datasets import Dataset, read_suspects
from leakgauge.features import named_features
from leakgauge.tables import IMAGES, decode_images, image_table, write_table

PREFIX = "suspect/"  # of image_ids: a suspect may have the file name of another image


def suspect(dataset: str) -> None:
    """Write data/suspects/<dataset>/; tables without rows where the entry says that there are no suspects.

    Print what was not taken.
    """
    options = entry("datasets", dataset, Dataset).root
    table, features = IMAGES.empty_table(), pa.table({"image_id": pa.array([], pa.string())})
    if (images := read_suspects(options)) is not None:
        ids = [PREFIX + name for name in images.ids]
        table = image_table(ids, images.pixels, images.labels, images.paths, images.captions)
        described = named_features(decode_images(table))
        features = pa.table({"image_id": ids, "label": table.column("label"), **described})
    notes = images.notes if images is not None else []
    folder = Path(f"data/suspects/{dataset}")
    facts = {"dataset": dataset, "suspects": options.suspects, "notes": notes}
    write_table(folder / "images.parquet", table, facts)
    write_table(folder / "features.parquet", features, facts)
    print("\n  ".join([f"{dataset}: {table.num_rows} suspects", *notes]))


if __name__ == "__main__":
    run(suspect, dataset="a name in the `datasets` registry of params.yaml")
