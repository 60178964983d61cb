"""Does the interval of an AUC, and of suspects' effect, cover the true area?"""

import numpy as np
import pandas as pd
from scipy.stats import norm

from leakgauge.compute import spread
from leakgauge.inference.roc import auc

TITLE = "AUC, and the effect of suspects: coverage of the 95 % interval"
ABOUT = (
    "Margins of n holdout images are N(0, 1), of m members or suspects N(d, s^2), or a mixture: some suspects "
    "were used, N(4, 1), and the others not.  Before: DeLong's interval, within [0, 1].  1,000 draws a row: the "
    "standard error of 95 % is 0.7."
)
DRAWS, CONFIDENCE = 1000, 0.95
AREAS, SPREADS, USED = (0.5, 0.9, 0.99, 0.999), (1, 3), (0.1, 0.5, 0.9)
SIZES = ((3, 60), (3, 600), (5, 60), (5, 600), (10, 60), (10, 600), (60, 600), (300, 600))


def simulate() -> pd.DataFrame:
    """A row a size and truth."""
    truths = [(area, of) for of in SPREADS for area in AREAS] + [(None, used) for used in USED]
    jobs = [(*size, *truth, seed) for seed, (size, truth) in enumerate((s, t) for s in SIZES for t in truths)]
    return pd.DataFrame(spread(_coverage, jobs, "AUC"))


def _coverage(members: int, holdout: int, area: float | None, of: float, seed: int) -> dict[str, float | str]:
    """area : of a member; None: of suspects of whom a share `of` was used.  of : else members' spread."""
    rng, found = np.random.default_rng([3, seed]), []
    true = of * norm.cdf(4 / np.sqrt(2)) + (1 - of) / 2 if area is None else area
    for _ in range(DRAWS):
        others = rng.normal(0, 1, holdout)
        if area is None:
            membership_score = rng.normal(0, 1, members) + 4 * (rng.random(members) < of)
        else:
            membership_score = rng.normal(norm.ppf(area) * np.sqrt(1 + of**2), of, members)
        value, low, high = auc(membership_score, others, CONFIDENCE)
        reach = norm.ppf((1 + CONFIDENCE) / 2) * delong_error(membership_score, others)
        before = max(0, value - reach), min(1, value + reach)
        found.append((before[0] <= true <= before[1], low <= true <= high, before[1] - before[0], high - low))
    share = 100 * np.mean(found, axis=0)
    return {
        "m": members,
        "n": holdout,
        "truth": f"{100 * of:.0f} % used" if area is None else f"s = {of}",
        "true area": 100 * true,
        "covers, before": share[0],
        "covers": share[1],
        "width, before": share[2],
        "width": share[3],
    }


def delong_error(member: np.ndarray, holdout: np.ndarray) -> float:
    """DeLong's standard error (Biometrics 1988) of membership scores without ties."""
    below = np.searchsorted(np.sort(holdout), member) / len(holdout)
    above = 1 - np.searchsorted(np.sort(member), holdout) / len(member)
    return float(np.sqrt(below.var(ddof=1) / len(member) + above.var(ddof=1) / len(holdout)))
