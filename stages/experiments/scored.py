"""What an experiment works on: the images of a role, what is measured on them, and their scores."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from stages.command import InputError
from stages.quantile.inputs import Inputs
from stages.tables import decode_images, log_scores, read_statistics, read_table


@dataclass(frozen=True)
class Scored:
    """N images of one role."""

    inputs: Inputs
    hashes: np.ndarray  # (N,) of the pixels, as strings
    log_scores: dict[str, np.ndarray]  # column -> (N,) float64

    def __len__(self) -> int:
        return len(self.hashes)

    def __getitem__(self, rows: np.ndarray) -> Self:
        """Those of some rows, in their order."""
        scores = {column: values[rows] for column, values in self.log_scores.items()}
        return type(self)(self.inputs[rows], self.hashes[rows], scores)


def read_scored(images: Path, statistics: Path, scores: Path, columns: list[str], kept: np.ndarray) -> Scored:
    """Read the images of a role that count.  kept : (N,) bool, over the rows of the tables.

    Raises InputError if the tables tell of different images, or a score has no logarithm.
    """
    rows = read_table(images)
    ids, hashes = (rows.column(name).to_pylist() for name in ("image_id", "sha256"))
    for path in (statistics, scores):
        if read_table(path, ["image_id"]).column("image_id").to_pylist() != ids:
            raise InputError(f"{path}: tells of other images than {images} holds: run `dvc repro`")
    inputs = Inputs(decode_images(rows), read_statistics(statistics)[1])
    return Scored(inputs, np.array(hashes), {column: log_scores(scores, column) for column in columns})[kept]
