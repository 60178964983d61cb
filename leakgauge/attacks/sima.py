"""SimA: how much noise the target sees in the clean image.

Rao et al., "Score-based Membership Inference on Diffusion Models", arXiv 2509.25003: the norm of the predicted noise
at the un-noised image, with the 4-norm.
"""

from torch import Tensor

from leakgauge.diffusion.denoiser import Denoiser


def sima(target: Denoiser, x0: Tensor, t: int) -> Tensor:
    """sum epsilon(x0, t)^4.  x0 : (B, C, H, W) float32 in [-1, 1].  Returns (B,) float64.  One network call."""
    return target.epsilon(x0, t).double().pow(4).flatten(1).sum(1)
