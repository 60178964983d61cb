"""From z-scores to p-values: the majority vote as one number, calibrated out of bag or on a calibration split.

**The vote.**  An attacker says "member" at level alpha when the score is at most its alpha-quantile for this image.  On
the scale of z-scores z = Phi^-1(P(log score <= observed | image, not a member)) that is z <= Phi^-1(alpha).

More than half of an odd number of attackers say so exactly when the median of their z does: the majority vote is one
comparison with one number, the bag's membership score (minus the median), for every alpha at once. Of an even number
the median is the mean of the middle two, so that neither "member" nor "not a member" is favoured, whatever the number
of voters.

**Calibration.**  Conformal p-values keep their error rates however poor the learner is.  A new image is as suspicious
as its membership score is rare among auxiliary images', each given by attackers that never saw the image (Vovk,
Gammerman & Shafer, "Algorithmic Learning in a Random World", 2005). Two ways to have such membership scores:

- calibration split: nothing was learnt from these n images.  A new non-member that is exchangeable with them has a
  p-value of at most alpha with probability floor(alpha (n + 1)) / (n + 1), or less where scores tie: exact for every n.
- out of bag: every auxiliary image i was left out of the resamples of some attackers S_i, about 37 % of them, and their
  median z gives its membership score (as in Kim, Xu & Barber, "Predictive inference is free with the jackknife+-after-
  bootstrap", NeurIPS 2020).  A new image would be judged by all attackers, and a median of more is less noisy: not the
  same statistic.  So its p-value comes from the median over S_j, the attackers that vote on an auxiliary image j drawn
  at random (`drawn_voters`).  The scores of i and of a new non-member then differ only in what S_i and S_j saw, two
  bootstraps of the same images.  It costs no auxiliary image, but the guarantee is not exact; benchmarks/validity
  measures it.  What has no p-value (ROC, AUC, TPR at an FPR) is judged by all attackers.

**Covariate shift** (Tibshirani, Foygel Barber, Candes & Ramdas, "Conformal Prediction Under Covariate Shift", NeurIPS
2019).  If only the distribution of images differs, not that of a non-member's score given its image, auxiliary images
weighted by the likelihood ratio w = dP_asked / dP_auxiliary stand for non-members among those asked about:

    p(x) = (sum_i w_i 1{m_i >= m(x)} + w(x)) / (sum_i w_i + w(x)).

With w = 1 everywhere it is `conformal_p_values`.  The guarantee needs the true ratio.

**Units** (Lee, Barber & Willett, "Distribution-free inference with hierarchical data", 2023).  Where units are
exchangeable (patients, scenes), and not their images, an auxiliary image counts one over the images of its unit, and a
new one as a unit: of U units no p-value is below 1 / (U + 1).  A non-member drawn at random of a new unit then has a
p-value of at most alpha with probability at most alpha.  Were each image to count as one, that could be about
alpha + 1 / (U + 1).
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import beta, betabinom, norm

from leakgauge.inference.units import count_units, unit_codes, unit_weights


def bag_vote(z: np.ndarray, voters: np.ndarray | None = None) -> np.ndarray:
    """The membership score of a bag, minus the median z of its voters: they say "member" at alpha when it is >=
    -Phi^-1(alpha).

    z : (N, B) z-scores, or (N, B, K) of K columns.  voters : (N, B) bool, which attackers vote on each image; by
    default all.  Returns (N,) or (N, K); -inf where none votes.
    """
    z = np.asarray(z, dtype=np.float64)
    if voters is None:
        return -np.median(z, axis=1)
    votes_on = voters if z.ndim == 2 else voters[..., None]
    ordered = np.sort(np.where(votes_on, z, np.inf), axis=1)  # attackers that do not vote stand last
    rows, count = np.arange(len(z)), voters.sum(axis=1)
    return -(ordered[rows, (count - 1) // 2] + ordered[rows, count // 2]) / 2


def drawn_voters(z: np.ndarray, voters: np.ndarray) -> np.ndarray:
    """The attackers that vote on each new image: those of a calibrating image drawn at random.  (N, B) bool.

    z : (N, B) z-scores of the new images.  voters : (n, B) bool, which attackers vote on each calibrating image.

    The draw is a hash (splitmix64) of the image's own z-scores, to three decimals: whatever its name, and the
    order or batch that it comes in, the same image gets the same voters.
    """
    if not len(voters) or voters.all():
        return np.ones(z.shape, dtype=bool)
    key = np.zeros(len(z), dtype=np.uint64)
    for column in (np.round(z.astype(np.float64), 3) + 0.0).T:  # 0.0 makes -0.0 and 0.0 one
        key = _splitmix64(key ^ np.ascontiguousarray(column).view(np.uint64))
    return voters[key % np.uint64(len(voters))]


def _splitmix64(key: np.ndarray) -> np.ndarray:
    """(N,) uint64, well mixed (Steele, Lea & Flood, "Fast splittable pseudorandom number generators", 2014)."""
    key = key + np.uint64(0x9E3779B97F4A7C15)
    key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return key ^ (key >> np.uint64(31))


def votes(membership_score: np.ndarray, alpha: float) -> np.ndarray:
    """The vote at nominal level alpha, as the learner's own quantiles have it.  (N,) bool."""
    return membership_score >= -norm.ppf(alpha)


def conformal_p_values(
    membership_score: np.ndarray, non_members: np.ndarray, units: np.ndarray | None = None
) -> np.ndarray:
    """p-value of each image for "not a member": (1 + #{non-members at least as member-like}) / (n + 1).

    membership_score : (N,) of the images asked about.  non_members : (n,) out-of-bag membership scores of non-members.
    units : (n,) of these; where images share one, each counts one over their number, and n is that of units.
    Returns (N,).
    """
    order = np.argsort(non_members, kind="stable")
    below = np.searchsorted(non_members[order], membership_score, side="left")
    if unit_codes(units) is None:
        return (1 + len(non_members) - below) / (len(non_members) + 1)
    weight = unit_weights(units, len(non_members))[order]
    above = np.append(np.cumsum(weight[::-1])[::-1], 0.0)[below].round(9)  # what is whole stays so
    return (1 + above) / (count_units(units, len(non_members)) + 1)


def fpr_interval(calibrating: int, alpha: float, confidence: float) -> tuple[float, float]:
    """Bounds of the false-positive rate at `alpha` of one draw of the images that calibrate, at this confidence.

    calibrating : n, how many images calibrate.  Averaged over draws the rate of a conformal verdict is at most alpha.
    Given one draw it follows Beta(k, n + 1 - k) with k = floor(alpha (n + 1)) (Vovk, "Conditional Validity of
    Inductive Conformal Predictors", 2012), exact for a calibration split and membership scores without ties; out-of-bag
    calibration comes close.  Both bounds are zero where no p-value can reach alpha, that is where alpha < 1 / (n + 1).
    """
    if not (flagging := _flagging(calibrating, alpha)):
        return 0.0, 0.0
    tail = (1 - confidence) / 2
    low, high = beta.ppf([tail, 1 - tail], flagging, calibrating + 1 - flagging)
    return float(low), float(high)


def fpr_range(calibrating: int, measuring: int, alpha: float, confidence: float) -> tuple[float, float]:
    """Between which realised rates chance leaves calibrated verdicts at `alpha`, where calibration is exact.

    calibrating : n and measuring : N, images that calibrate, and non-members that the rate is measured on.  Both are
    drawn: the count of false positives is beta-binomial(N, k, n + 1 - k), k = floor(alpha (n + 1)).  Returns the ends
    of its central range at this confidence, as shares of N: a realised rate outside says that calibration is off.
    Both are zero where no p-value can reach alpha.
    """
    if not (flagging := _flagging(calibrating, alpha)):
        return 0.0, 0.0
    counts = betabinom(measuring, flagging, calibrating + 1 - flagging)
    reach = 12 * counts.std() + 12  # beyond it nothing counts; a quantile of scipy's would sum up all of N
    near = np.arange(max(0, int(counts.mean() - reach)), min(measuring, int(counts.mean() + reach)) + 1)
    below = np.cumsum(counts.pmf(near))
    low, high = near[np.searchsorted(below, [(1 - confidence) / 2, (1 + confidence) / 2]).clip(max=len(near) - 1)]
    return float(low / measuring), float(high / measuring)


def _flagging(calibrating: int, alpha: float) -> int:
    """k = floor(alpha (n + 1)); 0.01 * 300 is 3, not 2.999..."""
    return math.floor(alpha * (calibrating + 1) + 1e-9)


def weighted_p_values(
    membership_score: np.ndarray, weight: np.ndarray, non_members: np.ndarray, their_weight: np.ndarray
) -> np.ndarray:
    """p-value of each image for "not a member".  Returns (N,).

    membership_score, weight : (N,) of the images asked about.
    non_members, their_weight : (n,) out of bag.
    """
    order = np.argsort(non_members)
    below = np.searchsorted(non_members[order], membership_score, side="left")
    from_here = np.append(np.cumsum(their_weight[order][::-1])[::-1], 0.0)  # (n + 1,): sum of w_i at least this high
    return (from_here[below] + weight) / (their_weight.sum() + weight)


def effective_size(weight: np.ndarray) -> float:
    """How many equally weighted images would vary as little: (sum w)^2 / sum w^2 (Kish 1965)."""
    return float(weight.sum() ** 2 / (weight**2).sum())


@dataclass(frozen=True)
class AttackResult:
    """One bag on one target.  Dictionaries go by role, `member`, `holdout` or `suspect`."""

    z: dict[str, np.ndarray]  # (N, B) z-scores
    membership_score: dict[str, np.ndarray]  # (N,) of all attackers; higher is more member-like
    matched: dict[str, np.ndarray]  # (N,) of as many attackers as vote on a calibrating image: behind the p-values
    p_value: dict[str, np.ndarray]  # (N,) of "not a member"
    non_members: np.ndarray  # (n,) membership scores of the auxiliary images behind the p-values
    calibration_by: str  # "calibration split": nothing was learnt from these images; "out of bag": see `calibration`
    units: np.ndarray | None = None  # (n,) of these images, where they have some

    @property
    def calibration_size(self) -> int:
        """n, of images, or of their units: no p-value is below 1 / (n + 1)."""
        return count_units(self.units, len(self.non_members))


def judge(
    z: dict[str, np.ndarray],
    auxiliary: np.ndarray,
    out_of_bag: np.ndarray,
    calibrates: np.ndarray,
    units: np.ndarray | None = None,
) -> AttackResult:
    """Membership scores and p-values of the images of each role.

    z : role -> (N, B) z-scores.  auxiliary : (n, B) z-scores.  out_of_bag : (n, B) out-of-bag mask.
    calibrates : (n,) bool, the auxiliary images whose membership scores the p-values come from; of these an image that
    every attacker saw says nothing and is left out.  units : (n,) of the auxiliary images.
    """
    membership_score = {role: bag_vote(scores) for role, scores in z.items()}
    usable = calibrates & out_of_bag.any(axis=1)
    non_members = bag_vote(auxiliary[usable], out_of_bag[usable])
    matched = {role: bag_vote(scores, drawn_voters(scores, out_of_bag[usable])) for role, scores in z.items()}
    of_units = None if units is None else units[usable]
    p_value = {role: conformal_p_values(values, non_members, of_units) for role, values in matched.items()}
    apart = not calibrates.all() and out_of_bag[calibrates].all()
    by = "calibration split" if apart else "out of bag"
    return AttackResult(z, membership_score, matched, p_value, non_members, by, of_units)
