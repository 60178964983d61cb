"""Which score tells members best, by one threshold for all images, on images that serve for nothing else."""

import hashlib
from typing import Literal

import numpy as np
import pandas as pd

from stages.statistics.roc import auc, tpr_at_fpr


def drawn_by_name(ids: list[str], seed: int) -> np.ndarray:
    """(N,) uint64, as if uniform: seed and image_id alone decide on an image, whatever other images there are."""
    digests = (hashlib.sha256(f"{seed} {name}".encode()).digest() for name in ids)
    return np.array([int.from_bytes(digest[:8]) for digest in digests], dtype=np.uint64)


def set_apart(ids: list[str], share: float, seed: int) -> np.ndarray:
    """(N,) bool: about this share of the images; more images never move those there were."""
    return drawn_by_name(ids, seed) < share * 2**64


def rank_candidates(
    member: pd.DataFrame, holdout: pd.DataFrame, criterion: float | Literal["auc"], confidence: float
) -> pd.DataFrame:
    """The candidates from best to worst.  Columns: score, value, ci_low, ci_high.

    member, holdout : a column a candidate, lower is more member-like.  criterion : "auc", or the FPR, which the
    holdout must resolve, at which the TPR counts (of equal TPRs the larger AUC comes first).
    """
    rows = []
    for name in member.columns:
        margins = -member[name].to_numpy(), -holdout[name].to_numpy()
        area, low, high = auc(*margins, confidence)
        value = area
        if criterion != "auc":
            rate = tpr_at_fpr(*margins, criterion, confidence)
            assert rate is not None  # the caller's promise
            value, low, high = rate.value, rate.low, rate.high
        rows.append((name, value, low, high, area))
    table = pd.DataFrame(rows, columns=["score", "value", "ci_low", "ci_high", "auc"])
    ranked = table.sort_values(["value", "auc"], ascending=False, kind="stable", ignore_index=True)
    return ranked.drop(columns="auc")
