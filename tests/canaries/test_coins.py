"""The test of canaries: p-values counted by hand, uniform under the null, and a bound on epsilon that holds."""

import math

import numpy as np
import pytest
from scipy import stats

from leakgauge.canaries.coins import contrasts, epsilon, p_value
from leakgauge.inference.epsilon import SHARES, of_guesses

TWO = np.array([[-1.0, 1.0], [-3.0, 3.0]])  # sums of one variant each: -4, -2, 2, 4


@pytest.mark.parametrize(("published", "expected"), [((0, 0), 1 / 4), ((1, 0), 2 / 4), ((0, 1), 3 / 4), ((1, 1), 1)])
def test_the_p_value_of_two_images_is_the_share_of_draws_that_are_as_low(published, expected):
    assert p_value(TWO, np.array(published)) == pytest.approx(expected)


def test_ties_count_as_as_low():
    assert p_value(np.array([[0.0, 0.0, 3.0]]), np.array([0])) == pytest.approx(2 / 3)
    assert p_value(np.zeros((5, 4)), np.zeros(5, int)) == 1


def test_the_least_p_value_is_one_draw_of_all():
    contrast = np.tile(np.arange(8.0), (12, 1))
    assert p_value(contrast, np.zeros(12, int)) == pytest.approx(8.0**-12)


def test_the_p_value_is_the_share_of_many_redraws_as_low():
    rng = np.random.default_rng(0)
    contrast, draws = rng.standard_t(3, (30, 5)), 100_000
    sums = contrast[np.arange(30), rng.integers(5, size=(draws, 30))].sum(axis=1)
    for published in rng.integers(5, size=(10, 30)):
        share = (sums <= contrast[np.arange(30), published].sum()).mean()
        assert p_value(contrast, published) == pytest.approx(share, abs=4 * math.sqrt(0.25 / draws))


def made_up(seed: int, images: int = 40, count: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Log scores that differ by image, by variant and by the variants' features, with heavy tails; and features."""
    rng = np.random.default_rng(seed)
    described = rng.normal(size=(images, count, 9))
    told = described @ rng.normal(size=(9, 6))
    noise = rng.standard_t(3, (images, count, 6)) * rng.lognormal(size=(images, 1, 1))
    return told + noise + rng.normal(size=(images, 1, 6)), described


@pytest.mark.parametrize("count", [2, 4, 8])
def test_two_hundred_draws_that_the_scores_do_not_know_have_uniform_p_values(count):
    contrast = contrasts(*made_up(count, count=count))
    rng = np.random.default_rng(1)
    found = [p_value(contrast, published) for published in rng.integers(count, size=(200, 40))]
    assert stats.kstest(found, "uniform").pvalue > 0.01
    assert 3 <= np.sum(np.array(found) <= 0.05) <= 18  # binomial, 0.999


def test_scores_that_are_lower_where_published_are_found():
    scores, described = made_up(0)
    published = np.random.default_rng(2).integers(8, size=40)
    scores[np.arange(40), published] -= 2
    assert p_value(contrasts(scores, described), published) < 1e-4
    assert p_value(contrasts(-scores, described), published) > 0.99


def test_what_features_tell_of_a_score_is_taken_off():
    scores, described = made_up(3)
    scores += 5 * described[..., :1]
    told = (described - described.mean(1, keepdims=True))[..., 0].ravel()
    without, found = (contrasts(scores, features).ravel() for features in (np.zeros_like(described), described))
    assert np.corrcoef(told, without)[0, 1] > 0.7
    assert np.corrcoef(told, found)[0, 1] < 0.3


def test_the_order_of_variants_decides_nothing():
    scores, described = made_up(4)
    order = np.random.default_rng(0).permutation(8)
    np.testing.assert_allclose(
        contrasts(scores[:, order], described[:, order]), contrasts(scores, described)[:, order], atol=1e-12
    )


def test_equal_variants_tell_nothing():
    scores = np.repeat(made_up(5)[0][:, :1], 4, axis=1)
    assert p_value(contrasts(scores, np.zeros((40, 4, 9))), np.zeros(40, int)) == 1


def test_all_right_guesses_of_eight_variants_show_what_their_number_can():
    """q^40 = 0.05 / 4, and q = e^epsilon / (e^epsilon + 7)."""
    published = np.arange(40) % 8
    contrast = np.ones((40, 8))
    contrast[np.arange(40), published] = 0
    q = (0.05 / len(SHARES)) ** (1 / 40)
    found = epsilon(contrast, published, 0.95)
    assert found.epsilon == found.most == pytest.approx(math.log(7 * q / (1 - q)))
    assert (found.guesses, found.correct, found.pairs) == (40, 40, 40)


def test_a_bound_from_eight_choices_is_where_so_many_right_guesses_become_improbable():
    bound = of_guesses(40, 100, 0.95, choices=8)
    q = math.exp(bound) / (math.exp(bound) + 7)
    assert stats.binom.sf(39, 100, q) == pytest.approx(0.05)
    assert of_guesses(12, 100, 0.95, choices=8) == 0, "an eighth is right by chance"


@pytest.mark.parametrize("truth", [0.0, 1.0, 2.5])
def test_randomised_response_over_four_variants_is_covered_in_95_of_100_runs(truth):
    """What was published is told with probability e^epsilon / (e^epsilon + 3), else one of the others."""
    rng = np.random.default_rng(int(10 * truth))
    runs, images, above, found = 300, 100, 0, []
    q = math.exp(truth) / (math.exp(truth) + 3)
    for _ in range(runs):
        published = rng.integers(4, size=images)
        told = np.where(rng.random(images) < q, published, (published + rng.integers(1, 4, images)) % 4)
        contrast = np.ones((images, 4))
        contrast[np.arange(images), told] = -rng.random(images)
        bound = epsilon(contrast, published, 0.95).epsilon
        above += bound > truth
        found.append(bound)
    assert stats.binomtest(above, runs, 0.05, alternative="greater").pvalue > 0.01, above
    if truth:
        assert np.median(found) > 0.4 * truth, "and it is not far below"
