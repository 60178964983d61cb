"""How good a model's samples are, where images are too small for the networks that judge large ones."""

import numpy as np


def frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Squared distance of the Gaussians that are fitted to two sets of images' pixels.  0 is best.

    Heusel et al., "GANs Trained by a Two Time-Scale Update Rule", NeurIPS 2017, Eq. 6, on pixels in [-1, 1] instead of
    Inception's features, which say nothing of 8x8 images.  first, second : (N, ...) uint8.
    """
    x, y = (images.reshape(len(images), -1) / 127.5 - 1.0 for images in (first, second))
    means = ((x.mean(axis=0) - y.mean(axis=0)) ** 2).sum()
    of_x, of_y = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    values, vectors = np.linalg.eigh(of_x)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T  # of_x^(1/2): pixels that never vary make it singular
    overlap = np.sqrt(np.linalg.eigvalsh(root @ of_y @ root).clip(0)).sum()  # tr (of_x of_y)^(1/2)
    return float(means + np.trace(of_x) + np.trace(of_y) - 2 * overlap)
