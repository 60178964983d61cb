"""Conformal p-values where the images asked about come from another distribution than the auxiliary ones.

Tibshirani, Foygel Barber, Candes & Ramdas, "Conformal Prediction Under Covariate Shift", NeurIPS 2019: if only the
images' distribution differs, not that of a non-member's score given its image, auxiliary images that are weighted by
the likelihood ratio w = dP_asked / dP_auxiliary stand for non-members among those asked about:

    p(x) = (sum_i w_i 1{m_i >= m(x)} + w(x)) / (sum_i w_i + w(x)).

With w = 1 everywhere it is `calibration.conformal_p_values`.  The guarantee needs the true ratio.
"""

import numpy as np


def weighted_p_values(
    margin: np.ndarray, weight: np.ndarray, non_members: np.ndarray, their_weight: np.ndarray
) -> np.ndarray:
    """p-value of each image for "not a member".  Returns (N,).

    margin, weight : (N,) of the images asked about.  non_members, their_weight : (n,) of honest non-members.
    """
    order = np.argsort(non_members)
    below = np.searchsorted(non_members[order], margin, side="left")
    from_here = np.append(np.cumsum(their_weight[order][::-1])[::-1], 0.0)  # (n + 1,): sum of w_i at least this high
    return (from_here[below] + weight) / (their_weight.sum() + weight)


def effective_size(weight: np.ndarray) -> float:
    """How many equally weighted images would vary as little: (sum w)^2 / sum w^2 (Kish 1965)."""
    return float(weight.sum() ** 2 / (weight**2).sum())
