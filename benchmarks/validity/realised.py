"""How often does a realised FPR look wrong although calibration is exact?"""

import numpy as np
import pandas as pd

from leakgauge.inference.conformal import conformal_p_values, fpr_range
from leakgauge.inference.roc import exact_rate

TITLE = "Realised FPR under exact calibration"
ABOUT = (
    "n calibrating and N measuring non-members, all alike.  Before: how often Clopper and Pearson's 95 % interval "
    "of the realised rate excludes the rate asked for, an alarm without a cause.  Now: how often the rate lies "
    "outside the beta-binomial range (at most 5 %; less where counts are few, for they are whole).  4,000 draws a "
    "row: the standard error is 0.3 at 5 %."
)
DRAWS, CONFIDENCE = 4000, 0.95


def simulate() -> pd.DataFrame:
    """A row a number of images and level."""
    rng, rows = np.random.default_rng(4), []
    for calibrating, measuring in ((100, 597), (250, 597), (894, 597), (900, 5000), (15_000, 5000)):
        for alpha in (0.1, 0.05, 0.01):
            low, high = fpr_range(calibrating, measuring, alpha, CONFIDENCE)
            counts = np.array([_false_positives(rng, calibrating, measuring, alpha) for _ in range(DRAWS)])
            intervals = {count: exact_rate(int(count), measuring, CONFIDENCE) for count in np.unique(counts)}
            excluded = [not intervals[count].low <= alpha <= intervals[count].high for count in counts]
            outside = (counts / measuring < low) | (counts / measuring > high)
            rows.append(
                {
                    "n": calibrating,
                    "N": measuring,
                    "asked": 100 * alpha,
                    "mean realised": 100 * counts.mean() / measuring,
                    "interval excludes it, before": 100 * np.mean(excluded),
                    "outside the range": 100 * outside.mean(),
                    "range": f"{100 * low:.2f} to {100 * high:.2f}",
                }
            )
    return pd.DataFrame(rows)


def _false_positives(rng: np.random.Generator, calibrating: int, measuring: int, alpha: float) -> int:
    return int((conformal_p_values(rng.random(measuring), rng.random(calibrating)) <= alpha).sum())
