"""What privacy promises, by hand, and how samples are judged."""

import numpy as np
import pytest

from studies.defences.bound import largest_tpr
from studies.defences.quality import frechet_distance


def test_the_bound_by_hand():
    assert largest_tpr(0.0, 0.0, 0.01) == pytest.approx(0.01), "perfect privacy: chance"
    assert largest_tpr(1.0, 1e-3, 0.01) == pytest.approx(np.e * 0.01 + 1e-3)
    assert largest_tpr(4.0, 0.0, 0.01) == pytest.approx(54.59815 * 0.01, rel=1e-6)
    assert largest_tpr(10.0, 0.0, 0.01) == pytest.approx(1 - np.exp(-10) * 0.99), "the second line is the lower one"
    assert largest_tpr(np.array([0.0, 50.0]), 0.0, 0.5).tolist() == pytest.approx([0.5, 1.0])


def test_randomised_response_reaches_the_bound_and_nothing_passes_it():
    """It tells the truth with probability e^eps / (1 + e^eps): the best test of it has this very TPR and FPR."""
    epsilon = 1.7
    truth = np.exp(epsilon) / (1 + np.exp(epsilon))
    assert largest_tpr(epsilon, 0.0, 1 - truth) == pytest.approx(truth)


def test_the_distance_of_a_set_from_itself_is_nothing_and_of_a_shift_its_square():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 200, (500, 1, 4, 4), dtype=np.uint8)
    assert frechet_distance(images, images) == pytest.approx(0, abs=1e-5)
    assert frechet_distance(images, images + 51) == pytest.approx(16 * 0.4**2, rel=1e-4)


def test_gaussian_pixels_by_the_closed_form():
    rng = np.random.default_rng(1)
    one, two = (np.clip(rng.normal(127.5, spread, (40_000, 2)), 0, 255).round().astype(np.uint8) for spread in (20, 40))
    assert frechet_distance(one, two) == pytest.approx(2 * (20 / 127.5) ** 2, rel=0.05)
