"""Draws that a name decides: more images, or another order, move none that was there."""

import hashlib

import numpy as np


def drawn_by_name(names: list[str], seed: int) -> np.ndarray:
    """(N,) uint64, as if uniform: seed and name alone decide on each."""
    digests = (hashlib.sha256(f"{seed} {name}".encode()).digest() for name in names)
    return np.array([int.from_bytes(digest[:8]) for digest in digests], dtype=np.uint64)


def share_by_name(names: list[str], share: float, seed: int) -> np.ndarray:
    """(N,) bool: about this share of the names."""
    return drawn_by_name(names, seed) < share * 2**64
