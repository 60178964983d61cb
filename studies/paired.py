"""What one rule gains over another on the same images, with an interval that knows they are the same."""

from collections.abc import Callable

import numpy as np

from leakgauge.inference.roc import auc, true_positives_at_fpr

DRAWS = 500
Margins = tuple[np.ndarray, np.ndarray]  # of members and of holdout


def gain(rule: Margins, baseline: Margins, measure: Callable[..., float], confidence: float, seed: int) -> list[float]:
    """measure(rule) - measure(baseline), and the ends of its percentile bootstrap interval.

    Members and holdout images are drawn anew, the same for both rules (Efron & Tibshirani 1993).
    """
    rng, gains = np.random.default_rng(seed), []
    for _ in range(DRAWS):
        rows = [rng.integers(len(membership_score), size=len(membership_score)) for membership_score in rule]
        drawn = [
            [membership_score[drawn] for membership_score, drawn in zip(of, rows, strict=True)]
            for of in (rule, baseline)
        ]
        gains.append(measure(*drawn[0]) - measure(*drawn[1]))
    ends = np.quantile(gains, [(1 - confidence) / 2, (1 + confidence) / 2])
    return [measure(*rule) - measure(*baseline), *ends.tolist()]


def tpr_at(fpr: float) -> Callable[[np.ndarray, np.ndarray], float]:
    """The measure "TPR at an FPR"; NaN where the holdout cannot resolve it."""

    def measure(member: np.ndarray, holdout: np.ndarray) -> float:
        hits = true_positives_at_fpr(member, holdout, fpr)
        return np.nan if hits is None else hits / len(member)

    return measure


def area(member: np.ndarray, holdout: np.ndarray) -> float:
    """The measure "AUC"."""
    return auc(member, holdout, 0.5)[0]
