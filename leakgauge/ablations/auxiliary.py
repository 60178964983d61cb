"""How many auxiliary images an attack needs: bags fitted, and calibrated, on random subsets of them."""

from typing import Literal

import numpy as np
import pandas as pd

from leakgauge.bags import BagRunner, Named
from leakgauge.inference.conformal import AttackResult, fpr_range
from leakgauge.inference.metrics import POWER, Evaluate, power
from leakgauge.inference.roc import exact_rate

REALISED = tuple(f"realised_fpr{end}" for end in ("", "_ci_low", "_ci_high", "_expected_low", "_expected_high"))
COLUMNS = ["learner", "auxiliary", *POWER, "out_of_bag_loss", *REALISED]


def measure(
    runner: BagRunner,
    learner: Named,
    size: int,
    score: str,
    counts: list[int | Literal["all"]],
    asked: Evaluate,
) -> pd.DataFrame:
    """AUC, TPR at the curves' FPR, pinball loss out of bag, and what calibrated verdicts realise of that FPR.

    counts : images of each subset; a smaller one is part of a larger one.  Columns: `COLUMNS`.
    """
    total = len(runner.roles["auxiliary"])
    order = np.random.default_rng(runner.seed).permutation(total)
    rows = []
    for count in sorted({total if count == "all" else count for count in counts}):
        bag = runner.fit(learner, size, [score], np.sort(order[:count]), f"sweep {count} auxiliary")
        result = bag.judge()
        row = {"learner": learner.name, "auxiliary": count, "out_of_bag_loss": bag.out_of_bag_loss}
        reached = power(
            result.membership_score["member"], result.membership_score["holdout"], asked.curve_fpr, asked.confidence
        )
        rows.append(row | reached | _realised(result, asked.curve_fpr, asked.confidence))
    return pd.DataFrame(rows, columns=COLUMNS)


def _realised(result: AttackResult, alpha: float, confidence: float) -> dict[str, float | None]:
    """The FPR of calibrated verdicts at alpha; None where too few images calibrate for any p-value to reach it."""
    if (result.calibration_size + 1) * alpha < 1 - 1e-9:
        return dict.fromkeys(REALISED)
    flagged = result.p_value["holdout"] <= alpha
    rate = exact_rate(int(flagged.sum()), len(flagged), confidence)
    expected = fpr_range(result.calibration_size, rate.total, alpha, confidence)
    return dict(zip(REALISED, (rate.value, rate.low, rate.high, *expected), strict=True))
