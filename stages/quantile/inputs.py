"""What a learner may look at: an image, and the statistics that `describe` made of it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from stages.quantile.rows import Rows, write_rows
from stages.tables import decode_images, read_groups, read_table, statistics_of

DECODED = 256  # images decoded at once


@dataclass(frozen=True)
class Inputs:
    """N images.  images : (N, C, H, W) uint8.  statistics : (N, F) float32.  Either in memory or in a file."""

    images: Rows
    statistics: Rows

    def __len__(self) -> int:
        return len(self.statistics)

    def __getitem__(self, rows: np.ndarray | slice) -> Self:
        """Those of some rows, in their order, in memory."""
        return type(self)(self.images[rows], self.statistics[rows])


def read_inputs(images: Path, statistics: Path, looks_at_images: bool, folder: Path) -> Inputs:
    """Tables of images and of their statistics as files of rows in `folder`, which live as long as it does.

    looks_at_images : of the learner; images that nobody looks at are not decoded, and have no pixels.

    Raises InputError for a damaged table, or a statistic that is not finite.
    """
    count = read_table(statistics, ["image_id"]).num_rows
    parts = (statistics_of(group, statistics) for group in read_groups(statistics))
    described = write_rows(folder / f"{statistics.stem}.statistics.npy", count, parts)
    if looks_at_images:
        return Inputs(write_rows(folder / f"{images.stem}.images.npy", count, _decoded(images)), described)
    return Inputs(np.empty((count, 0, 0, 0), dtype=np.uint8), described)


def _decoded(images: Path) -> Iterator[np.ndarray]:
    for group in read_groups(images, ["image"]):
        for start in range(0, group.num_rows, DECODED):
            yield decode_images(group.slice(start, DECODED))
