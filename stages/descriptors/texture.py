"""How busyness is spread over the image: deviations within small windows."""

import numpy as np

from stages.descriptors.colour import PLANES

WINDOWS = (2, 4, 8)
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
CELLS = 4  # of the grid, a side


def describe(planes: np.ndarray) -> dict[str, np.ndarray]:
    """`window_<size>_<mean|q..>`: mean and quantiles over windows of the log deviation of luma within each;
    `window_<size>_centre`: how much busier the middle of the image is than its border.  `cell_<row>_<column>_<plane>`:
    the log deviation within a cell of a grid over the image and the same cell of its mirror image, on average.
    """
    luma = planes[:, 0]
    columns: dict[str, np.ndarray] = {}
    for size in WINDOWS:
        rows, across = (n // size for n in luma.shape[1:])
        if min(rows, across) < 1:
            continue
        windows = luma[:, : rows * size, : across * size].reshape(len(luma), rows, size, across, size)
        spread = np.log(windows.std(axis=(2, 4)) + 0.5)  # (N, rows, across)
        flat = spread.reshape(len(luma), -1)
        columns[f"window_{size}_mean"] = flat.mean(1)
        if flat.shape[1] > 1:
            for level, value in zip(QUANTILES, np.quantile(flat, QUANTILES, axis=1), strict=True):
                columns[f"window_{size}_q{100 * level:.0f}"] = value
        if min(rows, across) >= 4:
            middle = spread[:, rows // 4 : -(rows // 4), across // 4 : -(across // 4)].mean((1, 2))
            columns[f"window_{size}_centre"] = middle - flat.mean(1)
    if min(luma.shape[1:]) >= 2 * CELLS:
        columns |= _grid(planes)
    return columns


def _grid(planes: np.ndarray) -> dict[str, np.ndarray]:
    spread = np.stack(
        [
            np.stack([np.log(cell.std(axis=(2, 3)) + 0.5) for cell in np.array_split(row, CELLS, axis=3)], axis=-1)
            for row in np.array_split(planes, CELLS, axis=2)
        ],
        axis=-2,
    )  # (N, P, CELLS, CELLS)
    spread = (spread + spread[..., ::-1]) / 2
    return {
        f"cell_{row}_{column}_{plane}": spread[:, p, row, column]
        for p, plane in enumerate(PLANES[: planes.shape[1]])
        for row in range(CELLS)
        for column in range(CELLS // 2)
    }
