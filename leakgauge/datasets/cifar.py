"""CIFAR-10 and CIFAR-100: 50,000 training and 10,000 test images of 32x32, from the official binary archives.

Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009;
https://www.cs.toronto.edu/~kriz/cifar.html. The images keep the official order, by which published splits count: row i
of `train`, or of `all`, is training image i.
"""

import tarfile
from pathlib import Path
from typing import Literal

import numpy as np

from leakgauge.datasets.archive import Archive, official, opened
from leakgauge.datasets.images import Entry, Images, collate, from_array, listed

ARCHIVES = {
    "cifar10": Archive(
        "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
        170_052_171,
        "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    ),
    "cifar100": Archive(
        "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
        168_513_733,
        "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
    ),
}
FILES = {
    "cifar10": {
        "train": [f"cifar-10-batches-bin/data_batch_{batch}.bin" for batch in range(1, 6)],
        "test": ["cifar-10-batches-bin/test_batch.bin"],
    },
    "cifar100": {"train": ["cifar-100-binary/train.bin"], "test": ["cifar-100-binary/test.bin"]},
}
LABELS = {"cifar10": 1, "cifar100": 2}  # bytes before the pixels; the last is the class, CIFAR-100's fine one
SHAPE = (3, 32, 32)  # a red, a green and a blue plane, row by row


class CifarEntry(Entry):
    """An entry of the `datasets` registry.  path : the archive, or leakgauge/datasets/cifar.py to download it."""

    source: Literal["cifar10", "cifar100"]
    part: Literal["train", "test", "all"] = "train"


def read(entry: CifarEntry) -> Images:
    """The images of a part, or of the training and then the test part, as `train-00000`, ..., `test-09999`.

    Labels are 0..9, or CIFAR-100's fine ones, 0..99.  Raises InputError for an archive other than the official one.
    """
    archive = official(Path(entry.path), ARCHIVES[entry.source])
    parts = ["train", "test"] if entry.part == "all" else [entry.part]
    record = LABELS[entry.source] + int(np.prod(SHAPE))
    with tarfile.open(archive) as tar:
        rows = {
            part: np.concatenate([_records(tar, name, record) for name in FILES[entry.source][part]]) for part in parts
        }
    ids = [f"{part}-{row:05d}" for part in parts for row in range(len(rows[part]))]
    records = np.concatenate(list(rows.values()))  # (N, labels + 3072)
    planes = records[:, LABELS[entry.source] :].reshape(-1, *SHAPE)
    pictures = (from_array(image.transpose(1, 2, 0)) for image in planes)
    pixels, notes = collate(pictures, len(ids), entry, lambda number: f"{archive}: image '{ids[number]}'")
    labels = records[:, LABELS[entry.source] - 1].tolist()
    left_out = listed("parts", [part for part in FILES[entry.source] if part not in parts])
    return Images(ids, pixels, labels, [None] * len(ids), notes=left_out + notes)


def _records(tar: tarfile.TarFile, name: str, size: int) -> np.ndarray:
    """A file of the archive as (N, size) uint8."""
    with opened(tar, name) as stream:
        return np.frombuffer(stream.read(), np.uint8).reshape(-1, size)
