"""Several scores as one: the soft minimum of columns, and a stack of learners."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import softmax


def fuse(z: np.ndarray) -> np.ndarray:
    """K z-scores to one.  z : (..., K) float, lower is more member-like.  Returns (...) float."""
    return np.log(z.shape[-1]) - np.logaddexp.reduce(-z, axis=-1)


@dataclass(frozen=True)
class Stack:
    """Weights of L learners.  location, scale : (L,) w and v above.  offset : c."""

    location: np.ndarray
    scale: np.ndarray
    offset: float

    def combine(self, location: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """location, scale : (L, ...) of the learners.  Returns (...) of the stack."""
        return (
            np.tensordot(self.location, location, axes=1),
            np.exp(self.offset + np.tensordot(self.scale, np.log(scale), axes=1)),
        )


def fit_stack(location: np.ndarray, scale: np.ndarray, observed: np.ndarray) -> Stack:
    """location, scale : (L, P) predictions of P log scores by attackers that never saw the images; observed : (P,)."""
    learners = len(location)
    log_scale = np.log(scale)

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        logits, exponents, offset = np.split(parameters, [learners, 2 * learners])
        weights = softmax(logits)
        log_s = offset[0] + exponents @ log_scale  # (P,)
        error = (observed - weights @ location) * np.exp(-log_s)  # (P,) in units of the scale
        by_weight = -(location * (error * np.exp(-log_s))).mean(1)  # (L,)
        excess = 1 - error**2
        gradient = np.concatenate(
            [weights * (by_weight - weights @ by_weight), (log_scale * excess).mean(1), [excess.mean()]]
        )
        return float((log_s + error**2 / 2).mean()), gradient

    start = np.concatenate([np.zeros(learners), np.full(learners, 1 / learners), [0.0]])
    bounds = [(-20, 20)] * learners + [(0, None)] * learners + [(None, None)]
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds)
    logits, exponents, offset = np.split(found.x, [learners, 2 * learners])
    return Stack(softmax(logits), exponents, float(offset[0]))
