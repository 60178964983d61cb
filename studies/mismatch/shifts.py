"""Ways in which an auxiliary set can come from another distribution, each in graded strength.

A shift takes images, (N, C, H, W) uint8, their classes, (N,), a strength and a generator, and returns the images and
which rows are left, (N,) bool.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter
from sklearn.datasets import load_sample_image

Shift = Callable[[np.ndarray, np.ndarray, float, np.random.Generator], tuple[np.ndarray, np.ndarray]]
PHOTOS = ("china.jpg", "flower.jpg")  # scikit-learn's
REDUCED = 4  # photographs are made so many times smaller, lest a patch be of one tone


def blurred(pixels: np.ndarray, labels: np.ndarray, strength: float, rng: np.random.Generator) -> tuple:
    """strength : deviation of the Gaussian filter, in pixels."""
    return _to_uint8(gaussian_filter(pixels.astype(float), (0, 0, strength, strength))), _all(pixels)


def noisy(pixels: np.ndarray, labels: np.ndarray, strength: float, rng: np.random.Generator) -> tuple:
    """strength : deviation of the noise, in grey levels of 256."""
    return _to_uint8(pixels + strength * rng.standard_normal(pixels.shape)), _all(pixels)


def inverted(pixels: np.ndarray, labels: np.ndarray, strength: float, rng: np.random.Generator) -> tuple:
    """strength : share of the images whose dark is bright."""
    chosen = _share(len(pixels), strength, rng)
    return np.where(chosen[:, None, None, None], 255 - pixels, pixels), _all(pixels)


def other_classes(pixels: np.ndarray, labels: np.ndarray, strength: float, rng: np.random.Generator) -> tuple:
    """strength : how many classes are left out, the first ones; the other images stay as they are."""
    return pixels, labels >= strength


def other_source(pixels: np.ndarray, labels: np.ndarray, strength: float, rng: np.random.Generator) -> tuple:
    """strength : share of the images that are grey patches of photographs instead."""
    chosen = _share(len(pixels), strength, rng)
    return np.where(chosen[:, None, None, None], patches(len(pixels), pixels.shape[1:], rng), pixels), _all(pixels)


SHIFTS: dict[str, Shift] = {shift.__name__: shift for shift in (blurred, noisy, inverted, other_classes, other_source)}


def patches(count: int, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Random patches of two photographs, (count, C, H, W) uint8, all channels alike.  shape : (C, H, W)."""
    channels, height, width = shape
    photos = []
    for name in PHOTOS:
        grey = Image.fromarray(load_sample_image(name)).convert("L")
        photos.append(np.asarray(grey.resize((grey.width // REDUCED, grey.height // REDUCED), Image.Resampling.BOX)))
    cut = []
    for _ in range(count):
        photo = photos[rng.integers(len(photos))]
        top, left = rng.integers(photo.shape[0] - height + 1), rng.integers(photo.shape[1] - width + 1)
        cut.append(photo[top : top + height, left : left + width])
    return np.repeat(np.stack(cut)[:, None], channels, axis=1)


def _share(count: int, share: float, rng: np.random.Generator) -> np.ndarray:
    """(count,) bool: a random share; a larger one has the smaller one in it."""
    return rng.permutation(count) < round(share * count)


def _all(pixels: np.ndarray) -> np.ndarray:
    return np.ones(len(pixels), dtype=bool)


def _to_uint8(values: np.ndarray) -> np.ndarray:
    return values.round().clip(0, 255).astype(np.uint8)
