"""PIA and PIAN: how far the noise predicted at t is from the noise predicted at 0 that made x_t.

Kong et al., "An Efficient Membership Inference Attack for the Diffusion Model by Proximal Initialization",
ICLR 2024, with the 4-norm of its code.
"""

import math

from torch import Tensor

from leakgauge.diffusion.denoiser import Denoiser


def pia(target: Denoiser, x0: Tensor, e0: Tensor, t: int) -> Tensor:
    """sum |e0 - epsilon(x_t, t)|^4 with x_t made from x0 and e0.

    x0 : (B, C, H, W) float32 in [-1, 1].  e0 : epsilon(x0, 0), same shape.  Returns (B,) float64.
    Costs one network call beside e0.
    """
    predicted = target.epsilon(target.process.add_noise(x0, e0, t), t)
    return (e0 - predicted).double().pow(4).flatten(1).sum(1)


def pian(target: Denoiser, x0: Tensor, e0: Tensor, t: int) -> Tensor:
    """PIA from a normalised e0: rescaled so that its mean magnitude is that of Gaussian noise, sqrt(2 / pi)."""
    mean = e0.abs().mean(dim=(1, 2, 3), keepdim=True)  # (B, 1, 1, 1)
    return pia(target, x0, e0 / mean * math.sqrt(2 / math.pi), t)
