"""What every reader returns."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Images:
    """The images of a dataset, in the reader's order; every field has length N.

    ids : unique names.  pixels : (N, H, W, C) uint8, C = 1 or 3.  labels, paths : None where unknown.
    """

    ids: list[str]
    pixels: np.ndarray
    labels: list[int | None]
    paths: list[str | None]
