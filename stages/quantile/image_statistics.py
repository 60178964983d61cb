"""What a boosted tree can know of an image: how bright, how busy, at which scales."""

import numpy as np
from scipy.fft import dctn

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
BANDS = 8  # of DCT frequency, evenly spaced from the mean to the highest


def image_statistics(images: np.ndarray) -> np.ndarray:
    """Statistics of each image.  images : (N, C, H, W) uint8.  Returns (N, F) float32.

    Per channel: mean, deviation and grey-level quantiles.  Of the luma (the mean over channels): log gradient
    energy at scales 1, 2, 4, ... (each half the size of the last), log energy of the Laplacian, log energy in
    `BANDS` bands of DCT frequency, the share of flat neighbours, and the shares of black and white pixels.
    """
    pixels = images.astype(np.float32) / 255  # (N, C, H, W)
    columns: dict[str, np.ndarray] = {}
    for c in range(pixels.shape[1]):
        channel = pixels[:, c].reshape(len(pixels), -1)
        columns[f"mean_{c}"], columns[f"deviation_{c}"] = channel.mean(1), channel.std(1)
        for level, value in zip(QUANTILES, np.quantile(channel, QUANTILES, axis=1), strict=True):
            columns[f"quantile_{level}_{c}"] = value
    luma = pixels.mean(1)  # (N, H, W)
    columns |= _gradients(luma) | _dct_bands(luma)
    columns["flat"] = (np.abs(np.diff(luma, axis=2)) < 1 / 255).mean((1, 2))
    columns["black"], columns["white"] = (luma <= 1 / 255).mean((1, 2)), (luma >= 254 / 255).mean((1, 2))
    return np.stack(list(columns.values()), axis=1).astype(np.float32)


def _gradients(luma: np.ndarray) -> dict[str, np.ndarray]:
    """Log energies of first differences at each scale, and of the Laplacian at the first.  luma : (N, H, W)."""
    columns = {}
    inner = luma[:, 1:-1, 1:-1]
    around = luma[:, :-2, 1:-1] + luma[:, 2:, 1:-1] + luma[:, 1:-1, :-2] + luma[:, 1:-1, 2:]
    columns["laplacian"] = _log_energy(around - 4 * inner)
    scale = 1
    while min(luma.shape[1:]) >= 2:
        columns[f"gradient_x{scale}"] = _log_energy(np.diff(luma, axis=2))
        columns[f"gradient_y{scale}"] = _log_energy(np.diff(luma, axis=1))
        luma, scale = _halved(luma), 2 * scale
    return columns


def _dct_bands(luma: np.ndarray) -> dict[str, np.ndarray]:
    """Log energy in rings of DCT frequency.  luma : (N, H, W)."""
    energy = dctn(luma, axes=(1, 2), norm="ortho") ** 2
    rows, columns = np.meshgrid(*(np.arange(n) / n for n in luma.shape[1:]), indexing="ij")
    ring = np.minimum((np.hypot(rows, columns) / np.sqrt(2) * BANDS).astype(int), BANDS - 1)  # (H, W)
    return {f"dct_{band}": np.log(energy[:, ring == band].sum(1) + 1e-8) for band in range(BANDS)}


def _log_energy(differences: np.ndarray) -> np.ndarray:
    return np.log((differences**2).mean((1, 2)) + 1e-8)


def _halved(luma: np.ndarray) -> np.ndarray:
    """Means of 2x2 blocks; an odd last row or column is left out."""
    height, width = (n // 2 * 2 for n in luma.shape[1:])
    luma = luma[:, :height, :width]
    return (luma[:, ::2, ::2] + luma[:, 1::2, ::2] + luma[:, ::2, 1::2] + luma[:, 1::2, 1::2]) / 4
