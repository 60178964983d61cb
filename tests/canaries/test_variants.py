"""Variants: decided by the key, alike to the eye, of any size and colour."""

import numpy as np
import pytest
from sklearn.datasets import load_sample_image

from leakgauge.canaries.variants import features, variants


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    """(213, 320, 3)."""
    return load_sample_image("china.jpg")[::2, ::2]


def test_the_key_decides_all(photo):
    made = variants(photo, b"a", 3, 8, 0.04)
    assert made.shape == (3, *photo.shape)
    assert made.dtype == np.uint8
    np.testing.assert_array_equal(made, variants(photo, b"a", 3, 8, 0.04))
    assert (made != variants(photo, b"b", 3, 8, 0.04)).any(axis=(1, 2, 3)).all()
    assert len(np.unique(made.reshape(3, -1), axis=0)) == 3


def test_the_tone_changes_no_level_by_more_than_it_says_and_not_the_mean(photo):
    change = variants(photo, b"a", 5, 8, 0.0).astype(int) - photo
    assert 8 <= np.abs(change).max() <= 9, "one for the resampling"
    inside = (photo > 8) & (photo < 247)
    assert np.abs(change.mean(axis=(1, 2, 3))).max() < 0.5
    assert np.abs(change[:, inside]).max(axis=1).min() >= 7


def test_corners_move_inwards_by_at_most_the_shift_and_nothing_comes_from_outside():
    """A picture whose level is the place across: the published level says where a pixel came from."""
    ramp = np.tile(np.linspace(20, 220, 200), (200, 1)).astype(np.uint8)[..., None]
    made = variants(ramp, b"c", 20, 0.5, 0.1)[..., 0].astype(int)
    left, right = made[:, :, 0], made[:, :, -1]
    assert left.min() >= 19
    assert left.max() <= 20 + 0.1 * 200 + 2
    assert right.max() <= 221
    assert right.min() >= 220 - 0.1 * 200 - 2


@pytest.mark.parametrize("shape", [(2, 2, 1), (8, 8, 1), (5, 40, 3)])
def test_small_grey_and_narrow_images_have_variants_and_features(shape):
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    made = variants(image, b"k", 8, 8, 0.04)
    assert made.shape == (8, *shape)
    assert np.isfinite(features(made)).all()
