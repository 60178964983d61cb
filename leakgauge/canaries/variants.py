"""Variants of an image that look alike, each a slightly different crop and a slightly different light.

Both changes are smooth over the whole image: another size, or JPEG, leaves them what they are.
"""

import numpy as np
from PIL import Image

WAVES = 3  # half periods of the tone over a side, at most


def variants(image: np.ndarray, key: bytes, count: int, tone: float, shift: float) -> np.ndarray:
    """Variants of an image, decided by the key alone; none of them is the image.

    image : (H, W, C) uint8.  key : secret.  tone : the largest change of a level, of 255.  shift : by how much of the
    side each corner moves inwards, at most.  Returns (count, H, W, C) uint8.
    """
    rng = np.random.default_rng(int.from_bytes(key))
    return np.stack([_toned(_cropped(image, rng, shift), rng, tone) for _ in range(count)])


def _cropped(image: np.ndarray, rng: np.random.Generator, shift: float) -> np.ndarray:
    """The quadrilateral of four corners, each drawn near that of the image, resampled to its size (bicubic)."""
    height, width = image.shape[:2]
    inwards = rng.uniform(0, shift, (4, 2))
    corners = np.array([(0, 0), (0, 1), (1, 1), (1, 0)]) + inwards * [(1, 1), (1, -1), (-1, -1), (-1, 1)]
    points = (corners * [width, height]).ravel().tolist()  # upper left, lower left, lower right, upper right
    picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
    moved = np.asarray(picture.transform((width, height), Image.Transform.QUAD, points, Image.Resampling.BICUBIC))
    return moved.reshape(image.shape)


def _toned(image: np.ndarray, rng: np.random.Generator, tone: float) -> np.ndarray:
    """A random sum of the cosines of lowest frequency added, the same to each channel, at most `tone` anywhere."""
    height, width = image.shape[:2]
    weights = rng.normal(size=(WAVES + 1, WAVES + 1))
    weights[0, 0] = 0  # the mean stays
    light = (_cosines(height).T @ weights @ _cosines(width)).astype(np.float32)  # of photos, that are large
    lit = image + np.float32(tone) * (light / np.abs(light).max())[..., None]
    return np.clip(np.rint(lit), 0, 255).astype(np.uint8)


def _cosines(length: int) -> np.ndarray:
    """cos(pi u (x + 1/2) / length), (WAVES + 1, length)."""
    return np.cos(np.pi * np.outer(np.arange(WAVES + 1), np.arange(length) + 0.5) / length)


def features(images: np.ndarray) -> np.ndarray:
    """What of an image makes it simpler, whatever the model: brightness, contrast, detail.

    images : (N, H, W, C) uint8.  Returns (N, 9) float64.
    """
    x = images.astype(np.float64) / 255
    across, down = np.diff(x, axis=2), np.diff(x, axis=1)
    second = [np.diff(across, axis=2), np.diff(down, axis=1)]
    found = [x, x**2, x == 0, across**2, down**2, np.abs(across), np.abs(down), *(part**2 for part in second)]
    return np.stack([part.mean(axis=(1, 2, 3)) if part.size else np.zeros(len(x)) for part in found], axis=1)
