"""How much of an image is new at each pixel: what its channels and neighbouring pixels do not tell of each other.

A denoiser gets for nothing what neighbours and other channels foretell; the small eigenvalues are what it must know.
"""

import numpy as np

from stages.descriptors.gradients import halved

SCALES = (1, 2, 4)
PAIRS = ((0, 1), (0, 2), (1, 2))  # of channels
PATCH = 3


def describe(pixels: np.ndarray) -> dict[str, np.ndarray]:
    """`patch_<rank>`: log eigenvalues of the covariance of 3x3 patches, all channels in one, from the smallest.

    In colour also `channels_<x|y>_<a><b>_<scale>`: correlation of two channels' differences; `spectrum_<x|y|pixels>_
    <scale>_<rank>`: log eigenvalues of the channels' covariance.  pixels : (N, C, H, W) float32 in 0..255.
    """
    columns = _patches(pixels) if min(pixels.shape[2:]) >= PATCH else {}
    if pixels.shape[1] != 3:
        return columns
    level = pixels
    for scale in SCALES:
        if min(level.shape[2:]) < 2:
            break
        values = {"x": np.diff(level, axis=3), "y": np.diff(level, axis=2)}
        for direction, differences in values.items():
            for a, b in PAIRS:
                name = f"channels_{direction}_{a}{b}_{scale}"
                columns[name] = _correlation(differences[:, a], differences[:, b])
        values["pixels"] = level - level.mean(axis=(2, 3), keepdims=True)
        for what, of_channels in values.items():
            columns |= _spectrum(f"spectrum_{what}_{scale}", of_channels.reshape(len(level), 3, -1))
        level = np.stack([halved(level[:, c]) for c in range(3)], axis=1)
    return columns


def _patches(pixels: np.ndarray) -> dict[str, np.ndarray]:
    _, _, height, width = pixels.shape
    shifted = [
        pixels[:, c, i : height - PATCH + 1 + i, j : width - PATCH + 1 + j].reshape(len(pixels), -1)
        for c in range(pixels.shape[1])
        for i in range(PATCH)
        for j in range(PATCH)
    ]
    patches = np.stack(shifted, axis=1)  # (N, values of a patch, positions)
    return _spectrum("patch", patches - patches.mean(axis=2, keepdims=True))


def _spectrum(name: str, values: np.ndarray) -> dict[str, np.ndarray]:
    """Log eigenvalues of the second moments of K values over M positions.  values : (N, K, M)."""
    moments = values @ values.transpose(0, 2, 1) / values.shape[2]  # (N, K, K)
    logs = np.log(np.maximum(np.linalg.eigvalsh(moments), 0) + 0.05)
    return {f"{name}_{rank}": logs[:, rank] for rank in range(values.shape[1])}


def _correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Of each image's two fields, without their means.  a, b : (N, H, W).  Returns (N,)."""
    a, b = a.reshape(len(a), -1), b.reshape(len(b), -1)
    return (a * b).mean(1) / np.sqrt((a * a).mean(1) * (b * b).mean(1) + 1)
