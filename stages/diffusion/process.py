"""The noise process: x_t = alpha_t x_0 + sigma_t epsilon, and the deterministic moves along it.

Song et al., "Denoising Diffusion Implicit Models", ICLR 2021, Eq. 12 with zero variance.
"""

from dataclasses import dataclass

import torch
from diffusers import DDPMScheduler
from torch import Tensor


@dataclass(frozen=True)
class NoiseProcess:
    """alpha, sigma : (T,) float64, the signal and noise level at each timestep."""

    alpha: Tensor
    sigma: Tensor

    @classmethod
    def from_scheduler(cls, scheduler: DDPMScheduler) -> "NoiseProcess":
        """Variance-preserving: alpha_t^2 + sigma_t^2 = 1.  The product is taken in float64, since sigma at the
        first timesteps is the small difference of two numbers near one."""
        alphas_cumprod = torch.cumprod(1.0 - scheduler.betas.double(), dim=0)
        return cls(alphas_cumprod.sqrt(), (1.0 - alphas_cumprod).sqrt())

    @property
    def num_train_timesteps(self) -> int:
        return len(self.alpha)

    def add_noise(self, x0: Tensor, epsilon: Tensor, t: int) -> Tensor:
        """x_t from x_0 and epsilon.  Any shape; float64 coefficients on float32 tensors."""
        return self.alpha[t].item() * x0 + self.sigma[t].item() * epsilon

    def ddim(self, x: Tensor, epsilon: Tensor, start: int, end: int) -> Tensor:
        """The DDIM move of x from timestep `start` to `end`, up or down, along `epsilon` = epsilon(x, start)."""
        x0 = (x - self.sigma[start].item() * epsilon) / self.alpha[start].item()
        return self.add_noise(x0, epsilon, end)
