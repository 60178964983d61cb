"""How a bag votes, and the continuous margin behind its vote.

An attacker says "member" at level alpha when the score is at most its alpha-quantile for this image.  On the scale
of normal scores z = Phi^-1(P(log score <= observed | image, not a member)) that is z <= Phi^-1(alpha).

More than half of B attackers say so exactly when the (B // 2 + 1)-th smallest of their z does: the majority vote is
one comparison with one number, the bag's margin (its negative), for every alpha at once.
"""

import numpy as np
from scipy.stats import norm


def normal_scores_of_gaussians(log_scores: np.ndarray, location: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """z of each image under each attacker.  log_scores : (N,); location, scale : (N, B).  Returns (N, B)."""
    return (log_scores[:, None] - location) / scale


def normal_scores_of_quantiles(log_scores: np.ndarray, levels: np.ndarray, quantiles: np.ndarray) -> np.ndarray:
    """z of each image under each attacker, from quantiles at K increasing levels.

    log_scores : (N,); levels : (K,); quantiles : (N, B, K).  Returns (N, B).

    Between two quantiles z is linear.  Beyond the outermost it goes on as a Gaussian tail would, with the slope
    between that quantile and the middle one: the two last quantiles alone are too noisy a lever.
    """
    z, last = norm.ppf(levels), len(levels) - 1  # z : (K,)
    middle = int(np.argmin(np.abs(z)))
    quantiles = quantiles + 1e-9 * np.arange(len(levels))  # equal quantiles would have no slope
    y = np.broadcast_to(log_scores[:, None], quantiles.shape[:2])  # (N, B)
    upper = np.clip((quantiles <= y[..., None]).sum(-1), 1, last)  # (N, B)
    lower = upper - 1
    upper = np.where(y < quantiles[..., 0], max(middle, 1), upper)
    lower = np.where(y > quantiles[..., -1], min(middle, last - 1), lower)
    left, right = (np.take_along_axis(quantiles, i[..., None], -1)[..., 0] for i in (lower, upper))  # (N, B)
    return z[lower] + (y - left) * (z[upper] - z[lower]) / (right - left)


def bag_margin(z: np.ndarray, voters: np.ndarray | None = None) -> np.ndarray:
    """The margin of a bag: its voters say "member" at alpha, by majority, when margin >= -Phi^-1(alpha).

    z : (N, B) normal scores, or (N, B, K) of K columns.  voters : (N, B) bool, who may vote on each image; by default
    all.  Returns (N,) or (N, K); -inf where nobody may vote.
    """
    if voters is None:
        return -np.sort(z, axis=1)[:, z.shape[1] // 2]
    may_vote = voters if z.ndim == 2 else voters[..., None]
    ordered = np.sort(np.where(may_vote, z, np.inf), axis=1)  # those who may not vote stand last
    return -ordered[np.arange(len(z)), voters.sum(axis=1) // 2]


def votes(margin: np.ndarray, alpha: float) -> np.ndarray:
    """The majority vote at nominal level alpha, as the learner's own quantiles have it.  (N,) bool."""
    return margin >= -norm.ppf(alpha)
