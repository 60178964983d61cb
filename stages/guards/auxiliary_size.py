"""Are there enough auxiliary images?  They set the thresholds, and a threshold set by few is set by chance.

The false-positive rate of a conformal verdict at level alpha is alpha on average over draws of the n images that
calibrate.  Given one draw it is not: over draws it follows Beta(k, n + 1 - k) with k = floor(alpha (n + 1)) (Vovk,
"Conditional Validity of Inductive Conformal Predictors", 2012).  Exact for images kept apart and margins without ties;
out-of-bag calibration comes close, by the few images fewer that every attacker saw.
"""

import numpy as np
from scipy.stats import beta


def fpr_interval(images: int, alpha: float, confidence: float) -> tuple[float, float]:
    """Between which bounds the false-positive rate at `alpha` lies in this share of draws of the auxiliary images.

    Both are zero where no p-value can reach alpha, that is where alpha < 1 / (images + 1).
    """
    flagging = int(np.floor(alpha * (images + 1) + 1e-9))  # k; 0.01 * 300 is 3, not 2.999...
    if flagging < 1:
        return 0.0, 0.0
    tail = (1 - confidence) / 2
    low, high = beta.ppf([tail, 1 - tail], flagging, images + 1 - flagging)
    return float(low), float(high)
