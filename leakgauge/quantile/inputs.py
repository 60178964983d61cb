"""What learners see: features and pixels of images, an attacker's training set, and rows read from disk.

The training set of one attacker, its loss along the way, and when to stop.

Prechelt, "Early Stopping - But When?", 1998: stop once the loss on images that are not fitted on has not gone down
for a while, and keep what was best.
"""

import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import lightgbm as lgb
import numpy as np
import pandas as pd
from numpy.lib import format as npy

from leakgauge.errors import InputError
from leakgauge.quantile.base import Resample, mean_pinball_loss
from leakgauge.tables import decode_images, features_of, read_groups, read_table

PART = 1024  # rows in memory at once, where all are needed


@dataclass(frozen=True)
class RowFile:
    """An array (N, F, ...) in a .npy file.  start : the byte at which its values begin."""

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype
    start: int

    @classmethod
    def open(cls, path: Path) -> Self:
        """Read what the file says of itself."""
        with path.open("rb") as file:
            npy.read_magic(file)
            shape, _, dtype = npy.read_array_header_1_0(file)
            return cls(path, shape, dtype, file.tell())

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: np.ndarray | slice) -> np.ndarray:
        """Some rows, in their order, (n, ...).  Read anew each time: pages of a mapped file would stay in memory."""
        wanted = np.arange(len(self))[rows] if isinstance(rows, slice) or rows.dtype == bool else rows
        values = np.empty((len(wanted), *self.shape[1:]), dtype=self.dtype)
        size = math.prod(self.shape[1:]) * self.dtype.itemsize
        with self.path.open("rb", buffering=0) as file:
            for value, row in zip(values, wanted.tolist(), strict=True):
                if os.preadv(file.fileno(), [value], self.start + row * size) != size:
                    raise InputError(f"{self.path}: ends before row {row}: delete it and run again")
        return values


Rows = np.ndarray | RowFile


def write_rows(path: Path, count: int, parts: Iterable[np.ndarray]) -> RowFile:
    """An array of `count` rows in a file, written part by part; what an earlier run has written is kept."""
    if not path.exists():
        partial = path.with_name(f".{path.name}.tmp")
        with partial.open("wb") as file:
            for number, part in enumerate(parts):
                if number == 0:
                    shape = (count, *part.shape[1:])
                    npy.write_array_header_1_0(file, {"descr": part.dtype.str, "fortran_order": False, "shape": shape})
                file.write(np.ascontiguousarray(part).data)
        partial.replace(path)
    return RowFile.open(path)


DECODED = 256  # images decoded at once


@dataclass(frozen=True)
class Inputs:
    """N images.  images : (N, C, H, W) uint8.  features : (N, F) float32.  Either in memory or in a file."""

    images: Rows
    features: Rows

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, rows: np.ndarray | slice) -> Self:
        """Those of some rows, in their order, in memory."""
        return type(self)(self.images[rows], self.features[rows])


def read_inputs(images: Path, features: Path, needs_pixels: bool, folder: Path) -> Inputs:
    """Tables of images and of their features as files of rows in `folder`, which live as long as it does.

    needs_pixels : of the learner; images that no learner looks at are not decoded, and have no pixels.

    Raises InputError for a damaged table, or a statistic that is not finite.
    """
    count = read_table(features, ["image_id"]).num_rows
    parts = (features_of(group, features) for group in read_groups(features))
    described = write_rows(folder / f"{features.stem}.features.npy", count, parts)
    if needs_pixels:
        return Inputs(write_rows(folder / f"{images.stem}.images.npy", count, _decoded(images)), described)
    return Inputs(np.empty((count, 0, 0, 0), dtype=np.uint8), described)


def _decoded(images: Path) -> Iterator[np.ndarray]:
    for group in read_groups(images, ["image"]):
        for start in range(0, group.num_rows, DECODED):
            yield decode_images(group.slice(start, DECODED))


COLUMNS = 16  # compared at once


class FeatureRows(lgb.Sequence):
    """Some rows of the features, (n, F) float64."""

    batch_size = PART

    def __init__(self, features: Rows, rows: np.ndarray) -> None:
        self.features, self.rows = features, rows
        self._number, self._part = -1, np.empty((0, 0))  # the part that was read last: single rows come in order

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int | slice) -> np.ndarray:  # type: ignore[override]
        """One row or several."""
        if isinstance(index, slice):
            return self.features[self.rows[index]].astype(np.float64)
        number, place = divmod(int(index), PART)
        if number != self._number:
            self._number, self._part = number, self[number * PART : (number + 1) * PART]
        return self._part[place]

    def of(self, chosen: np.ndarray) -> Self:
        """Those of a mask (n,)."""
        return type(self)(self.features, self.rows[chosen])

    def parts(self) -> Iterator[np.ndarray]:
        """All rows, some at a time."""
        return (self[start : start + PART] for start in range(0, len(self), PART))


def distinct(feature_rows: FeatureRows) -> np.ndarray:
    """The place of each row among the distinct ones in their order, (n,): `np.unique`, a few columns at a time."""
    rows, place = np.unique(feature_rows.rows, return_inverse=True)
    alike, rank = FeatureRows(feature_rows.features, rows), np.zeros(len(rows), dtype=np.int64)
    for column in range(0, feature_rows.features.shape[1], COLUMNS):
        block = np.concatenate([part[:, column : column + COLUMNS] for part in alike.parts()])
        order = np.lexsort((*block.T[::-1], rank))
        new = (block[order[1:]] != block[order[:-1]]).any(1) | (np.diff(rank[order]) > 0)
        rank[order] = np.concatenate([[0], np.cumsum(new)])
        if rank.max() == len(rows) - 1:
            break  # no two are alike any more
    return rank[place]


VALIDATIONS = 8  # of an attacker, evenly from the first epoch (or tree) to the last
MONITORED = 500  # images of each sort whose loss is followed while an attacker is fitted


class TrainingSet:
    """The images and log scores, (N, S) float64, that one attacker learns from, as its resample says."""

    def __init__(self, inputs: Inputs, log_scores: np.ndarray, resample: Resample) -> None:
        self.inputs, self.log_scores, self.resample = inputs, log_scores, resample
        out_of_bag = resample.out_of_bag if resample.kept is None else resample.out_of_bag & ~resample.kept
        self._monitored = {
            "train": np.unique(resample.rows)[:MONITORED],
            "out_of_bag": np.flatnonzero(out_of_bag)[:MONITORED],
        }
        self._curve: list[dict[str, float]] = []
        self._best, self._lowest = 0, np.inf  # the validation kept, counted from 1, and its loss

    def validate(self, step: int, attacker: Any) -> bool:
        """Note the losses after a step.  Whether to keep the attacker as it is: it stops by no lower loss so far."""
        losses = {name: self._loss(attacker, rows) for name, rows in self._monitored.items() if len(rows)}
        self._curve.append({"step": step, **losses})
        stopping = self.resample.stopping
        loss = self._loss(attacker, stopping.rows) if stopping else -np.inf
        if stopping and self._best and not loss < self._lowest:
            return False
        self._best, self._lowest = len(self._curve), loss
        return True

    @property
    def stopped(self) -> bool:
        """Whether patience is at an end."""
        stopping = self.resample.stopping
        return stopping is not None and len(self._curve) - self._best >= stopping.patience

    def curve(self) -> pd.DataFrame:
        """The losses up to what was kept: columns step, train and out_of_bag (mean pinball losses)."""
        return pd.DataFrame(self._curve[: self._best], columns=["step", *self._monitored])

    def _loss(self, attacker: Any, rows: np.ndarray) -> float:
        return mean_pinball_loss(attacker.predict(self.inputs[rows]), self.log_scores[rows])
