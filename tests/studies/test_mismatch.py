"""Shifts do what they say, more so the stronger, and calibration breaks where non-members' scores are shifted."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from test_measurement import ASKED, study

from leakgauge.bags import Scored
from leakgauge.features import named_features
from leakgauge.quantile.inputs import Inputs
from studies.mismatch.shifted import blind, judged
from studies.mismatch.shifts import SHIFTS, patches

DIGITS = load_digits()
DRAWN = np.random.default_rng(0).permutation(len(DIGITS.images))[:400]  # they come writer by writer
PIXELS = (DIGITS.images * 255 / 16).round().astype(np.uint8)[DRAWN, None]
LABELS = DIGITS.target[DRAWN]


def shifted(name: str, strength: float) -> tuple[np.ndarray, np.ndarray]:
    return SHIFTS[name](PIXELS, LABELS, strength, np.random.default_rng(0))


@pytest.mark.parametrize("name", SHIFTS)
def test_no_strength_is_no_shift(name):
    pixels, left = shifted(name, 0)
    assert left.all()
    assert np.array_equal(pixels, PIXELS)


@pytest.mark.parametrize(("name", "weak", "strong"), [("blurred", 0.4, 0.8), ("noisy", 10, 30), ("inverted", 0.2, 0.6)])
def test_stronger_shifts_move_pixels_farther(name, weak, strong):
    moved = [np.abs(shifted(name, strength)[0].astype(int) - PIXELS).mean() for strength in (weak, strong)]
    assert 0 < 1.5 * moved[0] < moved[1]


def test_an_inverted_image_is_its_negative_and_as_many_are_as_asked_for():
    pixels, _ = shifted("inverted", 0.25)
    inverted = (pixels == 255 - PIXELS).all(axis=(1, 2, 3))
    assert inverted.sum() == 100
    assert np.array_equal(pixels[~inverted], PIXELS[~inverted])


def test_classes_left_out_are_gone_and_the_others_stay_whole():
    pixels, left = shifted("other_classes", 3)
    assert set(LABELS[left]) == set(range(3, 10))
    assert np.array_equal(pixels, PIXELS)


def test_patches_are_parts_of_photographs_with_structure_and_come_from_the_seed():
    first, again, other = (patches(50, (1, 8, 8), np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert np.median(first.std(axis=(1, 2, 3))) > 10
    assert shifted("other_source", 1)[0].shape == PIXELS.shape


def roles(offset: float) -> dict[str, Scored]:
    """Log scores that the brightness of the image tells, but for auxiliary images `offset` above the others."""
    rng, parts = np.random.default_rng(0), {}
    for role, rows in {"member": slice(0, 50), "auxiliary": slice(50, 250), "holdout": slice(250, 400)}.items():
        features = np.stack(list(named_features(PIXELS[rows]).values()), axis=1)
        scores = PIXELS[rows].mean(axis=(1, 2, 3)) / 20 + rng.standard_normal(len(features)) / 5
        scores += {"member": -2.0, "auxiliary": offset, "holdout": 0.0}[role]
        hashes = np.array([f"{role} {row}" for row in range(len(features))])
        parts[role] = Scored(Inputs(PIXELS[rows], features), hashes, {"t_error_t10": scores})
    return parts


def rates(offset: float, tmp_path) -> dict[str, dict]:
    audit = roles(offset)
    fitted = study(tmp_path, size=20, marginal={"kind": "marginal"}).fit(audit, ["t_error_t10"], "test")
    return {row["calibration"]: row for row in judged(fitted, audit, 0, ASKED)}


def test_alike_auxiliary_images_give_the_rate_asked_for_with_weights_or_without(tmp_path):
    found = rates(0.0, tmp_path)
    for row in found.values():
        assert row["realised_fpr_ci_low"] < 0.1 < row["realised_fpr_ci_high"]
        assert row["realised_fpr_count"] == round(150 * row["realised_fpr"])
    assert found["weighted"]["effective_size"] < found["plain"]["effective_size"] == 200


def test_auxiliary_images_that_score_higher_accuse_non_members(tmp_path):
    assert rates(2.0, tmp_path)["plain"]["realised_fpr_ci_low"] > 0.3


def test_the_blind_check_warns_of_a_shift_and_is_silent_without_one():
    audit = roles(0.0)
    assert blind(audit, 0.95, 19, 0).low < 0.55
    pixels, _ = SHIFTS["inverted"](audit["auxiliary"].inputs.images, LABELS[50:250], 1, np.random.default_rng(0))
    features = np.stack(list(named_features(pixels).values()), axis=1)
    other = Scored(Inputs(pixels, features), audit["auxiliary"].hashes, audit["auxiliary"].log_scores)
    assert blind(audit | {"auxiliary": other}, 0.95, 19, 0).low > 0.9
