"""What a learner may look at: an image, and the statistics that `describe` made of it."""

from dataclasses import dataclass
from typing import Self

import numpy as np


@dataclass(frozen=True)
class Inputs:
    """N images.  images : (N, C, H, W) uint8.  statistics : (N, F) float32."""

    images: np.ndarray
    statistics: np.ndarray

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: np.ndarray | slice) -> Self:
        """Those of some rows, in their order."""
        return type(self)(self.images[rows], self.statistics[rows])
