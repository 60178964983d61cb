"""Alpha asked for, and what it buys: true and false positives of every learner's verdicts, from its predictions."""

import numpy as np
import pandas as pd

from leakgauge.inference.conformal import AttackResult, fpr_range, votes
from leakgauge.inference.roc import exact_rate

GRID = np.geomspace(1e-4, 0.5, 25).round(6)
RATES = {"tpr": "member", "fpr": "holdout"}
COLUMNS = ["learner", "verdict", "nominal"] + [
    name for rate in RATES for name in (rate, f"{rate}_ci_low", f"{rate}_ci_high", f"{rate}_count")
]
COLUMNS += ["fpr_expected_low", "fpr_expected_high"]  # what chance leaves of calibrated verdicts, by `fpr_range`


def measure(results: dict[str, AttackResult], alphas: list[float], confidence: float) -> pd.DataFrame:
    """Calibrated and raw verdicts of each learner at the alphas of the grid and those asked for.

    An alpha below 1 / (calibrating images + 1), which no p-value can reach, is left out.  Columns: `COLUMNS`.
    """
    rows = []
    for learner, result in results.items():
        for alpha in sorted({*alphas, *GRID.tolist()}):
            if (result.calibration_size + 1) * alpha < 1 - 1e-9:
                continue
            calibrated = {role: result.p_value[role] <= alpha for role in RATES.values()}
            raw = {role: votes(result.membership_score[role], alpha) for role in RATES.values()}
            expected = fpr_range(result.calibration_size, len(result.p_value["holdout"]), alpha, confidence)
            for verdict, flagged, ends in (("calibrated", calibrated, expected), ("raw", raw, (np.nan, np.nan))):
                rows.append((learner, verdict, alpha, *_rates(flagged, confidence), *ends))
    return pd.DataFrame(rows, columns=COLUMNS)


def _rates(flagged: dict[str, np.ndarray], confidence: float) -> list[float]:
    """Each of `RATES` with its exact interval and its count."""
    rates = [exact_rate(int(flagged[role].sum()), len(flagged[role]), confidence) for role in RATES.values()]
    return [number for rate in rates for number in (rate.value, rate.low, rate.high, rate.count)]
