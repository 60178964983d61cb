"""Is one better than the other?  Paired differences, gains, direction, and means over seeds.

**Two results on the same images.**  Two intervals that overlap do not show that there is no difference, nor does a
larger figure show that there is one: both results err on the same images.  A claim of "better" needs a paired interval
that excludes zero.

**One figure over several seeds.**  Seeds draw roles (and train models) anew from the same images, so their counts are
not independent and are never pooled into one rate. The unit of the interval is the seed: Student's t over the seeds'
figures. It is about other seeds on these images; for other images or another target it is too narrow (Nadeau & Bengio,
"Inference for the Generalization Error", Machine Learning 52, 2003).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t

from leakgauge.inference.conformal import AttackResult
from leakgauge.inference.metrics import Figures, level_name
from leakgauge.inference.roc import FEWEST_FALSE_POSITIVES, auc

DRAWS = 1000
Pair = tuple[np.ndarray, np.ndarray]  # membership scores of the same images by two results


@dataclass(frozen=True)
class Difference:
    """Figure of the first result minus that of the second, and the ends of its interval."""

    value: float
    low: float
    high: float


def paired_difference(
    member: Pair, holdout: Pair, fpr: float, confidence: float, seed: int = 0
) -> tuple[Difference | None, Difference]:
    """Differences of TPR at `fpr` and of AUC.

    member : two (M,) membership scores of the same members.  holdout : two (N,) of the same holdout images.
    Members and holdout images are drawn anew, `DRAWS` times and the same for both results; the intervals are the
    percentiles of the differences (Efron & Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13).  The
    TPR's difference is None where the holdout cannot resolve `fpr` (fpr N < 1); where fewer than
    `FEWEST_FALSE_POSITIVES` are expected (fpr N < 5) a bootstrap cannot vouch for it, and its interval is [-1, 1].
    """
    rng = np.random.default_rng(seed)
    pairs = [_Measured(*membership_scores, fpr) for membership_scores in zip(member, holdout, strict=True)]
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
    """One result's membership scores, sorted once, so that a draw costs one sweep."""

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


def gain(of: AttackResult, over: AttackResult | None, name: str | None, fpr: float, confidence: float) -> Figures:
    """Flat figures: `compared_with`, and the paired difference of TPR at `fpr` and of AUC with its interval.

    over, name : the result compared with and what it is called; None, and all figures are None, where there is none.
    So they are where no member is known, and the TPR's where the holdout cannot resolve `fpr`.
    """
    tpr, auc = None, None
    if over is not None and len(of.membership_score["member"]):
        member, holdout = ((of.membership_score[role], over.membership_score[role]) for role in ("member", "holdout"))
        tpr, auc = paired_difference(member, holdout, fpr, confidence)
    return {"compared_with": name, **_named(f"tpr_gain_at_fpr_{level_name(fpr)}", tpr), **_named("auc_gain", auc)}


def _named(name: str, found: Difference | None) -> Figures:
    values = (None, None, None) if found is None else (found.value, found.low, found.high)
    return dict(zip((name, f"{name}_ci_low", f"{name}_ci_high"), values, strict=True))


CONFIDENCE = 0.999  # of the AUC's interval: where nothing leaks, one warning in two thousand scores


def higher_for_members(member: np.ndarray, holdout: np.ndarray) -> tuple[float, float, float] | None:
    """The AUC and its interval where that lies below 0.5; else None.

    member, holdout : (M,) and (N,) scores, lower is more member-like.  None as well where either has no image.
    """
    if not min(len(member), len(holdout)):
        return None
    area, low, high = auc(-member, -holdout, CONFIDENCE)
    return (area, low, high) if high < 0.5 else None


def wrong_way_round(name: str, member: np.ndarray, holdout: np.ndarray) -> str | None:
    """What to tell of a score that is higher for members, and what to do; None of any other."""
    if not (found := higher_for_members(member, holdout)):
        return None
    return (
        f"score {name} is higher for members than for others, AUC {said(found)}: lower must mean more member-like; "
        "of a confidence c hand over exp(-c)"
    )


def said(area: tuple[float, float, float]) -> str:
    """`0.069 (0.050 to 0.090)`."""
    return "{:.3f} ({:.3f} to {:.3f})".format(*area)


FEWEST_SEEDS = 3  # seeds that an interval takes: with two, Student's t has a factor of 12.7 at 95 %


def mean_over_seeds(values: Sequence[float] | np.ndarray, confidence: float) -> tuple[float, float, float]:
    """Mean, and the ends of its Student t-interval.

    values : (S,) one figure of each seed.  The ends are NaN where there are fewer than `FEWEST_SEEDS` seeds, and all
    is NaN where a seed has no figure (NaN).
    """
    figures = np.asarray(values, dtype=float)
    mean = float(figures.mean())
    if len(figures) < FEWEST_SEEDS:
        return mean, np.nan, np.nan
    reach = float(t.ppf((1 + confidence) / 2, len(figures) - 1) * figures.std(ddof=1) / np.sqrt(len(figures)))
    return mean, mean - reach, mean + reach
