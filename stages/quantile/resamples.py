"""Which images each attacker of a bag is fitted on, stops by, and never sees: by seed.

Images are distinct, as `split` leaves them: were there copies, an attacker could have seen the pixels of an image that
its resample left out.
"""

from dataclasses import dataclass

import numpy as np

STOPPING = 0.25  # of the images out of bag, that an attacker stops by where it may stop early
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


def resamples(kept: np.ndarray, seed: int, bag_size: int, patience: int = 0) -> list[Resample]:
    """A resample for each attacker, of the images that are not kept apart.

    kept : (N,) bool, over distinct images.  patience : 0: each attacker is fitted to the end, and sees nothing out of
    bag.
    """
    free = np.flatnonzero(~kept)
    drawn = []
    for attacker in range(bag_size):
        rows = free[bootstrap(len(free), seed, attacker)]
        out_of_bag = np.setdiff1d(free, rows)
        order = np.random.default_rng([seed, attacker, 1]).permutation(out_of_bag)
        stops_by = np.sort(order[: min(int(np.ceil(STOPPING * len(order))), MOST_STOPPING)]) if patience else order[:0]
        unseen = np.ones(len(kept), dtype=bool)
        unseen[rows] = unseen[stops_by] = False
        stopping = Stopping(stops_by, patience) if len(stops_by) else None
        drawn.append(Resample(rows, unseen, stopping, kept))
    return drawn


def kept_apart(total: int, count: int, seed: int) -> np.ndarray:
    """(N,) bool: `count` of `total` images that no attacker is fitted on."""
    kept = np.zeros(total, dtype=bool)
    kept[np.random.default_rng([seed, total]).permutation(total)[:count]] = True
    return kept
