"""How well a model denoises: its training loss on images of one role, at the timesteps where a view takes it."""

import numpy as np

from leakgauge.bags import Scored


def denoising_loss(images: Scored) -> float:
    """Mean squared error of the predicted noise, a pixel, averaged over the naive-loss timesteps and the images."""
    losses = np.stack([values for name, values in images.log_scores.items() if name.startswith("loss_t")])  # (T, N)
    pixels = np.prod(images.inputs.images.shape[1:])
    return float(np.exp(losses).mean() / pixels)
