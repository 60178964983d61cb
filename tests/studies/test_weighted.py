"""Weighted conformal p-values: by hand, against the plain ones, and where the density ratio is known."""

import numpy as np
import pytest
from scipy.stats import norm

from leakgauge.inference.conformal import conformal_p_values, effective_size, weighted_p_values
from leakgauge.inference.roc import exact_rate
from studies.mismatch.density_ratio import LARGEST, density_ratio


def test_by_hand():
    non_members, theirs = np.array([3.0, 1.0, 2.0]), np.array([0.5, 2.0, 1.0])
    found = weighted_p_values(np.array([2.0, 9.0, 0.0]), np.array([1.0, 4.0, 0.5]), non_members, theirs)
    assert found.tolist() == pytest.approx([(0.5 + 1.0 + 1.0) / 4.5, 4.0 / 7.5, 1.0])


def test_equal_weights_are_no_weights_whatever_their_size_and_ties_move_together():
    rng = np.random.default_rng(0)
    membership_score, non_members = rng.integers(0, 9, 200).astype(float), rng.integers(0, 9, 150).astype(float)
    plain = conformal_p_values(membership_score, non_members)
    for weight in (1.0, 7.0):
        weighted = weighted_p_values(membership_score, np.full(200, weight), non_members, np.full(150, weight))
        np.testing.assert_allclose(weighted, plain, rtol=1e-12)


def test_an_image_of_weight_nothing_counts_for_nothing():
    with_it = weighted_p_values(np.array([1.0]), np.array([1.0]), np.array([0.0, 2.0, 5.0]), np.array([1.0, 1.0, 0.0]))
    assert with_it == weighted_p_values(np.array([1.0]), np.array([1.0]), np.array([0.0, 2.0]), np.ones(2))


def test_the_effective_size_of_equal_weights_is_their_count_and_of_one_that_outweighs_all_one():
    assert effective_size(np.full(40, 3.0)) == pytest.approx(40)
    assert effective_size(np.array([1.0, 1e-9, 1e-9])) == pytest.approx(1)


def test_where_the_ratio_is_known_plain_verdicts_break_and_weighted_ones_hold():
    """Images x ~ N(0, 1) calibrate for x ~ N(1, 1); a non-member's membership score is x and a little noise."""
    rng, alpha, counts = np.random.default_rng(1), 0.1, {"plain": 0, "weighted": 0}
    for _ in range(200):
        x, y = rng.standard_normal(800), 1 + rng.standard_normal(50)
        non_members, membership_score = (values + 0.3 * rng.standard_normal(len(values)) for values in (x, y))
        ratios = [norm.pdf(values, loc=1) / norm.pdf(values) for values in (y, x)]
        counts["plain"] += int((conformal_p_values(membership_score, non_members) <= alpha).sum())
        counts["weighted"] += int(
            (weighted_p_values(membership_score, ratios[0], non_members, ratios[1]) <= alpha).sum()
        )
    rates = {name: exact_rate(count, 200 * 50, 0.999) for name, count in counts.items()}
    assert rates["plain"].low > 2 * alpha
    assert rates["weighted"].low < alpha < rates["weighted"].high + 0.01
    assert rates["weighted"].high < 1.3 * alpha


def test_a_learnt_ratio_is_near_the_true_one_and_no_image_taught_its_own():
    rng = np.random.default_rng(2)
    auxiliary, asked = rng.standard_normal((3000, 1)), 0.7 + rng.standard_normal((1500, 1))
    of_auxiliary, of_asked = density_ratio(auxiliary, asked, 0)
    assert (len(of_auxiliary), len(of_asked)) == (3000, 1500)
    true = norm.pdf(auxiliary[:, 0], loc=0.7) / norm.pdf(auxiliary[:, 0])
    assert np.corrcoef(np.log(of_auxiliary), np.log(true))[0, 1] > 0.99
    assert of_auxiliary.mean() == pytest.approx(1, abs=0.1), "the mean of a density ratio is one"
    noise = density_ratio(rng.standard_normal((300, 40)), rng.standard_normal((300, 40)), 0)
    assert noise[1].mean() - noise[0].mean() < 0.1, "images that teach their own weight would have larger ones"
    assert max(weight.max() for weight in density_ratio(auxiliary, asked + 100, 0)) <= LARGEST
