"""How much of an image is new at each pixel: what its channels and neighbouring pixels do not tell of each other.

A denoiser gets for nothing what neighbours and other channels foretell; the small eigenvalues are what it must know.
"""

import numpy as np

from leakgauge.features.gradients import halved

PAIRS = ((0, 1), (0, 2), (1, 2))  # of channels
PATCHES = {1: 3, 2: 2, 4: 2}  # scale -> the side of a patch


def describe(pixels: np.ndarray) -> dict[str, np.ndarray]:
    """`patch_<scale>_<rank>`: log eigenvalues of the covariance of 3x3 patches (2x2 in the image made smaller), all
    channels in one, from the smallest.

    In colour also `channels_<x|y>_<a><b>_<scale>`: correlation of two channels' differences; `spectrum_<x|y|pixels>_
    <scale>_<rank>`: log eigenvalues of the channels' covariance.  pixels : (N, C, H, W) float32 in 0..255.
    """
    columns: dict[str, np.ndarray] = {}
    level = pixels
    for scale, side in PATCHES.items():
        if min(level.shape[2:]) < 2:
            break
        if min(level.shape[2:]) > side:  # one patch has no covariance
            columns |= _spectrum(f"patch_{scale}", _patches(level, side))
        if pixels.shape[1] == 3:
            columns |= _channels(level, scale)
        level = np.stack([halved(level[:, c]) for c in range(level.shape[1])], axis=1)
    return columns


def _channels(level: np.ndarray, scale: int) -> dict[str, np.ndarray]:
    columns: dict[str, np.ndarray] = {}
    values = {"x": np.diff(level, axis=3), "y": np.diff(level, axis=2)}
    for direction, differences in values.items():
        for a, b in PAIRS:
            columns[f"channels_{direction}_{a}{b}_{scale}"] = _correlation(differences[:, a], differences[:, b])
    values["pixels"] = level - level.mean(axis=(2, 3), keepdims=True)
    for what, of_channels in values.items():
        columns |= _spectrum(f"spectrum_{what}_{scale}", of_channels.reshape(len(level), 3, -1))
    return columns


def _patches(pixels: np.ndarray, side: int) -> np.ndarray:
    """Every patch of the image, without their mean.  Returns (N, C side side, positions)."""
    _, channels, height, width = pixels.shape
    shifted = [
        pixels[:, c, i : height - side + 1 + i, j : width - side + 1 + j].reshape(len(pixels), -1)
        for c in range(channels)
        for i in range(side)
        for j in range(side)
    ]
    patches = np.stack(shifted, axis=1)
    return patches - patches.mean(axis=2, keepdims=True)


def _spectrum(name: str, values: np.ndarray) -> dict[str, np.ndarray]:
    """Log eigenvalues of the second moments of K values over M positions.  values : (N, K, M)."""
    moments = values @ values.transpose(0, 2, 1) / values.shape[2]  # (N, K, K)
    logs = np.log(np.maximum(np.linalg.eigvalsh(moments), 0) + 0.05)
    return {f"{name}_{rank}": logs[:, rank] for rank in range(values.shape[1])}


def _correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Of each image's two fields, without their means.  a, b : (N, H, W).  Returns (N,)."""
    a, b = a.reshape(len(a), -1), b.reshape(len(b), -1)
    return (a * b).mean(1) / np.sqrt((a * a).mean(1) * (b * b).mean(1) + 1)
