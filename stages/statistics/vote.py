"""How a bag votes, and the continuous margin behind its vote.

An attacker says "member" at level alpha when the score is at most its alpha-quantile for this image.  On the scale
of normal scores z = Phi^-1(P(log score <= observed | image, not a member)) that is z <= Phi^-1(alpha).

More than half of an odd number of attackers say so exactly when the median of their z does: the majority vote is one
comparison with one number, the bag's margin (minus the median), for every alpha at once.  Of an even number the median
is the mean of the middle two, so that neither "member" nor "not a member" is favoured, whatever the number of voters.
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
    """The margin of a bag, minus the median z of its voters: they say "member" at alpha when it is >= -Phi^-1(alpha).

    z : (N, B) normal scores, or (N, B, K) of K columns.  voters : (N, B) bool, which attackers vote on each image; by
    default all.  Returns (N,) or (N, K); -inf where none votes.
    """
    if voters is None:
        return -np.median(z, axis=1)
    votes_on = voters if z.ndim == 2 else voters[..., None]
    ordered = np.sort(np.where(votes_on, z, np.inf), axis=1)  # attackers that do not vote stand last
    rows, count = np.arange(len(z)), voters.sum(axis=1)
    return -(ordered[rows, (count - 1) // 2] + ordered[rows, count // 2]) / 2


def drawn_voters(z: np.ndarray, voters: np.ndarray) -> np.ndarray:
    """The attackers that vote on each new image: those of a calibrating image drawn at random.  (N, B) bool.

    z : (N, B) normal scores of the new images.  voters : (n, B) bool, which attackers vote on each calibrating image.

    The draw is a hash (splitmix64) of the image's own normal scores, to three decimals: whatever its name, and the
    order or batch that it comes in, the same image gets the same voters.
    """
    if not len(voters) or voters.all():
        return np.ones(z.shape, dtype=bool)
    key = np.zeros(len(z), dtype=np.uint64)
    for column in (np.round(z, 3) + 0.0).T:  # 0.0 makes -0.0 and 0.0 one
        key = _splitmix64(key ^ np.ascontiguousarray(column).view(np.uint64))
    return voters[key % np.uint64(len(voters))]


def _splitmix64(key: np.ndarray) -> np.ndarray:
    """(N,) uint64, well mixed (Steele, Lea & Flood, "Fast splittable pseudorandom number generators", 2014)."""
    key = key + np.uint64(0x9E3779B97F4A7C15)
    key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return key ^ (key >> np.uint64(31))


def votes(margin: np.ndarray, alpha: float) -> np.ndarray:
    """The vote at nominal level alpha, as the learner's own quantiles have it.  (N,) bool."""
    return margin >= -norm.ppf(alpha)
