"""Which images each attacker of a bag is fitted on, stops by, and never sees: by seed, copies of an image together."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

STOPPING = 0.25  # of the distinct images out of bag, that an attacker stops by where it may stop early
MOST_STOPPING = 2000  # of them


@dataclass(frozen=True)
class Stopping:
    """When to stop early.  rows : (m,) images whose loss decides.  patience : looks without a lower loss, at most."""

    rows: np.ndarray
    patience: int


@dataclass(frozen=True)
class Resample:
    """What one attacker learns from.

    rows : (n,) indices, with repeats.  unseen : (N,) bool, images that it is neither fitted on nor stops by.
    kept : (N,) bool, images that calibrate alone: settings must not be chosen by their losses; None: no such image.
    """

    rows: np.ndarray
    unseen: np.ndarray
    stopping: Stopping | None = None
    kept: np.ndarray | None = None


def bootstrap(count: int, seed: int, attacker: int) -> np.ndarray:
    """The resample of one attacker: `count` indices in 0..count - 1, drawn with replacement."""
    return np.random.default_rng([seed, attacker]).integers(count, size=count)


def resamples(hashes: list[str], kept: np.ndarray, seed: int, bag_size: int, patience: int = 0) -> list[Resample]:
    """A resample for each attacker, of the images that are not kept apart.

    hashes : of the N images' pixels: an attacker has seen an image if it has seen its pixels.  kept : (N,) bool.
    patience : 0: each attacker is fitted to the end, and sees nothing out of bag.
    """
    image, _ = pd.factorize(np.array(hashes, dtype=object), sort=True)  # (N,); `np.unique` would copy the strings
    free = np.flatnonzero(~np.isin(image, image[kept]))
    drawn = []
    for attacker in range(bag_size):
        rows = free[bootstrap(len(free), seed, attacker)]
        out_of_bag = np.setdiff1d(image[free], image[rows])  # distinct images
        order = np.random.default_rng([seed, attacker, 1]).permutation(out_of_bag)
        count = min(int(np.ceil(STOPPING * len(order))), MOST_STOPPING) if patience else 0
        stops_by = np.isin(image, order[:count])
        stopping = Stopping(np.flatnonzero(stops_by), patience) if count else None
        drawn.append(Resample(rows, ~(np.isin(image, image[rows]) | stops_by), stopping, kept))
    return drawn


def kept_apart(hashes: list[str], count: int, seed: int) -> np.ndarray:
    """(N,) bool: `count` distinct images, and their copies, that no attacker is fitted on."""
    image, distinct = pd.factorize(np.array(hashes, dtype=object), sort=True)
    chosen = np.random.default_rng([seed, len(distinct)]).permutation(len(distinct))[:count]
    return np.isin(image, chosen)
