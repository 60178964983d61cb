"""STL-10: 5,000 training, 8,000 test and 100,000 unlabelled images of 96x96, from the official binary archive.

Coates, Lee and Ng, "An Analysis of Single-Layer Networks in Unsupervised Feature Learning", AISTATS 2011;
https://cs.stanford.edu/~acoates/stl10/.
"""

import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from leakgauge.datasets.archive import Archive, official, opened
from leakgauge.datasets.images import Entry, Images, collate, from_array, listed

ARCHIVE = Archive(
    "http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz",
    2_640_397_119,
    "f31fd99273a1acb8609c8db427cebb1de3f71de77758cdc0e22956e1289b9866",
)
PARTS = ("train", "test", "unlabeled")  # as the archive spells them
SHAPE = (3, 96, 96)  # a red, a green and a blue plane, column by column


class STL10Entry(Entry):
    """An entry of the `datasets` registry.  path : the archive, or leakgauge/datasets/stl10.py to download it."""

    source: Literal["stl10"]
    part: Literal["train", "test", "unlabeled", "all"] = "train"


def read(entry: STL10Entry) -> Images:
    """The images of a part, or of all in this order, as `train-00000`, ..., `unlabeled-99999`.

    Labels are 0..9 (the archive counts from 1), None of unlabelled images.  One image is read at a time, so that with
    `size` the large part fits into memory.  Raises InputError for an archive other than the official one.
    """
    archive = official(Path(entry.path), ARCHIVE)
    parts = PARTS if entry.part == "all" else (entry.part,)
    with tarfile.open(archive) as tar:
        counts = {part: tar.getmember(f"stl10_binary/{part}_X.bin").size // int(np.prod(SHAPE)) for part in parts}
        ids = [f"{part}-{row:05d}" for part in parts for row in range(counts[part])]
        labels = [label for part in parts for label in _labels(tar, part, counts[part])]
        pictures = (picture for part in parts for picture in _pictures(tar, part))
        pixels, notes = collate(pictures, len(ids), entry, lambda number: f"{archive}: image '{ids[number]}'")
    left_out = listed("parts", [part for part in PARTS if part not in parts])
    return Images(ids, pixels, labels, [None] * len(ids), notes=left_out + notes)


def _pictures(tar: tarfile.TarFile, part: str) -> Iterator[Image.Image]:
    with opened(tar, f"stl10_binary/{part}_X.bin") as stream:
        while data := stream.read(int(np.prod(SHAPE))):
            planes = np.frombuffer(data, np.uint8).reshape(SHAPE)  # (C, W, H): the columns come one after another
            yield from_array(planes.transpose(2, 1, 0))


def _labels(tar: tarfile.TarFile, part: str, count: int) -> list[int | None]:
    if part == "unlabeled":
        return [None] * count
    with opened(tar, f"stl10_binary/{part}_y.bin") as stream:
        return [label - 1 for label in stream.read()]
