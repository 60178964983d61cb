"""Predictions of learners (quantiles, or a Gaussian), z-scores and losses under them, and the resamples of a bag.

A resample says which images an attacker is fitted on, stops by, and never sees; the seed decides.  Images are distinct,
as `split` leaves them: of copies, one could be in the resample and another out of bag.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import ndtri

# The levels at which attackers estimate quantiles: dense where false-positive rates are asked for.
LEVELS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)


@dataclass(frozen=True)
class LocationScale:
    """Gaussians.  location, scale : (N, S) float64, scale > 0."""

    location: np.ndarray
    scale: np.ndarray

    def z_scores(self, log_scores: np.ndarray) -> np.ndarray:
        """z of observed log scores.  (N, S) -> (N, S)."""
        return (log_scores - self.location) / self.scale

    def quantiles(self) -> np.ndarray:
        """Quantiles at the K `LEVELS`, (N, S, K)."""
        return self.location[..., None] + self.scale[..., None] * ndtri(LEVELS)


@dataclass(frozen=True)
class Quantiles:
    """Quantiles at K levels.  values : (N, S, K) float64, not decreasing along K."""

    values: np.ndarray
    levels: tuple[float, ...] = LEVELS

    def z_scores(self, log_scores: np.ndarray) -> np.ndarray:
        """z of observed log scores.  (N, S) -> (N, S).

        Between two quantiles z is linear.  Beyond the outermost it goes on as a Gaussian tail would, with the slope
        between that quantile and the middle one: the two last quantiles alone are too noisy a lever.
        """
        z, last = ndtri(self.levels), len(self.levels) - 1  # z : (K,)
        middle = int(np.argmin(np.abs(z)))
        quantiles = self.values + 1e-9 * np.arange(last + 1)  # equal quantiles would have no slope
        upper = np.clip((quantiles <= log_scores[..., None]).sum(-1), 1, last)  # (N, S)
        lower = upper - 1
        upper = np.where(log_scores < quantiles[..., 0], max(middle, 1), upper)
        lower = np.where(log_scores > quantiles[..., -1], min(middle, last - 1), lower)
        left, right = (np.take_along_axis(quantiles, i[..., None], -1)[..., 0] for i in (lower, upper))  # (N, S)
        return z[lower] + (log_scores - left) * (z[upper] - z[lower]) / (right - left)

    def quantiles(self) -> np.ndarray:
        """Quantiles at its levels, (N, S, K)."""
        return self.values


Prediction = LocationScale | Quantiles


def mean_pinball_loss(prediction: Prediction, log_scores: np.ndarray) -> float:
    """The mean over images, scores and `LEVELS` of the pinball loss: one yardstick for learners of every kind.

    log_scores : (N, S).  Lower is better; the unit is that of a log score.
    """
    error = log_scores[..., None] - prediction.quantiles()  # (N, S, K)
    levels = np.array(LEVELS)
    return float(np.maximum(levels * error, (levels - 1) * error).mean())


STOPPING = 0.25  # of the images out of bag, that an attacker stops by where it may stop early
MOST_STOPPING = 2000  # of them


@dataclass(frozen=True)
class Stopping:
    """When to stop early.  rows : (m,) images whose loss decides.  patience : looks without a lower loss, at most."""

    rows: np.ndarray
    patience: int


@dataclass(frozen=True)
class Resample:
    """What one attacker learns from.

    rows : (n,) indices, with repeats.  out_of_bag : (N,) bool, images that it is neither fitted on nor stops by.
    kept : (N,) bool, images that calibrate alone: settings must not be chosen by their losses; None: no such image.
    """

    rows: np.ndarray
    out_of_bag: np.ndarray
    stopping: Stopping | None = None
    kept: np.ndarray | None = None


def bootstrap(count: int, seed: int, attacker: int) -> np.ndarray:
    """The resample of one attacker: `count` indices in 0..count - 1, drawn with replacement."""
    return np.random.default_rng([seed, attacker]).integers(count, size=count)


def resamples(
    kept: np.ndarray, seed: int, bag_size: int, patience: int = 0, unit: np.ndarray | None = None
) -> list[Resample]:
    """A resample for each attacker, of the units outside the calibration split, with all their images.

    kept : (N,) bool, over distinct images.  patience : 0: each attacker is fitted to the end, and sees nothing out of
    bag.  unit : (N,) int, the unit of each image; by default each image is one.
    """
    images = _images_of(kept, unit)  # of each free unit
    drawn = []
    for attacker in range(bag_size):
        chosen = bootstrap(len(images), seed, attacker)
        order = np.random.default_rng([seed, attacker, 1]).permutation(np.setdiff1d(np.arange(len(images)), chosen))
        count = min(int(np.ceil(STOPPING * len(order))), MOST_STOPPING) if patience else 0
        rows, stops_by = (_together(images, units) for units in (chosen, np.sort(order[:count])))
        out_of_bag = np.ones(len(kept), dtype=bool)
        out_of_bag[rows] = out_of_bag[stops_by] = False
        stopping = Stopping(stops_by, patience) if len(stops_by) else None
        drawn.append(Resample(rows, out_of_bag, stopping, kept))
    return drawn


def _images_of(kept: np.ndarray, unit: np.ndarray | None) -> list[np.ndarray]:
    """The images of each unit outside the calibration split, in the order of their first one."""
    free = np.flatnonzero(~kept)
    if unit is None:
        return list(free[:, None])
    return [rows.to_numpy() for _, rows in pd.Series(free).groupby(unit[free], sort=False)]


def _together(images: list[np.ndarray], units: np.ndarray) -> np.ndarray:
    return np.concatenate([np.empty(0, dtype=np.int64), *(images[number] for number in units.tolist())])


def calibration_split(total: int, count: int, seed: int, unit: np.ndarray | None = None) -> np.ndarray:
    """(N,) bool: `count` of `total` images that no attacker is fitted on; of larger units, as many as `count` holds.

    unit : (N,) int, the unit of each image; by default each image is one.
    """
    images = _images_of(np.zeros(total, dtype=bool), unit)
    order = np.random.default_rng([seed, len(images)]).permutation(len(images))
    sizes = np.cumsum([len(images[number]) for number in order.tolist()])
    kept = np.zeros(total, dtype=bool)
    kept[_together(images, order[sizes <= count])] = True
    return kept
