"""What a network predicts, and epsilon from it.

Networks are trained to predict different things about x_t = alpha x_0 + sigma epsilon; each tells epsilon:

| the network predicts | F | epsilon | x_0 |
|---|---|---|---|
| epsilon | epsilon | F | (x_t - sigma F) / alpha |
| sample | x_0 | (x_t - alpha F) / sigma | F |
| v_prediction | alpha epsilon - sigma x_0 | sigma x_t + alpha F | alpha x_t - sigma F |
| score | -epsilon / sigma | -sigma F | x_t + sigma^2 F, for alpha = 1 |
| velocity | epsilon - x_0 | x_t + alpha F | x_t - sigma F, for alpha + sigma = 1 |
| edm | x_0, preconditioned | see `edm` | see `edm` |

Where alpha is 0, x_t holds nothing of x_0 and epsilon does not tell it; a network that predicts `sample`,
`v_prediction` or `velocity` still does.

Ho et al., NeurIPS 2020 (epsilon); Salimans and Ho, "Progressive Distillation", ICLR 2022, App. D (v); Song et al.,
"Score-Based Generative Modeling through SDEs", ICLR 2021 (score); Lipman et al., ICLR 2023 (velocity).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from diffusers import EDMEulerScheduler, FlowMatchEulerDiscreteScheduler, SchedulerMixin, ScoreSdeVeScheduler
from torch import Tensor

From = Callable[[Tensor, Tensor, float, float], Tensor]  # of x_t, F, alpha_t and sigma_t


@dataclass(frozen=True)
class Prediction:
    """epsilon : from what the network says.  x0 : likewise, for alpha = 0; None where it cannot be told.
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


def edm(sigma_data: float, sign: float = 1.0) -> Prediction:
    """x_0 = c_skip x_t + c_out F(c_in x_t), hence epsilon = (x_t - x_0) / sigma.  sign : of c_out, as diffusers has it.

    Karras et al., NeurIPS 2022, Table 1: with n = sigma^2 + sigma_data^2, c_skip = sigma_data^2 / n,
    c_out = sigma sigma_data / sqrt(n), c_in = 1 / sqrt(n).  1 - c_skip = sigma^2 / n leaves no difference to take.
    """

    def epsilon(x: Tensor, output: Tensor, alpha: float, sigma: float) -> Tensor:
        n = sigma**2 + sigma_data**2
        return sigma / n * x - sign * sigma_data / math.sqrt(n) * output

    return Prediction(epsilon, scale=lambda sigma: 1 / math.sqrt(sigma**2 + sigma_data**2))


def prediction_of(scheduler: SchedulerMixin) -> Prediction | None:
    """What a network with this scheduler predicts; None if that is unknown."""
    if isinstance(scheduler, ScoreSdeVeScheduler):
        return PREDICTIONS["score"]
    if isinstance(scheduler, FlowMatchEulerDiscreteScheduler):
        return PREDICTIONS["velocity"]
    kind = scheduler.config.prediction_type
    if isinstance(scheduler, EDMEulerScheduler):
        signs = {"epsilon": 1.0, "v_prediction": -1.0}
        return edm(scheduler.config.sigma_data, signs[kind]) if kind in signs else None
    return PREDICTIONS[kind] if kind in ("epsilon", "sample", "v_prediction") else None
