"""Energy by spatial frequency: rings of the whole image's DCT, and of 4x4 blocks as a denoiser would see them."""

import numpy as np
from scipy.fft import dctn

from stages.descriptors.colour import PLANES

RINGS = 12  # of the whole image's DCT, evenly spaced from the mean to the highest frequency
BLOCK = 4
NOISE = (2.0, 6.0, 12.0, 24.0, 48.0)  # grey levels


def describe(planes: np.ndarray) -> dict[str, np.ndarray]:
    """`dct_<plane>_<ring>`: log energy of a ring.  `kept_<plane>_<band>_<noise>`: the mean over blocks of
    c^2 / (c^2 + noise^2), the share of a coefficient c that a Wiener filter keeps under noise of so many grey levels,
    in the low, middle and high band of block frequencies.
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
    count, height, width = image.shape
    rows, columns = height // BLOCK, width // BLOCK
    blocks = image[:, : rows * BLOCK, : columns * BLOCK].reshape(count, rows, BLOCK, columns, BLOCK)
    energy = dctn(blocks, axes=(2, 4), norm="ortho") ** 2  # (N, rows, BLOCK, columns, BLOCK)
    down, across = np.meshgrid(np.arange(BLOCK), np.arange(BLOCK), indexing="ij")
    order = down + across  # 0: the block's mean
    found = {}
    for band, (low, high) in {"low": (1, 1), "mid": (2, 3), "high": (4, 6)}.items():
        of_band = energy.transpose(0, 1, 3, 2, 4)[..., (order >= low) & (order <= high)].reshape(count, -1)
        for noise in NOISE:
            found[f"kept_{plane}_{band}_{noise:g}"] = (of_band / (of_band + noise**2)).mean(1)
    return found
