"""scikit-learn's bundled digits: 1,797 real 8x8 scans (UCI Optical Recognition of Handwritten Digits), no download."""

from typing import Literal

import numpy as np

from leakgauge.datasets.images import Entry, Images, collate, from_array


class DigitsEntry(Entry):
    """An entry of the `datasets` registry.  path : leakgauge/datasets/digits.py."""

    source: Literal["digits"]


def read(entry: DigitsEntry) -> Images:
    """The scans with labels 0..9; grey levels 0..16 become 0..255."""
    from sklearn.datasets import load_digits  # takes a second

    digits = load_digits()
    scans = np.round(digits.images * (255 / 16)).astype(np.uint8)  # (1797, 8, 8)
    ids = [f"digits-{index:04d}" for index in range(len(scans))]
    pixels, notes = collate(map(from_array, scans), len(ids), entry, ids.__getitem__)
    return Images(ids, pixels, [int(label) for label in digits.target], [None] * len(ids), notes=notes)
