"""What an attacker says of an image: the distribution of its S log scores, were it not a member."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

# The levels at which attackers estimate quantiles: dense where false-positive rates are asked for.
LEVELS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)


@dataclass(frozen=True)
class LocationScale:
    """Gaussians.  location, scale : (N, S) float64, scale > 0."""

    location: np.ndarray
    scale: np.ndarray

    def columns(self, score: int) -> dict[str, np.ndarray]:
        """What is stored of one score, by column name, each (N, L)."""
        return {"location": self.location[:, [score]], "scale": self.scale[:, [score]]}

    def quantiles(self) -> np.ndarray:
        """Quantiles at the K `LEVELS`, (N, S, K)."""
        return self.location[..., None] + self.scale[..., None] * norm.ppf(LEVELS)


@dataclass(frozen=True)
class Quantiles:
    """Quantiles at the K `LEVELS`.  values : (N, S, K) float64, not decreasing along K."""

    values: np.ndarray

    def columns(self, score: int) -> dict[str, np.ndarray]:
        """What is stored of one score, by column name, each (N, L)."""
        return {"quantiles": self.values[:, score]}

    def quantiles(self) -> np.ndarray:
        """Quantiles at the K `LEVELS`, (N, S, K)."""
        return self.values


Prediction = LocationScale | Quantiles


def mean_pinball_loss(prediction: Prediction, log_scores: np.ndarray) -> float:
    """The mean over images, scores and `LEVELS` of the pinball loss: one yardstick for learners of every kind.

    log_scores : (N, S).  Lower is better; the unit is that of a log score.
    """
    error = log_scores[..., None] - prediction.quantiles()  # (N, S, K)
    levels = np.array(LEVELS)
    return float(np.maximum(levels * error, (levels - 1) * error).mean())
