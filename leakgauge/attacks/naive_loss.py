"""Naive loss: the training loss of an image at one timestep, for one draw of noise.

Matsumoto et al., "Membership Inference Attacks against Diffusion Models", IEEE S&P Workshops 2023.
"""

import hashlib

import numpy as np
import torch
from torch import Tensor

from leakgauge.diffusion.denoiser import Denoiser


def naive_loss(target: Denoiser, x0: Tensor, noise: Tensor, t: int) -> Tensor:
    """sum (noise - epsilon(x_t, t))^2 with x_t made from x0 and noise.

    x0, noise : (B, C, H, W) float32.  Returns (B,) float64.  Costs one network call.
    """
    predicted = target.epsilon(target.process.add_noise(x0, noise, t), t)
    return (noise - predicted).double().square().flatten(1).sum(1)


def image_noise(ids: list[str], shape: tuple[int, ...], t: int, seed: int, draw: int | None = None) -> Tensor:
    """Standard normal noise that belongs to (image_id, t, seed), whatever batch an image is in.

    draw : which of several that an attack takes of an image at t; None where it takes one.
    Returns (B, *shape) float32: the counter-based generator Philox, keyed by a hash.
    """
    counter = f"{seed}/{t}" if draw is None else f"{seed}/{t}/draw {draw}"
    draws = []
    for image_id in ids:
        key = hashlib.sha256(f"{counter}/{image_id}".encode()).digest()[:16]
        generator = np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))
        draws.append(generator.standard_normal(shape, dtype=np.float32))
    return torch.from_numpy(np.stack(draws))
