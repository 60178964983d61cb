"""What one judgement gains over another on the same images, with an interval that knows that they are the same.

Two intervals that overlap do not show that there is no difference, nor does a larger figure show that there is one:
both judgements err on the same images.  A claim of "better" needs a paired interval that excludes zero.
"""

from dataclasses import dataclass

import numpy as np

from stages.statistics.roc import FEWEST_FALSE_POSITIVES

DRAWS = 1000
Pair = tuple[np.ndarray, np.ndarray]  # margins of the same images by two judgements, the first one and the second


@dataclass(frozen=True)
class Difference:
    """Figure of the first judgement minus that of the second, and the ends of its interval."""

    value: float
    low: float
    high: float


def paired_difference(
    member: Pair, holdout: Pair, fpr: float, confidence: float, seed: int = 0
) -> tuple[Difference | None, Difference]:
    """Differences of TPR at `fpr` and of AUC.

    member : two (M,) margins of the same members.  holdout : two (N,) of the same holdout images.
    Members and holdout images are drawn anew, `DRAWS` times and the same for both judgements; the intervals are the
    percentiles of the differences (Efron & Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13).  The
    TPR's difference is None where the holdout cannot resolve `fpr` (fpr N < 1); where fewer than
    `FEWEST_FALSE_POSITIVES` are expected (fpr N < 5) a bootstrap cannot vouch for it, and its interval is [-1, 1].
    """
    rng = np.random.default_rng(seed)
    pairs = [_Measured(*margins, fpr) for margins in zip(member, holdout, strict=True)]
    sizes = len(member[0]), len(holdout[0])
    whole = _difference(pairs, *(np.ones(size, dtype=np.int64) for size in sizes))
    drawn = np.array([_difference(pairs, *(_resample(rng, size) for size in sizes)) for _ in range(DRAWS)])
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    tpr, auc = (Difference(*map(float, ends)) for ends in zip(whole, low, high, strict=True))
    expected = fpr * sizes[1] + 1e-9
    if expected < FEWEST_FALSE_POSITIVES:
        return (None if expected < 1 else Difference(tpr.value, -1.0, 1.0)), auc
    return tpr, auc


def _resample(rng: np.random.Generator, size: int) -> np.ndarray:
    """(size,): how often each image is drawn, with replacement."""
    return np.bincount(rng.integers(size, size=size), minlength=size)


def _difference(pairs: "list[_Measured]", members: np.ndarray, holdout: np.ndarray) -> np.ndarray:
    """(2,) differences of TPR and AUC, for images that count so many times."""
    first, second = (one.figures(members, holdout) for one in pairs)
    return first - second


class _Measured:
    """One judgement's margins, sorted once, so that a draw costs one sweep."""

    def __init__(self, member: np.ndarray, holdout: np.ndarray, fpr: float) -> None:
        self.order = np.argsort(holdout)
        self.ranks = [np.searchsorted(holdout[self.order], member, side) for side in ("left", "right")]  # (M,) each
        self.allowed = int(np.floor(fpr * len(holdout) + 1e-9))

    def figures(self, members: np.ndarray, holdout: np.ndarray) -> np.ndarray:
        """TPR at the FPR, and AUC.  members : (M,), holdout : (N,), how often each image counts."""
        below = np.concatenate([[0], np.cumsum(holdout[self.order])])  # (N + 1,): how many lie below each rank
        flagged = np.searchsorted(below, below[-1] - self.allowed, side="left")  # the first rank above the threshold
        tpr = members[self.ranks[0] >= flagged].sum() / members.sum()
        shares = sum(below[rank] for rank in self.ranks) / 2
        return np.array([tpr, members @ shares / (members.sum() * below[-1])])
