"""Inputs of learners: features and pixels of images, in memory or on disk, and the training set of one attacker.

A training set records its losses and decides when to stop: once the loss on images that are not fitted on has not
gone down for a while; what was best is kept (Prechelt, "Early Stopping - But When?", 1998).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.lib import format as npy

from leakgauge.errors import InputError
from leakgauge.files import new_file
from leakgauge.quantile.base import Resample, mean_pinball_loss
from leakgauge.tables import (
    BASE,
    base_columns,
    column_names,
    decode_images,
    features_of,
    log_scores,
    read_groups,
    read_table,
)

PART = 1024  # rows in memory at once, where all are needed


def write_rows(path: Path, count: int, parts: Iterable[np.ndarray]) -> np.ndarray:
    """An array of `count` rows, mapped from a file that is written part by part; what an earlier run wrote is kept.

    parts : each (n, ...), of one dtype.  Returns (count, ...), read-only.  Raises InputError for a file cut short.
    """
    if not path.exists():
        with new_file(path) as file:  # not `open_memmap`: on a full disk, writing to a mapped file ends in SIGBUS
            for number, part in enumerate(parts):
                if number == 0:
                    shape = (count, *part.shape[1:])
                    npy.write_array_header_1_0(file, {"descr": part.dtype.str, "fortran_order": False, "shape": shape})
                file.write(np.ascontiguousarray(part).data)
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (EOFError, ValueError) as error:
        raise InputError(f"{path}: {error}: delete it and run again") from None


DECODED = 256  # images decoded at once


NO_BASE = np.empty((0, 0), dtype=np.float32)


@dataclass(frozen=True)
class Inputs:
    """N images.  images : (N, C, H, W) uint8.  features : (N, F) float32.  Either in memory or mapped from a file.

    under_base : (N, K) float32, in memory: logs of all scores under the target's base; K = 0 where there is none.
    own_base : (N, S) float64, in memory: those of the S scores that are learnt, 0 for one that is a ratio already.
    """

    images: np.ndarray
    features: np.ndarray
    under_base: np.ndarray = field(default_factory=lambda: NO_BASE)
    own_base: np.ndarray = field(default_factory=lambda: NO_BASE)

    def __post_init__(self) -> None:
        """Raises ValueError for scores under a base of which own ones are missing."""
        if len(self.own_base) != len(self.under_base):
            raise ValueError(f"under_base has {len(self.under_base)} images, own_base {len(self.own_base)}")

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, rows: np.ndarray | slice) -> Self:
        """Those of some rows, in their order."""
        base = (self.under_base[rows], self.own_base[rows]) if self.has_base else ()
        return type(self)(self.images[rows], self.features[rows], *base)

    @property
    def has_base(self) -> bool:
        """Whether log scores under a base are known."""
        return self.under_base.shape[1] > 0


def read_inputs(
    images: Path, features: Path, scores: Path, learnt: list[str], needs_pixels: bool, folder: Path
) -> Inputs:
    """Tables of images and of their features as files of rows in `folder`, which live as long as it does.

    scores : a table of their scores, perhaps with some under a base.  learnt : the columns of it that are learnt.
    needs_pixels : of the learner; images that no learner looks at are not decoded, and have no pixels.

    Raises InputError for a damaged table, or a statistic that is not finite.
    """
    base = read_base(scores, learnt)
    count = read_table(features, ["image_id"]).num_rows
    parts = (features_of(group, features) for group in read_groups(features))
    described = write_rows(folder / f"{features.stem}.features.npy", count, parts)
    if needs_pixels:
        return Inputs(write_rows(folder / f"{images.stem}.images.npy", count, _decoded(images)), described, *base)
    return Inputs(np.empty((count, 0, 0, 0), dtype=np.uint8), described, *base)


def read_base(scores: Path, learnt: list[str]) -> tuple[np.ndarray, ...]:
    """`under_base` and `own_base` of a table of scores; nothing where it has no base."""
    under = {name: log_scores(scores, name) for name in base_columns(column_names(scores))}
    if not under:
        return ()
    everything = np.stack(list(under.values()), 1)
    own = [under.get(f"{name}{BASE}", np.zeros(len(everything))) for name in learnt]
    return everything.astype(np.float32), np.stack(own, 1)


def _decoded(images: Path) -> Iterator[np.ndarray]:
    for group in read_groups(images, ["image"]):
        for start in range(0, group.num_rows, DECODED):
            yield decode_images(group.slice(start, DECODED))


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
