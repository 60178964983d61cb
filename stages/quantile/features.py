"""Statistics as LightGBM reads them: the rows asked for, a part at a time."""

from collections.abc import Iterator
from typing import Self

import lightgbm as lgb
import numpy as np

from stages.quantile.rows import PART, Rows

COLUMNS = 16  # compared at once


class Features(lgb.Sequence):
    """Some rows of the statistics, (n, F) float64."""

    batch_size = PART

    def __init__(self, statistics: Rows, rows: np.ndarray) -> None:
        self.statistics, self.rows = statistics, rows
        self._number, self._part = -1, np.empty((0, 0))  # the part that was read last: single rows come in order

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int | slice) -> np.ndarray:  # type: ignore[override]
        """One row or several."""
        if isinstance(index, slice):
            return self.statistics[self.rows[index]].astype(np.float64)
        number, place = divmod(int(index), PART)
        if number != self._number:
            self._number, self._part = number, self[number * PART : (number + 1) * PART]
        return self._part[place]

    def of(self, chosen: np.ndarray) -> Self:
        """Those of a mask (n,)."""
        return type(self)(self.statistics, self.rows[chosen])

    def parts(self) -> Iterator[np.ndarray]:
        """All rows, some at a time."""
        return (self[start : start + PART] for start in range(0, len(self), PART))


def distinct(features: Features) -> np.ndarray:
    """The place of each row among the distinct ones in their order, (n,): `np.unique`, a few columns at a time."""
    rows, place = np.unique(features.rows, return_inverse=True)
    alike, rank = Features(features.statistics, rows), np.zeros(len(rows), dtype=np.int64)
    for column in range(0, features.statistics.shape[1], COLUMNS):
        block = np.concatenate([part[:, column : column + COLUMNS] for part in alike.parts()])
        order = np.lexsort((*block.T[::-1], rank))
        new = (block[order[1:]] != block[order[:-1]]).any(1) | (np.diff(rank[order]) > 0)
        rank[order] = np.concatenate([[0], np.cumsum(new)])
        if rank.max() == len(rows) - 1:
            break  # no two are alike any more
    return rank[place]
