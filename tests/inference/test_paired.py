"""What one result gains over another: counted by hand, then coverage by simulation."""

import numpy as np
import pytest
from scipy.stats import norm

from leakgauge.inference import comparisons as paired
from leakgauge.inference.comparisons import paired_difference
from leakgauge.inference.roc import auc, true_positives_at_fpr


def judged(rng: np.random.Generator, members: int, holdout: int, drops: tuple[float, float]) -> tuple:
    """Two correlated results of the same images; members' membership scores are higher by `drops`."""
    shared = [rng.normal(size=count) for count in (members, holdout)]
    own = [[0.6 * rng.normal(size=len(values)) + 0.8 * values for values in shared] for _ in drops]
    return tuple(of[0] + drop for of, drop in zip(own, drops, strict=True)), tuple(of[1] for of in own)


def test_the_differences_are_those_of_the_single_figures_ties_included():
    rng = np.random.default_rng(0)
    for decimals in (0, 1, 15):
        member, holdout = judged(rng, 40, 90, (1.5, 1.0))
        member, holdout = ([values.round(decimals) for values in pair] for pair in (member, holdout))
        tpr, area = paired_difference(member, holdout, 0.1, 0.95)
        hits = [true_positives_at_fpr(m, h, 0.1) for m, h in zip(member, holdout, strict=True)]
        assert tpr.value == pytest.approx((hits[0] - hits[1]) / 40)
        areas = [auc(m, h, 0.95)[0] for m, h in zip(member, holdout, strict=True)]
        assert area.value == pytest.approx(areas[0] - areas[1])


def test_a_judgement_gains_nothing_over_itself_and_loses_what_the_other_gains():
    member, holdout = judged(np.random.default_rng(1), 60, 600, (2.0, 1.0))
    same = paired_difference((member[0], member[0]), (holdout[0], holdout[0]), 0.05, 0.95)
    assert all((one.value, one.low, one.high) == (0, 0, 0) for one in same)
    gained, lost = (
        paired_difference(member, holdout, 0.05, 0.95),
        paired_difference(member[::-1], holdout[::-1], 0.05, 0.95),
    )
    for one, other in zip(gained, lost, strict=True):
        assert (one.value, one.low, one.high) == pytest.approx((-other.value, -other.high, -other.low))
        assert one.low > 0 or one.high < 0


def test_a_difference_that_too_few_false_positives_decide_is_not_told():
    member, holdout = judged(np.random.default_rng(2), 60, 400, (3.0, 0.0))
    tpr, area = paired_difference(member, holdout, 0.01, 0.95)
    assert (tpr.low, tpr.high) == (-1, 1)
    assert area.low > 0
    assert paired_difference(member, holdout, 0.001, 0.95)[0] is None


def test_paired_intervals_cover_the_true_differences_and_are_no_wider_for_sharing_images(monkeypatch):
    monkeypatch.setattr(paired, "DRAWS", 300)
    rng, covered, drops = np.random.default_rng(3), [], (2.5, 2.0)
    level = norm.isf(0.05)
    truth = (
        np.diff([norm.sf(level - drop) for drop in drops[::-1]])[0],
        np.diff(norm.cdf(np.array(drops[::-1]) / np.sqrt(2)))[0],
    )
    for _ in range(250):
        found = paired_difference(*judged(rng, 100, 600, drops), 0.05, 0.95)
        covered.append([one.low <= value <= one.high for one, value in zip(found, truth, strict=True)])
    assert (np.mean(covered, axis=0) > 0.91).all()
