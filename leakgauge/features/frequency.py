"""Energy by spatial frequency: rings of the whole image's DCT, and of 4x4 blocks as a denoiser would see them."""

import numpy as np
from scipy.fft import dctn

from leakgauge.features.colour import PLANES

RINGS = 12  # of the whole image's DCT, evenly spaced from the mean to the highest frequency
BLOCK = 4
NOISE = (1, 2, 4, 8, 16, 32, 64)  # grey levels


def describe(planes: np.ndarray) -> dict[str, np.ndarray]:
    """`dct_<plane>_<ring>`: log energy of a ring.  `kept_<plane>_<order>_<noise>`: the mean over blocks of
    c^2 / (c^2 + noise^2), the share of a coefficient c that a Wiener filter keeps under noise of so many grey levels,
    by the order (row + column) of the block frequency; `size_<plane>_<order>`: the mean of log(1 + |c|).
    """
    columns: dict[str, np.ndarray] = {}
    for p, plane in enumerate(PLANES[: planes.shape[1]]):
        columns |= _rings(planes[:, p], plane)
        if min(planes.shape[2:]) >= BLOCK:
            columns |= _blocks(planes[:, p], plane)
    return columns


def _rings(image: np.ndarray, plane: str) -> dict[str, np.ndarray]:
    energy = (dctn(image, axes=(1, 2), norm="ortho") ** 2).reshape(len(image), -1)
    rows, columns = np.meshgrid(*(np.arange(n) / n for n in image.shape[1:]), indexing="ij")
    ring = np.minimum((np.hypot(rows, columns) / np.sqrt(2) * RINGS).astype(int), RINGS - 1).ravel()  # (H W,)
    return {
        f"dct_{plane}_{number}": np.log(energy[:, ring == number].mean(1) + 0.01)
        for number in range(RINGS)
        if (ring == number).any()
    }


def _blocks(image: np.ndarray, plane: str) -> dict[str, np.ndarray]:
    energy = np.concatenate([_block_energies(image[:, shift:, shift:]) for shift in (0, BLOCK // 2)], axis=1)
    order = np.add.outer(np.arange(BLOCK), np.arange(BLOCK)).ravel()  # 0: the block's mean
    found = {}
    for number in range(1, 2 * BLOCK - 1):
        of_order = energy[..., order == number].reshape(len(image), -1)
        for noise in NOISE:
            found[f"kept_{plane}_{number}_{noise}"] = (of_order / (of_order + noise**2)).mean(1)
        found[f"size_{plane}_{number}"] = np.log1p(np.sqrt(of_order)).mean(1)
    return found


def _block_energies(image: np.ndarray) -> np.ndarray:
    """Squared DCT coefficients of whole blocks, (N, blocks, BLOCK * BLOCK); pixels that fill none are left out."""
    count, height, width = image.shape
    rows, columns = height // BLOCK, width // BLOCK
    blocks = image[:, : rows * BLOCK, : columns * BLOCK].reshape(count, rows, BLOCK, columns, BLOCK)
    coefficients = dctn(blocks, axes=(2, 4), norm="ortho").transpose(0, 1, 3, 2, 4)
    return coefficients.reshape(count, rows * columns, BLOCK * BLOCK) ** 2
