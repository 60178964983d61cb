"""Busyness by scale: first differences of the planes, each scale half the size of the last."""

import numpy as np

from stages.descriptors.colour import PLANES

FLAT = (0.5, 2, 4, 8, 16, 32)  # grey levels
QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9, 0.99)


def describe(planes: np.ndarray) -> dict[str, np.ndarray]:
    """`gradient_<x|y>_<plane>_<scale>` and `laplacian_<plane>`: log energies; `sparse_<plane>_<scale>`: log ratio of
    mean size to root mean square; `gradient_q<percent>`: log quantiles of luma; `flat_<levels>`: the share of
    neighbours in luma that differ by at most so many grey levels.
    """
    columns: dict[str, np.ndarray] = {}
    for p, plane in enumerate(PLANES[: planes.shape[1]]):
        image, scale = planes[:, p], 1
        columns[f"laplacian_{plane}"] = log_energy(_laplacian(image))
        while min(image.shape[1:]) >= 2:
            across, down = np.diff(image, axis=2), np.diff(image, axis=1)
            columns[f"gradient_x_{plane}_{scale}"] = log_energy(across)
            columns[f"gradient_y_{plane}_{scale}"] = log_energy(down)
            size = np.hypot(across[:, :-1], down[:, :, :-1]).reshape(len(image), -1)
            columns[f"sparse_{plane}_{scale}"] = np.log(size.mean(1) + 0.1) - np.log((size**2).mean(1) + 0.01) / 2
            image, scale = halved(image), 2 * scale
    luma = planes[:, 0]
    sizes = np.hypot(np.diff(luma, axis=2)[:, :-1], np.diff(luma, axis=1)[:, :, :-1]).reshape(len(luma), -1)
    for level, value in zip(QUANTILES, np.quantile(sizes, QUANTILES, axis=1), strict=True):
        columns[f"gradient_q{100 * level:.0f}"] = np.log(value + 0.5)
    for bound in FLAT:
        columns[f"flat_{bound:g}"] = (sizes <= bound).mean(1)
    return columns


def log_energy(values: np.ndarray) -> np.ndarray:
    """Log mean square of each image's values, with a floor of a tenth of a grey level.  (N, ...) -> (N,)."""
    return np.log((values.reshape(len(values), -1) ** 2).mean(1) + 0.01)


def halved(image: np.ndarray) -> np.ndarray:
    """Means of 2x2 blocks; an odd last row or column is left out.  (N, H, W) -> (N, H // 2, W // 2)."""
    height, width = (n // 2 * 2 for n in image.shape[1:])
    image = image[:, :height, :width]
    return (image[:, ::2, ::2] + image[:, 1::2, ::2] + image[:, ::2, 1::2] + image[:, 1::2, 1::2]) / 4


def _laplacian(image: np.ndarray) -> np.ndarray:
    padded = np.pad(image, ((0, 0), (1, 1), (1, 1)), mode="edge")
    around = padded[:, :-2, 1:-1] + padded[:, 2:, 1:-1] + padded[:, 1:-1, :-2] + padded[:, 1:-1, 2:]
    return around - 4 * image
