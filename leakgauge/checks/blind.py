"""Are members and non-members distinguishable without the target?  Then the sets differ, whatever the target leaks.

A blind classifier that beats published attacks on their own data shows data that were not drawn alike: Das, Zhang &
Tramer, "Blind Baselines Beat Membership Inference Attacks for Foundation Models", 2024.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm, rankdata
from sklearn.linear_model import Ridge
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from leakgauge.inference.roc import auc

FOLDS = 10  # and the fewest images of a set: one a fold


@dataclass(frozen=True)
class Blind:
    """How well features distinguish the images of one set from those of another."""

    auc: float  # out of fold; 0.5 is chance
    low: float  # the ends of `roc.auc`'s interval
    high: float
    p_value: float  # of "drawn alike"


def blind_check(first: np.ndarray, second: np.ndarray, confidence: float, permutations: int, seed: int) -> Blind | None:
    """Tell two sets apart by cross-validated ridge regression of the label (a regularised linear discriminant).

    first, second : (M, F) and (N, F) features.  Returns None where either set has fewer than `FOLDS` images.

    Columns become z-scores, so that no outlier counts more than its rank and a constant column counts nothing.
    The penalty, one a column, expects labels to be half explained.  The AUC is blind to class imbalance.

    The p-value is exact: labels are shuffled within folds and everything is done again (Phipson & Smyth 2010).
    The interval is not: folds share training images, for which the AUC of sets drawn alike strays about 1.4 times
    as far as it allows.
    """
    if min(len(first), len(second)) < FOLDS:
        return None
    features = _normal_scores(np.concatenate([first, second]))  # (M + N, F)
    label = np.repeat([1.0, -1.0], [len(first), len(second)]).astype(np.float32)
    folds = list(StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(features, label))
    labels = _shuffled(label, [tested for _, tested in folds], permutations, seed)  # (M + N, 1 + permutations)
    predicted = cross_val_predict(Ridge(alpha=features.shape[1]), features, labels, cv=folds)
    observed, *by_chance = (_area(predicted[:, k], is_first) for k, is_first in enumerate(labels.T > 0))
    as_large = sum(area >= observed for area in by_chance)
    is_first = label > 0
    return Blind(*auc(predicted[is_first, 0], predicted[~is_first, 0], confidence), (1 + as_large) / (1 + permutations))


def _area(predicted: np.ndarray, is_first: np.ndarray) -> float:
    """The AUC alone, from the sum of ranks."""
    first = int(is_first.sum())
    ranks = float(rankdata(predicted)[is_first].sum())
    return (ranks - first * (first + 1) / 2) / (first * (len(predicted) - first))


def _normal_scores(columns: np.ndarray) -> np.ndarray:
    """Each column's ranks as normal quantiles (van der Waerden), (N, F) float32; ties share one."""
    return norm.ppf((rankdata(columns, axis=0) - 0.5) / len(columns)).astype(np.float32)


def _shuffled(label: np.ndarray, folds: list[np.ndarray], permutations: int, seed: int) -> np.ndarray:
    """The labels as they are, then shuffled within each fold, so that every fold keeps its share of either."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(label[:, None], 1 + permutations, axis=1)
    for fold in folds:
        labels[fold, 1:] = rng.permuted(labels[fold, 1:], axis=0)
    return labels
