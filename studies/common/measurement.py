"""How every study measures: one threshold for all images, or one for each, at a false-positive rate, with intervals."""

import numpy as np
import pandas as pd

from leakgauge.bags import Scored
from leakgauge.inference.comparisons import mean_over_seeds
from leakgauge.inference.conformal import AttackResult
from leakgauge.inference.metrics import power
from studies.common.settings import Measure

ONE_FOR_ALL = "one threshold for all"
PER_IMAGE = "one for each image"
ALL_SEEDS = -1  # in place of a seed: the mean over the seeds of a setting
Scores = dict[str, np.ndarray]  # role -> membership scores, (N,): higher is more member-like


def as_they_are(roles: dict[str, Scored], column: str) -> Scores:
    """Membership scores by a score column, which one threshold for all images then judges."""
    return {role: -roles[role].log_scores[column] for role in ("member", "holdout")}


def reached(scores: Scores, asked: Measure, fpr: float | None = None) -> dict[str, float]:
    """AUC and TPR with their intervals, how many members were found, and of how many.  fpr : other than asked for.

    auc, auc_ci_low, auc_ci_high, tpr, tpr_ci_low, tpr_ci_high, tpr_count, members.  Those of the TPR are NaN where the
    holdout cannot resolve the FPR.
    """
    member, holdout = scores["member"], scores["holdout"]
    found = power(member, holdout, fpr or asked.fpr, asked.confidence)
    count = np.nan if found["tpr"] is None else round(found["tpr"] * len(member))
    values = {name: np.nan if value is None else value for name, value in found.items()}
    return values | {"tpr_count": count, "members": len(member)}


def by_rule(roles: dict[str, Scored], column: str, result: AttackResult, asked: Measure) -> dict[str, dict[str, float]]:
    """Rule -> what it reaches: one threshold for all images on a score column, and a bag's result on that column."""
    scores = {ONE_FOR_ALL: as_they_are(roles, column), PER_IMAGE: result.membership_score}
    return {rule: reached(of_rule, asked) for rule, of_rule in scores.items()}


def with_means(rows: pd.DataFrame, by: list[str], confidence: float) -> pd.DataFrame:
    """The rows, and for each setting one more of seed `ALL_SEEDS`: the mean of its seeds; counts and members are sums.

    by : the columns that make a setting.  Every figure with an interval gets one over seeds (`mean_over_seeds`): none
    (NaN) below three seeds, for seeds draw from the same images and two tell no spread.  Few seeds may agree by chance,
    so the interval is never narrower than it would be if the seeds' images were independent.
    """
    named = [name.removesuffix("_ci_low") for name in rows if name.endswith("_ci_low")]
    groups = rows.groupby(by, sort=False, dropna=False)
    means = rows.drop(columns="seed").groupby(by, sort=False, dropna=False).mean(numeric_only=True).reset_index()
    for place, (_, group) in enumerate(groups):
        for name in named:
            means.loc[place, [f"{name}_ci_low", f"{name}_ci_high"]] = _interval(group, name, confidence)
        for count in ("tpr_count", "members"):
            means.loc[place, count] = group[count].sum(skipna=False)
    return pd.concat([rows, means.assign(seed=ALL_SEEDS)], ignore_index=True)[rows.columns]


def _interval(group: pd.DataFrame, name: str, confidence: float) -> tuple[float, float]:
    """Ends over the seeds of a setting; those of a rate or an AUC lie in [0, 1]."""
    mean, low, high = mean_over_seeds(group[name].to_numpy(), confidence)
    halves = (group[f"{name}_ci_high"] - group[f"{name}_ci_low"]) / 2
    apart = np.sqrt((halves**2).sum()) / len(group)  # were the images of the seeds independent
    low, high = np.minimum(low, mean - apart), np.maximum(high, mean + apart)  # NaN stays NaN
    return (low, high) if name.endswith("uplift") else (np.clip(low, 0, 1), np.clip(high, 0, 1))
