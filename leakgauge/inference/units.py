"""Units: images of one patient, artist or scene are alike, so that they tell less than as many independent images.

Where each image is a unit of its own nothing here changes a figure.  Elsewhere N images count as N / d independent
ones, with Kish's design effect d = 1 + (k - 1) rho ("Survey Sampling", 1965, chapter 5), k = sum size^2 / N: the size
of the unit that an image is in, on average, and rho the correlation of two images of one unit, in [0, 1].
"""

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Pair = tuple[np.ndarray | None, np.ndarray | None]  # units of two sets of images; None: each image is its own
NO_UNITS: Pair = (None, None)


def unit_codes(units: np.ndarray | None) -> np.ndarray | None:
    """(N,) int, equal where units are; None where each image is its own.  units : (N,) names or numbers."""
    if units is None:
        return None
    names, codes = np.unique(units, return_inverse=True)
    return codes if len(names) < len(codes) else None


def count_units(units: np.ndarray | None, images: int) -> int:
    """How many units some images have."""
    return images if units is None else len(np.unique(units))


def typical_size(units: np.ndarray) -> float:
    """k above."""
    sizes = np.bincount(units)
    return float((sizes**2).sum() / len(units))


def design_effect(values: np.ndarray, units: np.ndarray | None, variance: float) -> float:
    """d above, for the mean of values.

    values : (N,).  units : (N,) codes.  variance : of one image's value.

    rho is one less the variance within units, as a share of `variance`: well known where units are few, too, as what
    varies between them is not estimated (Rosner, Glynn & Lee, Biometrics 2003, for rank sums).  One unit more, of k
    images that are all alike, is counted: it keeps d from being small by chance.
    """
    if (units := unit_codes(units)) is None or variance <= 0:
        return 1.0
    sizes, size = np.bincount(units), typical_size(units)
    differing = values - (np.bincount(units, values) / sizes)[units]
    within = differing @ differing / (len(units) - len(sizes) + size - 1)
    return float(1 + (size - 1) * np.clip(1 - within / variance, 0, 1))


def unit_weights(units: np.ndarray | None, images: int) -> np.ndarray:
    """(N,): one over the number of images of each image's unit."""
    if (units := unit_codes(units)) is None:
        return np.ones(images)
    return 1 / np.bincount(units)[units]


def joined(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(N,) int, equal for rows that a chain of equal values of either connects.  first, second : (N,)."""
    codes = [np.unique(values, return_inverse=True)[1] for values in (first, second)]
    size = codes[0].max(initial=-1) + 1
    both = size + codes[1].max(initial=-1) + 1
    graph = coo_array((np.ones(len(first)), (codes[0], size + codes[1])), shape=(both, both))
    return connected_components(graph, directed=False)[1][codes[0]]
