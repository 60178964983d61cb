"""False positives among alike images: a rate that holds over all of them may still be paid by the simple ones."""

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from stages.statistics.calibration import fpr_range
from stages.statistics.intervals import exact_rate
from stages.statistics.judgement import Judgement
from stages.statistics.summary import Figures, level_name, named_rate

DECILES = 10


def deciles(values: np.ndarray) -> np.ndarray:
    """The decile 1..10 of each value, (N,) int64.  Equal values share one, so deciles may differ in size."""
    share = (rankdata(values) - 0.5) / len(values)  # in (0, 1)
    return (share * DECILES).astype(np.int64) + 1


def conditional_fpr(
    judgement: Judgement, groups: dict[str, pd.Series], alphas: list[float], confidence: float
) -> pd.DataFrame:
    """What calibrated verdicts realise on each group of the holdout.

    groups : what the holdout is grouped by -> the group of each image; images of no group (NA) count in none.
    Columns: group_by, group, nominal, realised, ci_low, ci_high, false_positives, images, expected_low, expected_high
    (what chance leaves of an exact calibration that treats groups alike, by `fpr_range`).
    """
    rows = []
    for by, group in groups.items():
        for alpha in alphas:
            flagged = pd.Series(judgement.p_value["holdout"] <= alpha)
            for name, of_group in flagged.groupby(group.reset_index(drop=True)):
                rate = exact_rate(int(of_group.sum()), len(of_group), confidence)
                expected = fpr_range(judgement.calibration_size, rate.total, alpha, confidence)
                rows.append((by, name, alpha, rate.value, rate.low, rate.high, rate.count, rate.total, *expected))
    columns = ["group_by", "group", "nominal", "realised", "ci_low", "ci_high", "false_positives", "images"]
    return pd.DataFrame(rows, columns=[*columns, "expected_low", "expected_high"])


def worst_decile(judgement: Judgement, decile: np.ndarray, alphas: list[float], confidence: float) -> Figures:
    """The largest FPR that calibrated verdicts realise on any decile, with its counts, at each nominal alpha.

    The largest of ten is above nominal by chance alone.  Its interval, and `_expected_high`, the largest rate that
    chance leaves in a group of its size where calibration is exact and treats groups alike, allow for that: they are
    taken at the confidence at which all ten hold together (Bonferroni).
    """
    together = 1 - (1 - confidence) / DECILES
    figures: Figures = {}
    for alpha in alphas:
        flagged = judgement.p_value["holdout"] <= alpha
        groups = [flagged[decile == number] for number in np.unique(decile)]
        worst = max((exact_rate(int(group.sum()), len(group), together) for group in groups), key=lambda r: r.value)
        name = f"worst_decile_fpr_at_alpha_{level_name(alpha)}"
        _, most = fpr_range(judgement.calibration_size, worst.total, alpha, together)
        figures |= named_rate(name, worst) | {f"{name}_images": worst.total, f"{name}_expected_high": most}
    return figures
