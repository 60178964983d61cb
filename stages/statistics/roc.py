"""The trade between true and false positives.  A margin is a number per image; higher means more member-like.

Members are the positive class.  Images of equal margin are flagged together or not at all.
"""

import numpy as np
from scipy.stats import norm, rankdata
from sklearn.metrics import roc_curve


def roc(member: np.ndarray, holdout: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """FPR and TPR at every threshold, rising from (0, 0) to (1, 1).  Arguments: margins, (M,) and (N,)."""
    labels = np.r_[np.ones(len(member)), np.zeros(len(holdout))]
    fpr, tpr, _ = roc_curve(labels, np.r_[member, holdout], drop_intermediate=False)
    return fpr, tpr


def true_positives_at_fpr(member: np.ndarray, holdout: np.ndarray, alpha: float) -> int | None:
    """The most members flagged by a threshold that flags at most a share alpha of the holdout.

    Not the nearest threshold, and nothing interpolated.  None where the holdout is too small to resolve alpha,
    that is where alpha < 1 / N: no number measured on N images is an FPR of alpha.
    """
    allowed = int(np.floor(alpha * len(holdout) + 1e-9))  # false positives; 0.01 * 300 is 3, not 2.999...
    if allowed < 1:
        return None
    if allowed >= len(holdout):
        return len(member)
    first_refused = np.sort(holdout)[::-1][allowed]  # flagging it, or its ties, is one false positive too many
    return int((member > first_refused).sum())


def auc(member: np.ndarray, holdout: np.ndarray, confidence: float) -> tuple[float, float, float]:
    """P(member's margin > holdout's) + P(equal) / 2, and DeLong's interval (Biometrics 1988), within [0, 1]."""
    m, n = len(member), len(holdout)
    ranks = rankdata(np.r_[member, holdout])
    below = (ranks[:m] - rankdata(member)) / n  # share of the holdout below each member
    above = 1 - (ranks[m:] - rankdata(holdout)) / m  # share of the members above each holdout image
    value = float(below.mean())
    error = np.sqrt(below.var(ddof=1) / m + above.var(ddof=1) / n) if min(m, n) > 1 else np.inf
    reach = norm.ppf((1 + confidence) / 2) * error
    return value, float(max(0.0, value - reach)), float(min(1.0, value + reach))


def asr(member: np.ndarray, holdout: np.ndarray) -> float:
    """Attack success rate: the best balanced accuracy, max (TPR + 1 - FPR) / 2, of any one threshold."""
    fpr, tpr = roc(member, holdout)
    return float(((tpr + 1 - fpr) / 2).max())
