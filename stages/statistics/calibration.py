"""Error rates that hold whatever the learner got wrong: conformal p-values from honest margins of non-members.

A new image is as suspicious as its margin is rare among auxiliary images', each given by attackers that never saw the
image (Vovk, Gammerman & Shafer, "Algorithmic Learning in a Random World", 2005).  Two ways to have such margins:

- kept apart: nothing was learnt from these n images.  A new non-member that is exchangeable with them has a p-value
  of at most alpha with probability floor(alpha (n + 1)) / (n + 1), or less where margins tie: exact for every n.
- out of bag: every auxiliary image i was left out of the resamples of some attackers S_i, about 37 % of them, and
  their median z is its margin (as in Kim, Xu & Barber, "Predictive inference is free with the jackknife+-after-
  bootstrap", NeurIPS 2020).  A new image would be judged by all attackers, and a median of more is less noisy: not the
  same statistic.  So its p-value comes from the median over S_j, the attackers that vote on an auxiliary image j drawn
  at random (`vote.drawn_voters`).  Margins of i and of a new non-member then differ only in what S_i and S_j saw, two
  bootstraps of the same images.  It costs no auxiliary image, but the guarantee is not exact; benchmarks/validity
  measures it.  What has no p-value (ROC, AUC, TPR at an FPR) is judged by all attackers.
"""

import math

import numpy as np
from scipy.stats import beta, betabinom


def conformal_p_values(margin: np.ndarray, non_members: np.ndarray) -> np.ndarray:
    """p-value of each image for "not a member": (1 + #{non-members at least as member-like}) / (n + 1).

    margin : (N,) of the images asked about.  non_members : (n,) honest margins of non-members.  Returns (N,).
    """
    below = np.searchsorted(np.sort(non_members), margin, side="left")
    return (1 + len(non_members) - below) / (len(non_members) + 1)


def smallest_alpha(non_members: int) -> float:
    """The lowest level at which a p-value from so many non-members can flag anything, rounded up to three digits."""
    exact = 1 / (non_members + 1)
    digit = 10.0 ** (math.floor(math.log10(exact)) - 2)
    return float(f"{math.ceil(exact / digit - 1e-9) * digit:.3g}")


def fpr_interval(calibrating: int, alpha: float, confidence: float) -> tuple[float, float]:
    """Bounds of the false-positive rate at `alpha` of one draw of the images that calibrate, at this confidence.

    calibrating : n, how many images calibrate.  Averaged over draws the rate of a conformal verdict is at most alpha.
    Given one draw it follows Beta(k, n + 1 - k) with k = floor(alpha (n + 1)) (Vovk, "Conditional Validity of Inductive
    Conformal Predictors", 2012), exact for images kept apart and margins without ties; out-of-bag calibration comes
    close.  Both bounds are zero where no p-value can reach alpha, that is where alpha < 1 / (n + 1).
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
