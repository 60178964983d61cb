"""Choose the score that results are judged by, on members and holdout images that are reported nowhere."""

from typing import Literal

import numpy as np
import pandas as pd

from leakgauge.config import PARAMS, key_name
from leakgauge.draws import share_by_name
from leakgauge.errors import InputError, warn
from leakgauge.inference.comparisons import wrong_way_round
from leakgauge.inference.metrics import Figures
from leakgauge.inference.roc import auc, tpr_at_fpr
from leakgauge.options import Evaluate, TPRAtFPR

FEWEST_IMAGES = 20  # images of each role that a choice can rest on


def selection_split(target: str, ids: list[str], role: str, options: Evaluate) -> np.ndarray:
    """(N,) bool: the images of a role that the choice is made on, by name: more images move none that was there.

    Raises InputError if they are too few for a choice, or none is left.
    """
    chosen = share_by_name(ids, options.selection, options.selection_seed)
    if options.selection and not FEWEST_IMAGES <= chosen.sum() < len(chosen):
        raise InputError(
            f"{PARAMS}: {key_name('evaluate', 'selection', target)}: {options.selection:g} takes {chosen.sum()} of "
            f"{len(chosen)} {role} images; a choice needs at least {FEWEST_IMAGES}, and some must be left"
        )
    return chosen


def selection_figures(target: str, member: pd.DataFrame, holdout: pd.DataFrame, options: Evaluate) -> Figures:
    """What was chosen among how many on how many images, and what each candidate reached there; warns of those that are
    higher for members.

    member, holdout : the selection images, a column a learnt score, lower is more member-like.  Raises InputError for
    an FPR that the holdout cannot resolve.
    """
    criterion = _criterion(target, options.criterion, len(holdout))
    by_score = rank_candidates(member, holdout, criterion, options.confidence).set_index("score").to_dict("index")
    best = str(next(iter(by_score)))
    for name, found in by_score.items():
        sentence = wrong_way_round(name, member[name].to_numpy(), holdout[name].to_numpy())
        found["wrong_way_round"] = bool(sentence)
        if sentence:
            warn(f"{target}: on the images set apart to choose a score, {sentence}")
    return {
        "score": best,
        "candidates": len(by_score),
        "members": len(member),
        "holdout": len(holdout),
        "criterion": criterion if criterion == "auc" else f"tpr_at_fpr_{criterion:g}",
        **by_score[best],
        "by_score": by_score,
    }


def _criterion(target: str, criterion: Literal["auc"] | TPRAtFPR, holdout: int) -> float | Literal["auc"]:
    if not isinstance(criterion, TPRAtFPR):
        return criterion
    if holdout * criterion.tpr_at_fpr < 1 - 1e-9:
        raise InputError(
            f"{PARAMS}: {key_name('evaluate', 'criterion', target)}.tpr_at_fpr: {criterion.tpr_at_fpr:g} is below what "
            f"{holdout} holdout images of the selection resolve, {1 / holdout:.2g}: a larger evaluate.selection helps"
        )
    return criterion.tpr_at_fpr


def rank_candidates(
    member: pd.DataFrame, holdout: pd.DataFrame, criterion: float | Literal["auc"], confidence: float
) -> pd.DataFrame:
    """The candidates from best to worst, by one threshold for all images.  Columns: score, value, ci_low, ci_high.

    member, holdout : a column a candidate, lower is more member-like.  criterion : "auc", or the FPR, which the
    holdout must resolve, at which the TPR counts (of equal TPRs the larger AUC comes first).
    """
    rows = []
    for name in member.columns:
        membership_scores = -member[name].to_numpy(), -holdout[name].to_numpy()
        area, low, high = auc(*membership_scores, confidence)
        value = area
        if criterion != "auc":
            rate = tpr_at_fpr(*membership_scores, criterion, confidence)
            assert rate is not None  # the caller's promise
            value, low, high = rate.value, rate.low, rate.high
        rows.append((name, value, low, high, area))
    table = pd.DataFrame(rows, columns=["score", "value", "ci_low", "ci_high", "auc"])
    ranked = table.sort_values(["value", "auc"], ascending=False, kind="stable", ignore_index=True)
    return ranked.drop(columns="auc")
