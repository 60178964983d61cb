"""images: read a dataset, one row an image with a hash of its pixels, and compute the features of every image.

Features depend on the images alone, so all of a dataset's are computed once and `split` shares them out by role.

datasets.<name> in params.yaml -> data/images/<name>.parquet, data/features/<name>.parquet
"""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from leakgauge.cli import run
from leakgauge.compute import spread
from leakgauge.config import entry
from leakgauge.datasets import READERS, Dataset
from leakgauge.datasets.images import counted, units_of
from leakgauge.errors import warn
from leakgauge.features import CHUNK, named_features
from leakgauge.tables import decode_images, image_table, write_table

SHOWN = 20  # rows of the table of labels


def prepare_images(dataset: str) -> None:
    """Write data/{images,features}/<dataset>.parquet; print what was read, the labels, and what was not taken."""
    table, facts = read_dataset(dataset)
    features = write_dataset(dataset, table, facts)
    distinct = len(set(table.column("sha256").to_pylist()))
    height, width, channels = (table.column(name)[0] for name in ("height", "width", "channels"))
    print(f"{dataset}: {table.num_rows} images, {distinct} distinct, {width}x{height}, {channels} channel(s)")
    print(f"  {features.num_columns - 2} features of each")
    for line in [*_label_lines(dataset, table.column("label").to_pylist(), facts["names"]), *facts["notes"]]:
        print(f"  {line}")


def read_dataset(dataset: str) -> tuple[pa.Table, dict[str, Any]]:
    """The images of an entry of `datasets`, and what is known of them.  Raises InputError.

    That is what the entry says, `names` of labels 0, 1, ... (none where unknown), and `notes` on what was not taken.
    """
    options = entry("datasets", dataset, Dataset).root
    images = READERS[options.source](options)
    table = image_table(
        images.ids, images.pixels, images.labels, images.paths, images.captions, units_of(images, options)
    )
    said = options.model_dump(exclude_unset=True)
    return table, {"dataset": dataset, **said, "names": images.classes or [], "notes": images.notes}


def write_dataset(dataset: str, table: pa.Table, facts: dict[str, Any]) -> pa.Table:
    """Write the images and their features; returns the features: image_id, label and a float32 column each."""
    features = _features(table)
    write_table(Path(f"data/images/{dataset}.parquet"), table, facts)
    write_table(Path(f"data/features/{dataset}.parquet"), features, {"dataset": dataset})
    return features


def _features(table: pa.Table) -> pa.Table:
    rows = np.arange(table.num_rows)
    parts = [table.take(rows[start : start + CHUNK]) for start in rows[::CHUNK]]  # a slice would travel as a whole
    features = pa.concat_tables(spread(_features_of, [(part,) for part in parts], "features", networks=False))
    for place, name in enumerate(("image_id", "label")):
        features = features.add_column(place, name, table.column(name))
    return features


def _features_of(table: pa.Table) -> pa.Table:
    return pa.table(named_features(decode_images(table)))


def _label_lines(dataset: str, labels: list[int | None], names: list[str]) -> list[str]:
    """Lines that say how many images each label has, and its name where it has one; of many labels, the first.

    Warns of names without images.
    """
    counts = Counter(label for label in labels if label is not None)
    known = sorted({*counts, *range(len(names))})
    if not known:
        return ["labels: none"]
    if missing := [name for label, name in enumerate(names) if not counts[label]]:
        warn(f"{dataset}: {len(missing)} of {len(names)} classes have no images, the first is '{missing[0]}'")
    called = {label: f"{names[label]} -> {label}" if 0 <= label < len(names) else str(label) for label in known}
    lines = [f"  {called[label]}: {counted(counts[label])}" for label in known[:SHOWN]]
    if more := [counts[label] for label in known[SHOWN:]]:
        lines.append(f"  {len(more)} more labels, up to {known[-1]}, each of {min(more)} to {max(more)} images")
    if without := len(labels) - counts.total():
        lines.append(f"  without a label: {counted(without)}")
    return ["name -> label: images" if names else "label: images", *lines]


if __name__ == "__main__":
    run(prepare_images, dataset="a name in the `datasets` registry of params.yaml")
