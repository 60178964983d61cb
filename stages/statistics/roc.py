"""The trade between true and false positives.  A margin is a number per image; higher means more member-like.

Members are the positive class.  Images of equal margin are flagged together or not at all.
"""

import numpy as np
from scipy.stats import norm


def roc(member: np.ndarray, holdout: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """FPR and TPR at every threshold, rising from (0, 0) to (1, 1).  Arguments: margins, (M,) and (N,)."""
    thresholds = np.unique(np.concatenate([member, holdout]))[::-1]
    fpr, tpr = (
        np.append(0.0, (len(margin) - np.searchsorted(np.sort(margin), thresholds)) / len(margin))
        for margin in (holdout, member)
    )
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
    below = _share_below(member, holdout)
    above = 1 - _share_below(holdout, member)
    value = float(below.mean())
    error = np.sqrt(below.var(ddof=1) / m + above.var(ddof=1) / n) if min(m, n) > 1 else np.inf
    reach = norm.ppf((1 + confidence) / 2) * error
    return value, float(max(0.0, value - reach)), float(min(1.0, value + reach))


def _share_below(margin: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(N,): the share of the others below each margin, with half of those equal to it."""
    order, others = np.argsort(margin), np.sort(others)
    below = np.empty(len(margin))
    below[order] = sum(np.searchsorted(others, margin[order], side) for side in ("left", "right"))  # one sweep each
    return below / 2 / len(others)


def asr(member: np.ndarray, holdout: np.ndarray) -> float:
    """Attack success rate: the best balanced accuracy, max (TPR + 1 - FPR) / 2, of any one threshold."""
    fpr, tpr = roc(member, holdout)
    return float(((tpr + 1 - fpr) / 2).max())
