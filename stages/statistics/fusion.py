"""Several scores of an image made one: a weighted sum of their normal scores.

Let z_k be an image's normal score in column k, standardised to mean 0 and variance 1 on non-members, and R the
correlation of the columns there.  The fused score is

    z = w'z / sqrt(w'Rw),    w >= 0,  sum(w) = 1,

again of mean 0 and variance 1 on non-members, whatever the weights.  If membership lowers every z_k by the same d, the
fused score of a member falls by d / sqrt(w'Rw): the weights that minimise w'Rw are the most powerful linear
combination.  No member is needed to find them.  They are not negative, because no score is higher for members.

With R = LL' and v = w / (w'Rw), the minimum is that of |L'v - L^-1 1|^2 over v >= 0: non-negative least squares.
R is shrunk towards independent columns (Ledoit & Wolf, J. Multivariate Analysis 2004), so that columns that say the
same share their weight instead of making R singular.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.optimize import nnls
from sklearn.covariance import ledoit_wolf

Rule = Literal["covariance", "largest", "mean"]


@dataclass(frozen=True)
class Fusion:
    """How K columns become one.  All arrays : (K,)."""

    centre: np.ndarray  # mean of each column's normal scores on non-members
    spread: np.ndarray  # and their standard deviation
    weights: np.ndarray | None  # None: the lowest z of an image, its most suspicious column, stands for all
    norm: float  # sqrt(w'Rw)

    def __call__(self, z: np.ndarray) -> np.ndarray:
        """(N, B, K) normal scores -> (N, B)."""
        standard = (z - self.centre) / self.spread
        return standard.min(axis=-1) if self.weights is None else standard @ self.weights / self.norm


def learn_fusion(z: np.ndarray, rule: Rule) -> Fusion:
    """The fusion of K columns that the honest normal scores of non-members, z : (n, K), call for; n >= 2."""
    centre, spread = z.mean(axis=0), np.maximum(z.std(axis=0), 1e-9)
    correlation = ledoit_wolf((z - centre) / spread, assume_centered=True)[0]  # (K, K)
    weights = {
        "covariance": lambda: minimum_variance_weights(correlation),
        "mean": lambda: np.full(len(centre), 1 / len(centre)),
        "largest": lambda: None,
    }[rule]()
    return Fusion(centre, spread, weights, 1.0 if weights is None else float(np.sqrt(weights @ correlation @ weights)))


def minimum_variance_weights(correlation: np.ndarray) -> np.ndarray:
    """w >= 0 with sum(w) = 1 that minimises w'Rw.  correlation : (K, K), positive definite.  Returns (K,)."""
    lower = np.linalg.cholesky(correlation)
    solution, _ = nnls(lower.T, np.linalg.solve(lower, np.ones(len(lower))))
    return solution / solution.sum()
