"""What can be said of an image in numbers: named features, for learners that take a table and for grouping.

One family a file, registered here.  Any size from 2x2 up, grey or RGB.
"""

from collections.abc import Callable

import numpy as np

from leakgauge.features import colour, compression, frequency, gradients, structure, texture

Family = Callable[[np.ndarray], dict[str, np.ndarray]]  # planes (N, P, H, W) float32 -> name -> (N,)
FAMILIES: tuple[Family, ...] = (
    colour.describe,
    gradients.describe,
    frequency.describe,
    texture.describe,
    compression.describe,
)
CHUNK = 512  # images to be described at a time: few enough for the processor's cache


def named_features(images: np.ndarray) -> dict[str, np.ndarray]:
    """Every statistic by name, each (N,) float32 and finite.  images : (N, C, H, W) uint8, C = 1 or 3."""
    planes = colour.luma_and_chroma(images)
    columns = {name: values for family in FAMILIES for name, values in family(planes).items()}
    columns |= structure.describe(images.astype(np.float32))
    return {name: values.astype(np.float32) for name, values in columns.items()}


def image_features(images: np.ndarray) -> np.ndarray:
    """All of them as one array, (N, F) float32.  images : (N, C, H, W) uint8, C = 1 or 3."""
    chunks = [named_features(images[start : start + CHUNK]) for start in range(0, len(images), CHUNK)]
    return np.concatenate([np.stack([*columns.values()], axis=1) for columns in chunks])
