"""What differential privacy allows an attacker, whoever it is.

Kairouz, Oh & Viswanath, "The Composition Theorem for Differential Privacy", ICML 2015, Sec. 2.1: of a training that is
(epsilon, delta)-private, every test of "was this image a member?" has

    TPR <= e^epsilon FPR + delta   and   1 - FPR <= e^epsilon (1 - TPR) + delta.
"""

import numpy as np


def largest_tpr(epsilon: np.ndarray | float, delta: float, fpr: float) -> np.ndarray:
    """The largest TPR at an FPR under (epsilon, delta), of epsilon's shape, float64."""
    few = np.exp(epsilon) * fpr + delta
    many = 1 - np.exp(-np.asarray(epsilon)) * (1 - fpr - delta)
    return np.clip(np.minimum(few, many), 0, 1)
