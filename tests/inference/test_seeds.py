"""An interval over seeds: by hand, and what it covers where seeds share images."""

import numpy as np
import pytest

from leakgauge.inference.comparisons import mean_over_seeds


def test_the_interval_over_five_seeds_is_students_by_hand():
    mean, low, high = mean_over_seeds([57, 59, 60, 61, 63], 0.95)
    reach = 2.776445 * np.sqrt(20 / 4) / np.sqrt(5)  # t of four degrees of freedom, squares sum to 20
    assert (mean, low, high) == pytest.approx((60, 60 - reach, 60 + reach))


def test_two_seeds_have_no_interval_and_a_seed_without_a_figure_leaves_none():
    assert mean_over_seeds([1, 3], 0.95)[0] == 2
    assert np.isnan(mean_over_seeds([1, 3], 0.95)[1:]).all()
    assert np.isnan(mean_over_seeds([1, 3, np.nan], 0.95)).all()


def test_it_covers_what_seeds_vary_about_where_an_interval_of_pooled_counts_does_not():
    rng = np.random.default_rng(0)
    of_seeds = rng.normal(0.6, 0.02, (4000, 5))  # 5,000 members a seed: their chance alone is 0.007
    found = np.array([mean_over_seeds(figures, 0.95) for figures in of_seeds])
    covered = (found[:, 1] <= 0.6) & (found[:, 2] >= 0.6)
    pooled = np.abs(found[:, 0] - 0.6) <= 1.96 * np.sqrt(0.6 * 0.4 / 25_000)
    assert covered.mean() == pytest.approx(0.95, abs=0.015)  # standard error 0.0034
    assert pooled.mean() < 0.6
