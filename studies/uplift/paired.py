"""What one rule gains over another on the same images, with an interval that knows they are the same."""

from collections.abc import Callable

import numpy as np

from leakgauge.inference.roc import auc, true_positives_at_fpr
from studies.common.measurement import Scores

DRAWS = 500


def gain(rule: Scores, baseline: Scores, measure: Callable[..., float], confidence: float, seed: int) -> list[float]:
    """measure(rule) - measure(baseline), and the ends of its percentile bootstrap interval.

    Members and holdout images are drawn anew, the same for both rules (Efron & Tibshirani 1993).
    """
    rng = np.random.default_rng(seed)
    rules = [[scores["member"], scores["holdout"]] for scores in (rule, baseline)]
    gains = []
    for _ in range(DRAWS):
        rows = [rng.integers(len(images), size=len(images)) for images in rules[0]]
        again = [[images[drawn] for images, drawn in zip(of, rows, strict=True)] for of in rules]
        gains.append(measure(*again[0]) - measure(*again[1]))
    ends = np.quantile(gains, [(1 - confidence) / 2, (1 + confidence) / 2])
    return [measure(*rules[0]) - measure(*rules[1]), *ends.tolist()]


def tpr_at(fpr: float) -> Callable[[np.ndarray, np.ndarray], float]:
    """The measure "TPR at an FPR"; NaN where the holdout cannot resolve it."""

    def measure(member: np.ndarray, holdout: np.ndarray) -> float:
        hits = true_positives_at_fpr(member, holdout, fpr)
        return np.nan if hits is None else hits / len(member)

    return measure


def area(member: np.ndarray, holdout: np.ndarray) -> float:
    """The measure "AUC"."""
    return auc(member, holdout, 0.5)[0]
