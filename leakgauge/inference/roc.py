"""ROC, AUC and TPR at a false-positive rate, with intervals that count the threshold's own uncertainty.

A membership score is a number per image; higher means more member-like.

Members are the positive class.  Images of equal membership score are flagged together or not at all.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import bisect
from scipy.special import betainc
from scipy.stats import binom, binomtest, norm
from scipy.stats import t as student

from leakgauge.inference.units import NO_UNITS, Pair, count_units, typical_size, unit_codes


@dataclass(frozen=True)
class Rate:
    """A share of a count, with its exact interval."""

    count: int  # how many did
    total: int  # of how many
    low: float
    high: float

    @property
    def value(self) -> float:
        return self.count / self.total


def exact_rate(count: int, total: int, confidence: float) -> Rate:
    """count / total with its Clopper-Pearson interval (Biometrika 1934).  0 <= count <= total, total > 0."""
    interval = binomtest(count, total).proportion_ci(confidence, method="exact")
    return Rate(count, total, float(interval.low), float(interval.high))


FEWEST_FALSE_POSITIVES = 5  # expected ones, alpha N, below which a TPR at FPR alpha has a lower bound alone
TIED = 0.4  # 0.01 of 0.025: the product of two uniform p-values is below 0.0105 with probability 0.05


def roc(member: np.ndarray, holdout: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """FPR and TPR at every threshold, rising from (0, 0) to (1, 1).  Arguments: membership scores, (M,) and (N,)."""
    thresholds = np.unique(np.concatenate([member, holdout]))[::-1]
    fpr, tpr = (
        np.append(
            0.0,
            (len(membership_score) - np.searchsorted(np.sort(membership_score), thresholds)) / len(membership_score),
        )
        for membership_score in (holdout, member)
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


def tpr_at_fpr(member: np.ndarray, holdout: np.ndarray, alpha: float, confidence: float) -> Rate | None:
    """`true_positives_at_fpr` as a share of the members, with an interval of the TPR at a *true* FPR of alpha.

    The interval allows for both draws, that of the members and that of the holdout, whose quantile the threshold is:

    - J of N holdout images lie above the threshold of true FPR alpha, J ~ Binomial(N, alpha), so that it lies between
      the J-th and the (J + 1)-th largest membership score of the holdout;
    - if X of M members lie above it, the TPR follows Beta(X + 1/2, M - X + 1/2) (Jeffreys), X halfway between what
      the two membership scores flag; 0 stays possible where none, and 1 where all are flagged.

    The ends are quantiles of the mixture over J: without a threshold's draw (N large) Jeffreys' interval for a
    proportion (Brown, Cai & DasGupta, Statistical Science 2001), without the members' that of an order statistic.
    Where fewer than `FEWEST_FALSE_POSITIVES` are expected the interval is a one-sided lower bound at `confidence`, and
    its upper end is 1; where (1 - alpha)^N > 1 - confidence, all of the holdout may lie below that threshold, and the
    bound is 0: without assumptions nothing more is known.  None where the holdout cannot resolve alpha. Where
    membership scores of the holdout tie near the threshold, chance alone may decide whether a whole block is flagged:
    then the block and the share of members each err, and `TIED` of the error is left to either end.  Coverage:
    benchmarks/validity.
    """
    hits = true_positives_at_fpr(member, holdout, alpha)
    if hits is None:
        return None
    weights, least, most, tied = _counts_at_fpr(member, holdout, alpha)
    both = alpha * len(holdout) > FEWEST_FALSE_POSITIVES - 1e-9
    tail = (1 - confidence) / (2 if both else 1) * (TIED if tied else 1)
    middle = (least + most) / 2
    low = _mixture_quantile(weights, np.where(least > 0, middle + 0.5, 0), len(member) - middle + 0.5, tail)
    if not both:
        return Rate(hits, len(member), low, 1.0)
    beyond = np.where(most < len(member), len(member) - middle + 0.5, 0)
    return Rate(hits, len(member), low, _mixture_quantile(weights, middle + 0.5, beyond, 1 - tail))


def _counts_at_fpr(
    member: np.ndarray, holdout: np.ndarray, alpha: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, bool]:
    """For each J that is likely: its probability, and the least and the most members that the threshold may flag.

    Last, whether membership scores of the holdout tie there.
    """
    n, falling, members = len(holdout), np.sort(holdout)[::-1], np.sort(member)
    first, last = binom.ppf([1e-7, 1 - 1e-7], n, alpha).astype(int)
    j = np.arange(first, last + 1)
    lowest, refused = np.append(np.inf, falling)[j], np.append(falling, -np.inf)[j]  # J-th and (J + 1)-th largest
    least = len(members) - np.searchsorted(members, lowest, side="left")
    most = len(members) - np.searchsorted(members, refused, side="right")
    # where the two membership scores tie, neither is flagged
    return binom.pmf(j, n, alpha), np.minimum(least, most), most, bool((lowest == refused).any())


def _mixture_quantile(weights: np.ndarray, a: np.ndarray, b: np.ndarray, level: float) -> float:
    """Of a mixture of Beta(a, b); a = 0 is a point mass at 0, and b = 0 one at 1."""
    inside = (a > 0) & (b > 0)
    total, at_zero = weights.sum(), weights[a == 0].sum()

    def excess(x: float) -> float:
        return float(at_zero + weights[inside] @ betainc(a[inside], b[inside], x) - level * total)

    if excess(0) >= 0:
        return 0.0
    return 1.0 if excess(1) <= 1e-12 else float(bisect(excess, 0, 1, xtol=1e-9))


def auc(
    member: np.ndarray, holdout: np.ndarray, confidence: float, units: Pair = NO_UNITS
) -> tuple[float, float, float]:
    """P(member's membership score > holdout's) + P(equal) / 2, and its interval, within [0, 1].

    Of Wilson's kind: all areas theta with |theta - estimate| <= z sqrt(V(theta)), which keeps a width where members
    and holdout are separated without an error, and where there are few.  V is the larger of two variances:

    - that of Newcombe's method 5 (Statistics in Medicine 2006, 25:559), which supposes exponential membership scores
      and holds at the boundary, but not where the spreads differ much;
    - DeLong's (Biometrics 1988), as that of an area of the same number of independent images at theta; one image more
      that differs as much as any can is counted on either side, and z is Student's (Satterthwaite), for images are few.

    units : (M,) and (N,) codes.  Where images are of units, DeLong's variance is that of independent units (Obuchowski,
    Biometrics 1997), and so are the unit more and the degrees of freedom.  Newcombe's is that of so many independent
    images as would have it.
    """
    of_member, of_holdout = map(unit_codes, units)
    m, n = (count_units(of, len(scores)) for of, scores in ((of_member, member), (of_holdout, holdout)))
    below = _share_below(member, holdout)
    above = 1 - _share_below(holdout, member)
    value, z = float(below.mean()), norm.ppf((1 + confidence) / 2)
    most = _at_most(value, min(m, n))
    spread = [_spread(below - value, of_member, most), _spread(above - value, of_holdout, most)]
    parts = [part for part, _ in spread]
    freedom = sum(parts) ** 2 / (parts[0] ** 2 / m + parts[1] ** 2 / n)
    m_alone, n_alone = (size for _, size in spread)
    images = most / sum(parts) * (z / student.ppf((1 + confidence) / 2, freedom)) ** 2
    others = (m_alone + n_alone) / 2 - 1

    def beyond(theta: float) -> float:
        model = (1 + others * ((1 - theta) / (2 - theta) + theta / (1 + theta))) / (m_alone * n_alone)
        return abs(theta - value) - z * float(np.sqrt(theta * (1 - theta) * max(model, 1 / images)))

    low, high = (
        end if value == end else float(bisect(beyond, end, value + 1e-9 * (end - value), xtol=1e-9))
        for end in (0.0, 1.0)
    )
    return value, low, high


def _spread(differing: np.ndarray, units: np.ndarray | None, most: float) -> tuple[float, float]:
    """The variance of a mean of N values, and how many independent ones would have it.

    differing : (N,) from the mean.  most : the square of one image more; of a unit more where there are units.
    """
    images, alone = len(differing), float(differing @ differing)
    if units is None:
        return (alone + most) / images**2, images
    sums, size = np.bincount(units, differing), typical_size(units)
    together = float(sums @ sums) + size**2 * most
    return together / images**2, images * min(1.0, (alone + size * most) / together)


def _at_most(area: float, images: int) -> float:
    """The largest variance of one image's share, half an image away from 0 and 1."""
    area = (images * area + 0.5) / (images + 1)
    return area * (1 - area)


def _share_below(membership_score: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(N,): the share of the others below each membership score, with half of those equal to it."""
    order, others = np.argsort(membership_score), np.sort(others)
    below = np.empty(len(membership_score))
    below[order] = sum(np.searchsorted(others, membership_score[order], side) for side in ("left", "right"))
    return below / 2 / len(others)


def asr(member: np.ndarray, holdout: np.ndarray) -> float:
    """Attack success rate: the best balanced accuracy, max (TPR + 1 - FPR) / 2, of any one threshold."""
    fpr, tpr = roc(member, holdout)
    return float(((tpr + 1 - fpr) / 2).max())
