"""Several scores as one: the soft minimum of columns, and a stack of learners.

**The soft minimum** learns nothing: minus the log of the mean of exp(-z).  z_1, ..., z_K are an image's z-scores, one a
column, each about N(0, 1) for a non-member. Suppose that a member differs in one column k, we do not know which, whose
z is lower by 1, and that the other columns follow as far as they are correlated with it: N(-R e_k, R) against N(0, R).
The likelihood ratio of the two is exp(-z_k - 1/2), whatever the correlation R, and its mean over k is Neyman and
Pearson's test of the mixture. So the fused score is

    z = -log(mean_k exp(-z_k)),    min_k z_k <= z <= mean_k z_k,

a soft minimum: a column that drops far decides alone, as the lowest z would, and several that drop a little add up.
K equal columns give their z.

Why this one: weights of least variance, learnt on non-members, favour columns that err apart from the others, also
where these carry no signal, and make p-values too low where they are learnt on the images that calibrate.  On random
sets of six columns of four pilot targets they lose 4 to 31 points of TPR to a set's best column, the soft minimum 0 to
5 (`benchmarks/validity/fusion.md`).  The drop of 1 is no setting: no other is better on all of the pilots.

**The stack** combines several learners' predictions, weighted by how well they predict images out of bag.

    location = sum_l w_l location_l      w_l >= 0, sum_l w_l = 1
    log scale = c + sum_l v_l log scale_l      v_l >= 0

The weights maximise the Gaussian likelihood of auxiliary non-members' log scores under attackers that never saw them.
Wolpert, "Stacked generalization", Neural Networks 1992; Breiman, "Stacked regressions", Machine Learning 1996.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import softmax


def fuse(z: np.ndarray) -> np.ndarray:
    """K z-scores to one.  z : (..., K) float, lower is more member-like.  Returns (...) float."""
    return np.log(z.shape[-1]) - np.logaddexp.reduce(-z.astype(np.float64), axis=-1)


@dataclass(frozen=True)
class Stack:
    """Weights of L learners.  location, scale : (L,) w and v above.  offset : c."""

    location: np.ndarray
    scale: np.ndarray
    offset: float

    def z_scores(self, z: np.ndarray, log_scale: np.ndarray) -> np.ndarray:
        """z under the stack.  z, log_scale : (L, ...) of the learners.  Returns (...).

        What a learner errs by is z_l scale_l, and what the stack errs by their weighted mean, for the weights sum to 1.
        """
        error = np.tensordot(self.location, z * np.exp(log_scale), axes=1)
        return error / np.exp(self.offset + np.tensordot(self.scale, log_scale, axes=1))


def fit_stack(z: np.ndarray, log_scale: np.ndarray) -> Stack:
    """z, log_scale : (L, P) float64 of P log scores under attackers that never saw the images."""
    learners = len(z)
    errors = z * np.exp(log_scale)  # (L, P): observed - location

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        logits, exponents, offset = np.split(parameters, [learners, 2 * learners])
        weights = softmax(logits)
        log_s = offset[0] + exponents @ log_scale  # (P,)
        error = (weights @ errors) * np.exp(-log_s)  # (P,) in units of the scale
        by_weight = (errors * (error * np.exp(-log_s))).mean(1)  # (L,)
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
