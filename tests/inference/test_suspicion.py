"""What a set of suspects says as a whole: known truth first, then what chance does."""

import numpy as np
import pytest
from scipy.stats import kstest

from leakgauge.inference import suspects as suspicion
from leakgauge.inference.conformal import conformal_p_values
from leakgauge.inference.suspects import adjusted_p_values, set_test, used_fraction

CONFIDENCE = 0.95
SHIFT = 3.0  # of members' membership scores: an attack that tells much but not all


def audit(
    rng: np.random.Generator, used: int, others: int, auxiliary: int = 400
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Membership scores of auxiliary images and suspects, and which suspects were used."""
    suspects = np.r_[rng.normal(SHIFT, 1, used), rng.normal(0, 1, others)]
    return rng.normal(0, 1, auxiliary), suspects, np.arange(used + others) < used


# Naming


def test_benjamini_and_hochberg_name_up_to_the_last_p_value_below_its_share_of_the_rate():
    p_values = np.array([0.9, 0.001, 0.024, 0.021, 0.5])  # sorted against 0.02, 0.04, 0.06, 0.08, 0.1
    assert (adjusted_p_values(p_values) <= 0.1).tolist() == [False, True, True, True, False]
    assert (adjusted_p_values(p_values) <= 0.03).tolist() == [False, True, False, False, False]


def test_of_nobody_nobody_is_named():
    assert adjusted_p_values(np.array([])).tolist() == []


@pytest.mark.parametrize("used", [0, 10, 50, 90])
def test_the_share_of_those_named_who_were_not_used_stays_below_the_rate(used):
    rng, rate, wrong, found = np.random.default_rng(used), 0.1, [], []
    for _ in range(300):
        auxiliary, suspects, truth = audit(rng, used, 100 - used)
        named = adjusted_p_values(conformal_p_values(suspects, auxiliary)) <= rate
        wrong.append((named & ~truth).sum() / max(named.sum(), 1))
        found.append(named[truth].mean() if used else 1.0)
    assert np.mean(wrong) <= rate * (100 - used) / 100 + 3 * np.std(wrong) / np.sqrt(len(wrong))
    assert np.mean(found) > 0.3, "and it is not for want of naming anyone"


# The set


def test_the_effect_is_the_share_of_pairs_in_which_the_suspect_is_above():
    result = set_test(np.array([1.0, 3.0]), np.array([0.0, 2.0, 4.0]), CONFIDENCE)
    assert result.effect == pytest.approx((1 + 2) / 6)
    assert result.effect_low <= result.effect <= result.effect_high


def test_three_suspects_above_all_others_leave_the_effect_uncertain():
    result = set_test(np.array([10.0, 11.0, 12.0]), np.arange(9.0), CONFIDENCE)
    assert result.effect == result.effect_high == 1
    assert 0.3 < result.effect_low < 0.6


def test_the_p_value_is_that_of_all_orders_being_equally_likely():
    result = set_test(np.array([10.0, 11.0]), np.array([0.0, 1.0, 2.0]), CONFIDENCE)
    assert result.p_value == pytest.approx(1 / 10), "one of the 5! / (2! 3!) ways to place two suspects among five"


def test_the_p_value_of_unused_suspects_is_uniform():
    rng = np.random.default_rng(0)
    p_values = [set_test(s, a, CONFIDENCE).p_value for a, s, _ in (audit(rng, 0, 50) for _ in range(200))]
    assert kstest(p_values, "uniform").pvalue > 0.05


def test_the_p_value_is_tiny_where_half_were_used_and_not_where_suspects_are_swapped_with_auxiliary():
    auxiliary, suspects, _ = audit(np.random.default_rng(0), 25, 25)
    assert set_test(suspects, auxiliary, CONFIDENCE).p_value < 1e-6
    assert set_test(auxiliary, suspects, CONFIDENCE).p_value > 1 - 1e-6


# How many


def test_the_fraction_solves_the_mixture():
    holdout, members = np.linspace(0, 1, 400), np.full(300, 9.0)  # told apart without an error
    for used in (0, 1, 30, 60):
        suspects = np.r_[np.full(used, 9.0), np.linspace(0, 0.99, 60 - used)]
        fraction = used_fraction(suspects, holdout, members, CONFIDENCE)
        assert fraction.value == pytest.approx(used / 60, abs=0.01)
        assert fraction.low - 1e-9 <= used / 60 <= fraction.high + 1e-9
        assert fraction.high - fraction.low < 0.06
    blind = used_fraction(suspects, holdout, None, CONFIDENCE)
    assert (blind.value, blind.high) == (None, 1)
    assert 0.9 < blind.low < 1


def test_without_known_members_only_a_lower_bound_is_told():
    rng, low = np.random.default_rng(0), []
    for _ in range(300):
        holdout, suspects = rng.normal(size=300), np.r_[rng.normal(SHIFT, 1, 30), rng.normal(size=30)]
        low.append(used_fraction(suspects, holdout, None, CONFIDENCE).low)
    assert np.mean(np.array(low) <= 0.5) >= CONFIDENCE
    assert np.mean(low) > 0.25


@pytest.mark.parametrize("count", [5, 20, 60])
@pytest.mark.parametrize("share", [0, 0.1, 0.5, 1])
def test_the_interval_covers_the_fraction_as_often_as_it_says(share, count, monkeypatch):
    monkeypatch.setattr(suspicion, "DRAWS", 400)
    used, covered = round(share * count), []
    rng = np.random.default_rng([used, count])
    for _ in range(200):
        holdout, suspects, _ = audit(rng, used, count - used)
        fraction = used_fraction(suspects, holdout, rng.normal(SHIFT, 1, 150), CONFIDENCE)
        covered.append(fraction.low - 1e-9 <= used / count <= fraction.high + 1e-9)
    assert np.mean(covered) > 0.91


def test_the_interval_of_ten_thousand_suspects_is_narrow_and_quick():
    rng = np.random.default_rng(0)
    holdout, suspects, _ = audit(rng, 500, 9500, 600)
    fraction = used_fraction(suspects, holdout, rng.normal(SHIFT, 1, 300), CONFIDENCE)
    assert fraction.low < 0.05 < fraction.high
    assert fraction.high - fraction.low < 0.05


def test_an_attack_that_tells_nothing_says_nothing_of_the_fraction():
    membership_scores = np.random.default_rng(0).normal(0, 1, 300)
    fraction = used_fraction(
        membership_scores[:100], membership_scores[100:200], membership_scores[200:] - 0.2, CONFIDENCE
    )
    assert (fraction.value, fraction.low, fraction.high) == (None, 0.0, 1.0)
    blunt = np.full(50, 0.1)
    assert used_fraction(blunt, blunt, blunt, CONFIDENCE).value is None
