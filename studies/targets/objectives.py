"""What a network is trained to say of x_t = alpha_t x_0 + sigma_t epsilon, in every process that the scores know.

| process | alpha, sigma | the network says |
|---|---|---|
| ddpm | variance preserving, linear betas (Ho et al., NeurIPS 2020) | epsilon |
| v_prediction | the same | alpha epsilon - sigma x_0 (Salimans & Ho, ICLR 2022) |
| score_sde | 1, geometric (Song et al., ICLR 2021) | -epsilon / sigma; its error is weighted by sigma^2 |
| flow | 1 - s, s (Lipman et al., ICLR 2023) | epsilon - x_0 |
"""

import torch
import torch.nn.functional as F
from diffusers import (
    DDPMScheduler,
    FlowMatchEulerDiscreteScheduler,
    ModelMixin,
    SchedulerMixin,
    ScoreSdeVeScheduler,
)
from torch import Tensor

from leakgauge.diffusion.process import NoiseProcess

SIGMA_MIN, SIGMA_MAX = 0.01, 10.0  # of score_sde: the latter is the distance between the farthest images, about


def make_scheduler(process: str) -> SchedulerMixin:
    """The diffusers scheduler that stands for a process."""
    if process == "score_sde":
        return ScoreSdeVeScheduler(num_train_timesteps=1000, sigma_min=SIGMA_MIN, sigma_max=SIGMA_MAX)
    if process == "flow":
        return FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000)
    prediction = "v_prediction" if process == "v_prediction" else "epsilon"
    return DDPMScheduler(num_train_timesteps=1000, beta_schedule="linear", prediction_type=prediction)


class Objective:
    """The loss of one process."""

    def __init__(self, process: str) -> None:
        self.name, self.scheduler = process, make_scheduler(process)
        self.process = NoiseProcess.from_scheduler(self.scheduler)
        told = self.process.times
        self.times = torch.arange(self.process.num_train_timesteps) if told is None else told.float()

    def losses(self, network: ModelMixin, x0: Tensor, labels: Tensor | None) -> Tensor:
        """Each image's loss at a random timestep, for a random epsilon, from torch's generator.

        x0 : (B, C, H, W) float32.  labels : (B,) int64, of a network that is told classes.  Returns (B,) float32.
        """
        epsilon = torch.randn_like(x0)
        t = torch.randint(self.process.num_train_timesteps, (len(x0),))
        alpha, sigma = (level[t].float().view(-1, 1, 1, 1) for level in (self.process.alpha, self.process.sigma))
        x = alpha * x0 + sigma * epsilon
        classes = {} if labels is None else {"class_labels": labels}
        said = network(x, timestep=self.times[t], **classes).sample
        wanted = {
            "ddpm": epsilon,
            "v_prediction": alpha * epsilon - sigma * x0,
            "score_sde": -epsilon,
            "flow": epsilon - x0,
        }[self.name]
        weighted = sigma * said if self.name == "score_sde" else said
        return F.mse_loss(weighted, wanted, reduction="none").mean(dim=(1, 2, 3))
