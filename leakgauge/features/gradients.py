"""Busyness by scale: first differences of the planes, each scale half the size of the last."""

import numpy as np

from leakgauge.features.colour import PLANES

FLAT = (0.5, 1.5, 3, 5, 8, 12, 18, 26, 38, 56)  # grey levels
QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9, 0.99)


def describe(planes: np.ndarray) -> dict[str, np.ndarray]:
    """`gradient_<x|y>_<plane>_<scale>` and `laplacian_<plane>`: log energies; `sparse_<plane>_<scale>`: log ratio of
    mean size to root mean square; `gradient_q<percent>`: log quantiles of luma; `flat_<plane>_<levels>`: the share
    of positions where the gradient is at most so many grey levels.
    """
    columns: dict[str, np.ndarray] = {}
    for p, plane in enumerate(PLANES[: planes.shape[1]]):
        image, scale = planes[:, p], 1
        columns[f"laplacian_{plane}"] = log_energy(_laplacian(image))
        while min(image.shape[1:]) >= 2:
            across, down = np.diff(image, axis=2), np.diff(image, axis=1)
            columns[f"gradient_x_{plane}_{scale}"] = log_energy(across)
            columns[f"gradient_y_{plane}_{scale}"] = log_energy(down)
            size = _sizes(image)
            columns[f"sparse_{plane}_{scale}"] = np.log(size.mean(1) + 0.1) - np.log((size**2).mean(1) + 0.01) / 2
            image, scale = halved(image), 2 * scale
        sizes = _sizes(planes[:, p])
        columns |= {f"flat_{plane}_{bound:g}": (sizes <= bound).mean(1) for bound in FLAT}
    quantiles = np.quantile(_sizes(planes[:, 0]), QUANTILES, axis=1)
    columns |= {f"gradient_q{100 * q:.0f}": np.log(v + 0.5) for q, v in zip(QUANTILES, quantiles, strict=True)}
    return columns


def _sizes(image: np.ndarray) -> np.ndarray:
    """The gradient's length at every position.  (N, H, W) -> (N, (H - 1) (W - 1))."""
    across, down = np.diff(image, axis=2)[:, :-1], np.diff(image, axis=1)[:, :, :-1]
    return np.hypot(across, down).reshape(len(image), -1)


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
