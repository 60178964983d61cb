"""scikit-learn's bundled digits: 1,797 real 8x8 scans (UCI Optical Recognition of Handwritten Digits), no download."""

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from stages.datasets.images import Images


def read(_path: Path) -> Images:
    """The scans with labels 0..9; grey levels 0..16 become 0..255."""
    digits = load_digits()
    pixels = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., None]  # (1797, 8, 8, 1)
    ids = [f"digits-{index:04d}" for index in range(len(pixels))]
    return Images(ids, pixels, [int(label) for label in digits.target], [None] * len(ids))
