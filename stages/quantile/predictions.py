"""What an attacker says of an image: the distribution of its log score, were it not a member."""

from dataclasses import dataclass

import numpy as np

# The levels at which attackers estimate quantiles: dense where false-positive rates are asked for.
LEVELS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)


@dataclass(frozen=True)
class LocationScale:
    """A Gaussian.  location, scale : (N,) float64, scale > 0."""

    location: np.ndarray
    scale: np.ndarray

    def columns(self) -> dict[str, np.ndarray]:
        """What is stored of it, by column name."""
        return {"location": self.location[:, None], "scale": self.scale[:, None]}


@dataclass(frozen=True)
class Quantiles:
    """Quantiles at the K `LEVELS`.  values : (N, K) float64, not decreasing along K."""

    values: np.ndarray

    def columns(self) -> dict[str, np.ndarray]:
        """What is stored of it, by column name."""
        return {"quantiles": self.values}


Prediction = LocationScale | Quantiles
