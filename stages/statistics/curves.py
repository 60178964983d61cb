"""The curves behind the figures, each as a table that `dvc plots` and the report draw."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from stages.statistics.calibration import fpr_range
from stages.statistics.intervals import exact_rate
from stages.statistics.judgement import Judgement
from stages.statistics.roc import auc, roc, tpr_at_fpr
from stages.statistics.vote import bag_margin, votes

POINTS = 400  # of an ROC curve, at most
POWER = ("auc", "auc_ci_low", "auc_ci_high", "tpr", "tpr_ci_low", "tpr_ci_high")


def roc_points(judgement: Judgement) -> pd.DataFrame:
    """The ROC curve from 1 / holdout up, thinned evenly on a log axis; read as steps.  Columns: fpr, tpr.

    Like every curve with a TPR it has no rows where no member is known.
    """
    if not len(judgement.margin["member"]):
        return pd.DataFrame(columns=["fpr", "tpr"])
    fpr, tpr = roc(judgement.margin["member"], judgement.margin["holdout"])
    grid = np.geomspace(1 / len(judgement.margin["holdout"]), 1, POINTS)
    steps = np.unique(np.searchsorted(fpr, grid * (1 + 1e-9), side="right") - 1)  # the best TPR with FPR <= grid
    return pd.DataFrame({"fpr": fpr[steps], "tpr": tpr[steps]}).query("fpr > 0")


def calibration_curve(judgement: Judgement, alphas: list[float], confidence: float) -> pd.DataFrame:
    """Nominal alpha against the FPR that raw and calibrated verdicts realise on the holdout.

    Columns: verdict, nominal, realised, ci_low, ci_high, false_positives, expected_low, expected_high (of calibrated
    verdicts: what chance leaves of an exact calibration, by `fpr_range`).
    """
    rows = []
    total = len(judgement.p_value["holdout"])
    for alpha in sorted({*alphas, *np.geomspace(1e-3, 0.5, 19).round(6).tolist()}):
        expected = fpr_range(judgement.calibration_size, total, alpha, confidence)
        calibrated, raw = judgement.p_value["holdout"] <= alpha, votes(judgement.margin["holdout"], alpha)
        for verdict, flagged, ends in (("calibrated", calibrated, expected), ("raw", raw, (np.nan, np.nan))):
            rate = exact_rate(int(flagged.sum()), total, confidence)
            rows.append((verdict, alpha, rate.value, rate.low, rate.high, rate.count, *ends))
    columns = ["verdict", "nominal", "realised", "ci_low", "ci_high", "false_positives"]
    return pd.DataFrame(rows, columns=[*columns, "expected_low", "expected_high"])


def bag_size_curve(judgement: Judgement, fpr: float, confidence: float) -> pd.DataFrame:
    """What the first 1, 2, ..., B attackers reach.  Columns: attackers and those of `power`."""
    sizes = range(1, judgement.z["holdout"].shape[1] + 1) if len(judgement.margin["member"]) else ()
    rows = []
    for size in sizes:
        member, holdout = (bag_margin(judgement.z[role][:, :size]) for role in ("member", "holdout"))
        rows.append({"attackers": size, **power(member, holdout, fpr, confidence)})
    return pd.DataFrame(rows, columns=["attackers", *POWER])


def timestep_curve(scores: Iterable[tuple[int, np.ndarray, np.ndarray]], fpr: float, confidence: float) -> pd.DataFrame:
    """What one threshold for all reaches on each timestep's score.  Columns: timestep and those of `power`.

    scores : timestep, and the scores of members and of holdout, lower is more member-like; without any there are
    columns but no rows.
    """
    rows = [
        {"timestep": t, **power(-member, -holdout, fpr, confidence)} for t, member, holdout in scores if len(member)
    ]
    return pd.DataFrame(rows, columns=["timestep", *POWER])


def power(member: np.ndarray, holdout: np.ndarray, fpr: float, confidence: float) -> dict[str, float | None]:
    """auc and tpr at `fpr`, each with its interval; tpr is None where the holdout cannot resolve `fpr`."""
    area, area_low, area_high = auc(member, holdout, confidence)
    rate = tpr_at_fpr(member, holdout, fpr, confidence)
    tpr = (rate.value, rate.low, rate.high) if rate else (None, None, None)
    return dict(zip(POWER, (area, area_low, area_high, *tpr), strict=True))
