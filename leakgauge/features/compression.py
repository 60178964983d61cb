"""How many bits an image costs: as DEFLATE packs it, and by the entropy of what a predictor leaves over."""

import zlib

import numpy as np

from leakgauge.features.colour import PLANES

LEVELS = 128  # bins of the residual's histogram, each two grey levels wide


def describe(planes: np.ndarray) -> dict[str, np.ndarray]:
    """`compressed_bits`: bits a pixel of the planes' prediction residuals after DEFLATE; `entropy_<plane>`: the
    zeroth-order entropy of the residuals, in bits a pixel.  The predictor is the median edge detector of JPEG-LS.
    """
    levels = np.rint(planes).astype(np.int16)
    residual = _residual(levels)  # (N, P, H, W) int16
    bins = np.clip(residual // 2 + LEVELS // 2, 0, LEVELS - 1)
    columns = {}
    for p, plane in enumerate(PLANES[: planes.shape[1]]):
        columns[f"entropy_{plane}"] = _entropy(bins[:, p].reshape(len(planes), -1))
    pixels = planes.shape[2] * planes.shape[3]
    lengths = [len(zlib.compress(image.tobytes(), 6)) for image in residual.astype(np.uint8)]
    columns["compressed_bits"] = 8 * np.array(lengths) / pixels
    return columns


def _residual(levels: np.ndarray) -> np.ndarray:
    """Each pixel less its prediction from the left, upper and upper left neighbours; in the first row or column from
    the one neighbour there is; the very first costs nothing.  Weinberger et al., 2000.
    """
    levels = levels - levels[..., :1, :1]
    padded = np.pad(levels, ((0, 0), (0, 0), (1, 0), (1, 0)))
    left, above, corner = padded[..., 1:, :-1], padded[..., :-1, 1:], padded[..., :-1, :-1]
    lowest, highest = np.minimum(left, above), np.maximum(left, above)
    return levels - np.clip(left + above - corner, lowest, highest)


def _entropy(bins: np.ndarray) -> np.ndarray:
    """Bits a value.  bins : (N, M) in 0..LEVELS - 1."""
    offset = np.arange(len(bins))[:, None] * LEVELS
    counts = np.bincount((bins + offset).ravel(), minlength=len(bins) * LEVELS).reshape(len(bins), LEVELS)
    share = counts / bins.shape[1]
    return -(share * np.log2(np.maximum(share, 1e-12))).sum(1)
