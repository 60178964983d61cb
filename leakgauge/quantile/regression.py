"""What a linear regression foretells of a log score, or of its ratio to that under a base; learners learn the rest.

Where a target has a base, an image's log scores under it foretell most of those under the target.  What is regressed is
the log ratio to the image's own score under the base: a light fine-tune leaves it flat, and the penalty shrinks towards
the plain ratio; a heavy one makes it fall with the base's scores, and the slope is learnt.  A base that is the target
itself leaves nothing.  Learners of every kind then learn the residual.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from safetensors.numpy import load_file, save_file

from leakgauge.quantile.base import LocationScale, Prediction, Quantiles

PENALTIES = np.logspace(-3, 4, 15)  # of which the one is taken that foretells images left out best
FARTHEST = 5.0  # deviations: beyond, inputs are clipped, so that a strange image is not extrapolated to


@dataclass(frozen=True)
class Regression:
    """Ridge regression of S log scores on K inputs, which are standardised.  All arrays float64."""

    mean: np.ndarray  # (K,)
    spread: np.ndarray  # (K,), inf for a constant input
    slope: np.ndarray  # (K, S)
    intercept: np.ndarray  # (S,)

    @classmethod
    def fit(cls, inputs: np.ndarray, log_scores: np.ndarray, rows: np.ndarray) -> Self:
        """inputs : (N, K).  log_scores : (N, S).  rows : (n,) of a resample; an image drawn twice weighs twice."""
        from sklearn.linear_model import RidgeCV  # takes a second, and most learners regress nothing

        image, weight = np.unique(rows, return_counts=True)  # of repeats one would foretell the other
        x, y = np.asarray(inputs[image], dtype=np.float64), log_scores[image]
        mean, spread = x.mean(0), x.std(0)
        spread = np.where(spread > 1e-9 * (1 + np.abs(mean)), spread, np.inf)
        standardised = ((x - mean) / spread).clip(-FARTHEST, FARTHEST)
        fitted = [RidgeCV(PENALTIES).fit(standardised, of_score, sample_weight=weight) for of_score in y.T]
        slope = np.stack([one.coef_ for one in fitted], axis=1)
        return cls(mean, spread, slope, np.array([one.intercept_ for one in fitted]))

    def predict(self, inputs: np.ndarray) -> np.ndarray:
        """(N, K) -> (N, S)."""
        standardised = ((np.asarray(inputs, dtype=np.float64) - self.mean) / self.spread).clip(-FARTHEST, FARTHEST)
        return standardised @ self.slope + self.intercept

    def save(self, path: Path) -> None:
        """Write a file of tensors."""
        save_file({name: np.ascontiguousarray(value) for name, value in vars(self).items()}, path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote."""
        return cls(**load_file(path))


def shifted(prediction: Prediction, by: np.ndarray) -> Prediction:
    """The prediction of a log score from that of its residual.  by : (N, S), what was foretold."""
    if isinstance(prediction, LocationScale):
        return LocationScale(prediction.location + by, prediction.scale)
    return Quantiles(prediction.values + by[..., None], prediction.levels)
