"""Does the interval of "TPR at FPR alpha" cover the true TPR at a true FPR of alpha?"""

from collections.abc import Callable

import numpy as np
import pandas as pd
from scipy.stats import norm

from leakgauge.compute import spread
from leakgauge.inference.roc import exact_rate, tpr_at_fpr

TITLE = "TPR at an FPR: coverage of the 95 % interval"
ABOUT = (
    "Margins of holdout images are N(0, 1), of members N(d, s^2), or both rounded to whole numbers (ties; the "
    "true TPR is then that of the lowest threshold whose true FPR is at most alpha).  Before: Clopper and "
    "Pearson's interval of the members caught by the sample's threshold.  Below five expected false positives "
    "(alpha n < 5) the interval is a one-sided lower bound.  1,000 draws a row: the standard error of 95 % is "
    "0.7."
)
DRAWS, CONFIDENCE = 1000, 0.95
TRUTHS = {  # d, s, and what membership scores are rounded to
    "weak": (0.5, 1, None),
    "strong": (3, 1.2, None),
    "saturated": (6, 1, None),
    "ties, d = 2": (2, 1, 1.0),
}
SIZES = (  # members, holdout, alpha
    (60, 500, 0.01),
    (300, 597, 0.01),
    (60, 500, 0.1),
    (100, 2000, 0.01),
    (300, 5000, 0.001),
    (300, 800, 0.005),
    (300, 1000, 0.001),
)


def simulate() -> pd.DataFrame:
    """A row a truth and size."""
    jobs = [(truth, *size, seed) for seed, (truth, size) in enumerate((t, s) for t in TRUTHS for s in SIZES)]
    return pd.DataFrame(spread(_coverage, jobs, "TPR at an FPR"))


def _coverage(truth: str, members: int, holdout: int, alpha: float, seed: int) -> dict[str, float | str]:
    shift, spread_, step = TRUTHS[truth]
    rounded: Callable[[np.ndarray], np.ndarray] = (
        (lambda x: x) if step is None else (lambda x: step * np.round(x / step))
    )
    true, rng = _true_tpr(shift, spread_, step, alpha), np.random.default_rng([2, seed])
    new, old, widths = [], [], []
    for _ in range(DRAWS):
        membership_scores = rounded(rng.normal(shift, spread_, members)), rounded(rng.normal(0, 1, holdout))
        rate = tpr_at_fpr(*membership_scores, alpha, CONFIDENCE)
        assert rate is not None
        before = exact_rate(rate.count, members, CONFIDENCE)
        new.append(rate.low <= true <= rate.high)
        old.append(before.low <= true <= before.high)
        widths.append((before.high - before.low, rate.high - rate.low))
    return {
        "truth": truth,
        "members": members,
        "holdout": holdout,
        "alpha": 100 * alpha,
        "alpha n": round(alpha * holdout, 2),
        "true TPR": 100 * true,
        "covers, before": 100 * np.mean(old),
        "covers": 100 * np.mean(new),
        "width, before": 100 * np.mean([width[0] for width in widths]),
        "width": 100 * np.mean([width[1] for width in widths]),
    }


def _true_tpr(shift: float, spread_: float, step: float | None, alpha: float) -> float:
    if step is None:
        return float(norm.sf(norm.isf(alpha), shift, spread_))
    thresholds = step * (np.arange(-20, 40) - 0.5)
    return float(norm.sf(thresholds, shift, spread_)[norm.sf(thresholds) <= alpha].max())
