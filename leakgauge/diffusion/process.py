"""The noise process, x_t = alpha_t x_0 + sigma_t eps, and what a network predicts of it.

What a network predicts, and epsilon from it.

Networks are trained to predict different things about x_t = alpha x_0 + sigma epsilon; each gives epsilon:

| the network predicts | F | epsilon | x_0 |
|---|---|---|---|
| epsilon | epsilon | F | (x_t - sigma F) / alpha |
| sample | x_0 | (x_t - alpha F) / sigma | F |
| v_prediction | alpha epsilon - sigma x_0 | sigma x_t + alpha F | alpha x_t - sigma F |
| score | -epsilon / sigma | -sigma F | x_t + sigma^2 F, for alpha = 1 |
| velocity | epsilon - x_0 | x_t + alpha F | x_t - sigma F, for alpha + sigma = 1 |
| edm | x_0, preconditioned | see `edm_prediction` | see `edm_prediction` |

Where alpha is 0, x_t holds nothing of x_0 and epsilon does not tell it; a network that predicts `sample`,
`v_prediction` or `velocity` still does.

Ho et al., NeurIPS 2020 (epsilon); Salimans and Ho, "Progressive Distillation", ICLR 2022, App. D (v); Song et al.,
"Score-Based Generative Modeling through SDEs", ICLR 2021 (score); Lipman et al., ICLR 2023 (velocity).

The noise process: x_t = alpha_t x_0 + sigma_t epsilon, and the deterministic moves along it.

A timestep is an index t = 0, ..., T - 1 of a grid from clean to noisy, T the scheduler's `num_train_timesteps`:

| process | alpha_t | sigma_t | time input of the network |
|---|---|---|---|
| variance preserving (DDPM, DDIM and kin) | sqrt(alphas_cumprod[t]) | sqrt(1 - alphas_cumprod[t]) | t |
| variance exploding (score SDE) | 1 | sigma_min (sigma_max / sigma_min)^(t / (T - 1)) | sigma_t |
| EDM | 1 | from sigma_min to sigma_max, evenly in sigma^(1 / rho) or in log(sigma) | log(sigma_t) / 4 |
| flow matching | 1 - sigma_t | (t + 1) / T, then shifted | T sigma_t; with `use_flow_sigmas` cut to a whole number |

Song et al., "Denoising Diffusion Implicit Models", ICLR 2021, Eq. 12 with zero variance: the move is the same in
every process, for it only solves the line above for x_0 and takes it elsewhere.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import (
    EDMDPMSolverMultistepScheduler,
    EDMEulerScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    FlowMatchLCMScheduler,
    SchedulerMixin,
    ScoreSdeVeScheduler,
)
from torch import Tensor

EDM = (EDMEulerScheduler, EDMDPMSolverMultistepScheduler)
FLOW = (FlowMatchEulerDiscreteScheduler, FlowMatchHeunDiscreteScheduler, FlowMatchLCMScheduler)

From = Callable[[Tensor, Tensor, float, float], Tensor]  # of x_t, F, alpha_t and sigma_t


@dataclass(frozen=True)
class Prediction:
    """epsilon : from what the network says.  x0 : likewise, for alpha = 0; None where it cannot be known.
    scale : of sigma, what x_t is multiplied by before the network sees it."""

    epsilon: From
    x0: From | None = None
    scale: Callable[[float], float] = lambda sigma: 1.0


def epsilon_from_sample(x: Tensor, sample: Tensor, alpha: float, sigma: float) -> Tensor:
    """epsilon = (x_t - alpha x_0) / sigma."""
    return (x - alpha * sample) / sigma


def epsilon_from_v(x: Tensor, v: Tensor, alpha: float, sigma: float) -> Tensor:
    """epsilon = sigma x_t + alpha v, since alpha^2 + sigma^2 = 1."""
    return sigma * x + alpha * v


def x0_from_v(x: Tensor, v: Tensor, alpha: float, sigma: float) -> Tensor:
    """x_0 = alpha x_t - sigma v."""
    return alpha * x - sigma * v


def epsilon_from_score(x: Tensor, score: Tensor, alpha: float, sigma: float) -> Tensor:
    """epsilon = -sigma grad log p(x_t)."""
    return -sigma * score


def epsilon_from_velocity(x: Tensor, velocity: Tensor, alpha: float, sigma: float) -> Tensor:
    """epsilon = x_t + alpha (epsilon - x_0), since alpha + sigma = 1."""
    return x + alpha * velocity


def x0_from_velocity(x: Tensor, velocity: Tensor, alpha: float, sigma: float) -> Tensor:
    """x_0 = x_t - sigma (epsilon - x_0)."""
    return x - sigma * velocity


PREDICTIONS = {
    "epsilon": Prediction(lambda x, epsilon, alpha, sigma: epsilon),
    "sample": Prediction(epsilon_from_sample, lambda x, sample, alpha, sigma: sample),
    "v_prediction": Prediction(epsilon_from_v, x0_from_v),
    "score": Prediction(epsilon_from_score),
    "velocity": Prediction(epsilon_from_velocity, x0_from_velocity),
}


def edm_prediction(sigma_data: float, sign: float = 1.0) -> Prediction:
    """x_0 = c_skip x_t + c_out F(c_in x_t), hence epsilon = (x_t - x_0) / sigma.  sign : of c_out, as diffusers has it.

    Karras et al., NeurIPS 2022, Table 1: with n = sigma^2 + sigma_data^2, c_skip = sigma_data^2 / n,
    c_out = sigma sigma_data / sqrt(n), c_in = 1 / sqrt(n).  1 - c_skip = sigma^2 / n leaves no difference to take.
    """

    def epsilon(x: Tensor, output: Tensor, alpha: float, sigma: float) -> Tensor:
        n = sigma**2 + sigma_data**2
        return sigma / n * x - sign * sigma_data / math.sqrt(n) * output

    return Prediction(epsilon, scale=lambda sigma: 1 / math.sqrt(sigma**2 + sigma_data**2))


def prediction_of(scheduler: SchedulerMixin) -> Prediction | None:
    """What a network with this scheduler predicts; None if that is unknown, or no prediction of its process."""
    if isinstance(scheduler, ScoreSdeVeScheduler):
        return PREDICTIONS["score"]
    if isinstance(scheduler, FLOW):
        return PREDICTIONS["velocity"]
    kind = scheduler.config.get("prediction_type", "epsilon")  # RePaint has no such option
    if isinstance(scheduler, EDM):
        signs = {"epsilon": 1.0, "v_prediction": -1.0}
        return edm_prediction(scheduler.config.sigma_data, signs[kind]) if kind in signs else None
    if scheduler.config.get("use_flow_sigmas"):
        kinds = {"epsilon": "epsilon", "sample": "sample", "flow_prediction": "velocity"}
    else:
        kinds = {"epsilon": "epsilon", "sample": "sample", "v_prediction": "v_prediction"}
    return PREDICTIONS[kinds[kind]] if kind in kinds else None


@dataclass(frozen=True)
class NoiseProcess:
    """alpha, sigma : (T,) float64, the signal and noise level at each timestep.
    times : (T,) float64, the network's time input at each; None where that is the timestep itself."""

    alpha: Tensor
    sigma: Tensor
    times: Tensor | None = None

    @classmethod
    def from_scheduler(cls, scheduler: SchedulerMixin) -> "NoiseProcess":
        """The process that a diffusers scheduler stands for, at every timestep of training."""
        config = scheduler.config
        if isinstance(scheduler, ScoreSdeVeScheduler):
            return variance_exploding(config.sigma_min, config.sigma_max, config.num_train_timesteps)
        if isinstance(scheduler, EDM):
            rho = config.rho if config.sigma_schedule == "karras" else None
            return edm_process(config.sigma_min, config.sigma_max, rho, config.num_train_timesteps)
        if isinstance(scheduler, FLOW):
            return flow_matching(_shift(config, "shift"), config.num_train_timesteps)
        if config.get("use_flow_sigmas"):
            return flow_matching(_shift(config, "flow_shift"), config.num_train_timesteps, whole=True)
        return variance_preserving(scheduler.betas)

    @property
    def num_train_timesteps(self) -> int:
        return len(self.alpha)

    def problem(self) -> str | None:
        """Why these are no noise levels of a diffusion; None if they are.

        alpha lies in (0, 1], or is 0 at the last timestep; sigma is positive; sigma / alpha rises at every timestep.
        """
        alpha, sigma = self.alpha, self.sigma
        if not len(alpha):
            return "has no timesteps"
        if not (torch.isfinite(alpha).all() and torch.isfinite(sigma).all()):
            return "its noise levels are not finite (betas lie between 0 and 1, sigmas are positive)"
        if not ((alpha[:-1] > 0).all() and alpha[-1] >= 0 and (alpha <= 1).all()):
            return f"its signal levels run from {alpha[0]:g} to {alpha[-1]:g}, expected falling ones in (0, 1]"
        if not (sigma > 0).all():
            return f"its noise levels start at {sigma[0]:g}, expected a positive one"
        if not (sigma[1:] * alpha[:-1] > sigma[:-1] * alpha[1:]).all():
            return "its noise does not rise from timestep to timestep"
        if self.times is not None and not torch.isfinite(self.times).all():
            return "the network's time input is not finite"
        return None

    def time(self, t: int) -> int | float:
        """The network's time input at timestep t."""
        return t if self.times is None else self.times[t].item()

    def with_signal(self) -> "NoiseProcess":
        """The same without the timesteps at the end whose alpha is 0."""
        kept = int(self.alpha.nonzero().max()) + 1
        return NoiseProcess(self.alpha[:kept], self.sigma[:kept], None if self.times is None else self.times[:kept])

    def add_noise(self, x0: Tensor, epsilon: Tensor, t: int) -> Tensor:
        """x_t from x_0 and epsilon.  Any shape; float64 coefficients on float32 tensors."""
        return self.alpha[t].item() * x0 + self.sigma[t].item() * epsilon

    def x0(self, x: Tensor, epsilon: Tensor, t: int) -> Tensor:
        """x_0 from x_t and `epsilon` = epsilon(x, t).  Infinite where alpha_t is 0."""
        return (x - self.sigma[t].item() * epsilon) / self.alpha[t].item()

    def ddim(self, x: Tensor, epsilon: Tensor, start: int, end: int) -> Tensor:
        """The DDIM move of x from timestep `start` to `end`, up or down, along `epsilon` = epsilon(x, start)."""
        return self.add_noise(self.x0(x, epsilon, start), epsilon, end)


def _shift(config: Mapping[str, Any], option: str) -> float:
    """The shift of a flow's sigmas in training; a dynamic one is of sampling alone."""
    return 1.0 if config.get("use_dynamic_shifting") else config[option]


def variance_preserving(betas: Tensor) -> NoiseProcess:
    """alpha_t^2 + sigma_t^2 = 1.  betas : (T,).  Ho et al., NeurIPS 2020, Eq. 4.

    The product is taken in float64, since sigma at the first timesteps is the small difference of two numbers near one.
    """
    alphas_cumprod = torch.cumprod(1.0 - betas.double(), dim=0)
    return NoiseProcess(alphas_cumprod.sqrt(), (1.0 - alphas_cumprod).sqrt())


def variance_exploding(sigma_min: float, sigma_max: float, count: int) -> NoiseProcess:
    """sigma in a geometric row.  Song et al., "Score-Based Generative Modeling through SDEs", ICLR 2021, App. C."""
    sigma = torch.linspace(math.log(sigma_min), math.log(sigma_max), count, dtype=torch.float64).exp()
    return NoiseProcess(torch.ones_like(sigma), sigma, times=sigma)


def edm_process(sigma_min: float, sigma_max: float, rho: float | None, count: int) -> NoiseProcess:
    """sigma^(1 / rho) in an arithmetic row; without rho, sigma in a geometric one.

    Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models", NeurIPS 2022, Eq. 5, Table 1.
    """
    if rho is None:
        sigma = variance_exploding(sigma_min, sigma_max, count).sigma
    else:
        ends = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
        sigma = torch.linspace(*ends, count, dtype=torch.float64) ** rho
    return NoiseProcess(torch.ones_like(sigma), sigma, times=sigma.log() / 4)


def flow_matching(shift: float, count: int, whole: bool = False) -> NoiseProcess:
    """x_s = (1 - s) x_0 + s epsilon; the last timestep is noise alone.

    Lipman et al., "Flow Matching for Generative Modeling", ICLR 2023, Eq. 22 with its time reversed; the shift is
    Esser et al., "Scaling Rectified Flow Transformers", ICML 2024, Eq. 23.  whole : whether the network's time input is
    cut to a whole number, as `set_timesteps` of DPM-Solver and its kin cuts it.
    """
    s = torch.arange(1, count + 1, dtype=torch.float64) / count
    s = shift * s / (1 + (shift - 1) * s)
    times = count * s
    return NoiseProcess(1 - s, s, times=(times + 1e-6).floor() if whole else times)  # 28.999999999999996 is 29
