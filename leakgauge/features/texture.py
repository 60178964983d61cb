"""How busyness is spread over the image: deviations within small windows."""

import numpy as np

from leakgauge.features.colour import PLANES

WINDOWS = (2, 4, 8)
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
TOGETHER = ((0, 1), (0, 2), (1, 2))  # planes
LEFT = (0.1, 0.5, 0.9)  # quantiles of what luma does not tell
CELLS = 4  # of the grid, a side


def describe(planes: np.ndarray) -> dict[str, np.ndarray]:
    """`window_<size>_<mean|q..>`: mean and quantiles over windows of the log deviation of luma within each;
    `window_<size>_centre`: how much busier the middle of the image is than its border.  `cell_<row>_<column>_<plane>`:
    the log deviation within a cell of a grid over the image and the same cell of its mirror image, on average.

    In colour also `window_<size>_<plane>_<plane>`: the correlation over windows of two planes' log deviations, and
    `window_<size>_<plane>_<explained|left|left_q..>`: log variance of chroma within windows that luma explains or not.
    """
    luma = planes[:, 0]
    columns: dict[str, np.ndarray] = {}
    for size in WINDOWS:
        if min(luma.shape[1:]) < size:
            continue
        windows = _windows(planes, size)  # (N, P, rows, across, size size)
        spread = np.log(windows.std(axis=-1) + 0.5)  # (N, P, rows, across)
        columns |= _busy(f"window_{size}", spread[:, 0])
        if planes.shape[1] == 3:
            columns |= _together(f"window_{size}", spread) | _left(f"window_{size}", windows)
    if min(luma.shape[1:]) >= 2 * CELLS:
        columns |= _grid(planes)
    return columns


def _windows(planes: np.ndarray, size: int) -> np.ndarray:
    rows, across = (n // size for n in planes.shape[2:])
    cut = planes[..., : rows * size, : across * size].reshape(*planes.shape[:2], rows, size, across, size)
    return cut.swapaxes(3, 4).reshape(*planes.shape[:2], rows, across, size * size)


def _busy(name: str, spread: np.ndarray) -> dict[str, np.ndarray]:
    """How busy luma's windows are.  spread : (N, rows, across)."""
    flat = spread.reshape(len(spread), -1)
    columns = {f"{name}_mean": flat.mean(1)}
    if flat.shape[1] > 1:
        for level, value in zip(QUANTILES, np.quantile(flat, QUANTILES, axis=1), strict=True):
            columns[f"{name}_q{100 * level:.0f}"] = value
    rows, across = spread.shape[1:]
    if min(rows, across) >= 4:
        middle = spread[:, rows // 4 : -(rows // 4), across // 4 : -(across // 4)].mean((1, 2))
        columns[f"{name}_centre"] = middle - flat.mean(1)
    return columns


def _together(name: str, spread: np.ndarray) -> dict[str, np.ndarray]:
    """Whether planes are busy at the same places.  spread : (N, 3, rows, across)."""
    flat = spread.reshape(*spread.shape[:2], -1)
    flat = flat - flat.mean(-1, keepdims=True)
    deviation = flat.std(-1)
    return {
        f"{name}_{PLANES[a]}_{PLANES[b]}": (flat[:, a] * flat[:, b]).mean(-1)
        / (deviation[:, a] * deviation[:, b] + 0.1)
        for a, b in TOGETHER
    }


def _left(name: str, windows: np.ndarray) -> dict[str, np.ndarray]:
    """Chroma as a linear function of luma within each window: what that explains, and what is left.

    windows : (N, 3, rows, across, pixels).
    """
    values = windows.reshape(*windows.shape[:2], -1, windows.shape[-1])
    values = values - values.mean(-1, keepdims=True)  # (N, 3, windows, pixels)
    luma = values[:, 0]
    columns: dict[str, np.ndarray] = {}
    for p, plane in enumerate(PLANES[1:], start=1):
        explained = (values[:, p] * luma).mean(-1) ** 2 / ((luma * luma).mean(-1) + 1)  # (N, windows)
        left = np.maximum((values[:, p] ** 2).mean(-1) - explained, 0)
        logs = np.log(left + 0.5)
        columns[f"{name}_{plane}_explained"] = np.log(explained + 0.5).mean(1)
        columns[f"{name}_{plane}_left"] = logs.mean(1)
        for level, value in zip(LEFT, np.quantile(logs, LEFT, axis=1), strict=True):
            columns[f"{name}_{plane}_left_q{100 * level:.0f}"] = value
    return columns


def _grid(planes: np.ndarray) -> dict[str, np.ndarray]:
    spread = np.stack(  # (N, P, CELLS, CELLS)
        [
            np.stack([np.log(cell.std(axis=(2, 3)) + 0.5) for cell in np.array_split(row, CELLS, axis=3)], axis=-1)
            for row in np.array_split(planes, CELLS, axis=2)
        ],
        axis=-2,
    )
    spread = (spread + spread[..., ::-1]) / 2
    return {
        f"cell_{row}_{column}_{plane}": spread[:, p, row, column]
        for p, plane in enumerate(PLANES[: planes.shape[1]])
        for row in range(CELLS)
        for column in range(CELLS // 2)
    }
