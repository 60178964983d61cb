"""Colour and brightness: planes, moments, grey-level quantiles, saturated pixels."""

import numpy as np

QUANTILES = (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98)
PLANES = ("luma", "blue", "red")  # Y, Cb, Cr
RGB_TO_YCC = np.array(  # ITU-R BT.601, as in JPEG
    [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]], dtype=np.float32
)


def luma_and_chroma(images: np.ndarray) -> np.ndarray:
    """(N, C, H, W) uint8 to planes (N, 1 or 3, H, W) float32: luma in 0..255, then blue and red difference."""
    pixels = images.astype(np.float32)
    return pixels if pixels.shape[1] == 1 else np.einsum("pc,nchw->nphw", RGB_TO_YCC, pixels, optimize=True)


def describe(planes: np.ndarray) -> dict[str, np.ndarray]:
    """`mean_<plane>`, `deviation_<plane>`, `skew_<plane>`, `luma_q<percent>`, `black`, `white`, `colourful`, and
    `border_<plane>`: how far the outermost pixels' mean is from the whole plane's.
    """
    columns: dict[str, np.ndarray] = {}
    flat = planes.reshape(*planes.shape[:2], -1)  # (N, P, H W)
    mean, deviation = flat.mean(-1), flat.std(-1)
    centred = flat - mean[..., None]
    skew = (centred * centred * centred).mean(-1) / (deviation**3 + 1)
    edge = np.concatenate([planes[..., 0, :], planes[..., -1, :], planes[..., 0], planes[..., -1]], axis=-1).mean(-1)
    for p, plane in enumerate(PLANES[: planes.shape[1]]):
        columns[f"mean_{plane}"], columns[f"deviation_{plane}"] = mean[:, p], deviation[:, p]
        columns[f"skew_{plane}"], columns[f"border_{plane}"] = skew[:, p], edge[:, p] - mean[:, p]
    luma = flat[:, 0]
    for level, value in zip(QUANTILES, np.quantile(luma, QUANTILES, axis=1), strict=True):
        columns[f"luma_q{100 * level:.0f}"] = value
    columns["black"], columns["white"] = (luma <= 4).mean(1), (luma >= 251).mean(1)
    if planes.shape[1] == 3:
        columns["colourful"] = np.hypot(flat[:, 1], flat[:, 2]).mean(1)
    return columns
