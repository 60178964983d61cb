"""Does the interval of the share of suspects that were used cover the truth?"""

import numpy as np
import pandas as pd

from leakgauge.compute import spread
from leakgauge.inference.conformal import conformal_p_values
from leakgauge.inference.roc import exact_rate
from leakgauge.inference.suspects import used_fraction

TITLE = "Share of the suspects that were used: coverage of the 95 % interval"
ABOUT = (
    "Margins of 597 holdout and 900 auxiliary images are N(0, 1); of 240 members and of used suspects N(d, 1). "
    "Before: three exact intervals, each at a third of the error, of the shares with a p-value of at most 20 %. "
    "300 draws a row: the standard error of 95 % is 1.3."
)
DRAWS, CONFIDENCE = 300, 0.95
SHIFTS, COUNTS, SHARES = (1.5, 3.0), (5, 20, 60), (0.0, 0.1, 0.5, 1.0)


def simulate() -> pd.DataFrame:
    """A row an attack, number of suspects and share of them that was used."""
    settings = [(shift, count, share) for shift in SHIFTS for count in COUNTS for share in SHARES]
    jobs = [
        (*setting, seed) for seed, setting in enumerate(settings) if round(setting[1] * setting[2]) or not setting[2]
    ]
    rows = pd.DataFrame(spread(_coverage, jobs, "share of the suspects"))
    ends = {column: rows[column].mean() for column in rows.columns[3:]}
    return pd.concat([rows, pd.DataFrame([{"d": "all", "suspects": "all", "used": np.nan} | ends])], ignore_index=True)


def _coverage(shift: float, count: int, share: float, seed: int) -> dict[str, float | str]:
    rng, used, found = np.random.default_rng([5, seed]), round(share * count), []
    for _ in range(DRAWS):
        suspects = np.r_[rng.normal(shift, 1, used), rng.normal(0, 1, count - used)]
        holdout, members, auxiliary = rng.normal(0, 1, 597), rng.normal(shift, 1, 240), rng.normal(0, 1, 900)
        new = used_fraction(suspects, holdout, members, CONFIDENCE)
        least = used_fraction(suspects, holdout, None, CONFIDENCE)
        low, high = three_rates(*(conformal_p_values(of, auxiliary) for of in (suspects, holdout, members)))
        true = used / count
        holds = low <= true <= high, new.low - 1e-9 <= true <= new.high + 1e-9, least.low <= true
        found.append((*holds, high - low, new.high - new.low))
    shares = 100 * np.mean(found, axis=0)
    return {
        "d": shift,
        "suspects": count,
        "used": 100 * used / count,
        "covers, before": shares[0],
        "covers": shares[1],
        "width, before": shares[3],
        "width": shares[4],
        "bound without members holds": shares[2],
    }


def three_rates(suspects: np.ndarray, holdout: np.ndarray, members: np.ndarray) -> tuple[float, float]:
    """The interval as it was: of (q - f) / (b - f), with each share at the worst end of its interval.  p-values."""
    each = 1 - (1 - CONFIDENCE) / 3
    q, f, b = (exact_rate(int((of <= 0.2).sum()), len(of), each) for of in (suspects, holdout, members))
    low = np.clip((q.low - f.high) / (b.high - f.high), 0, 1) if b.high > f.high else 0.0
    high = np.clip((q.high - f.low) / (b.low - f.low), 0, 1) if b.low > f.low else 1.0
    return float(low), float(high)
