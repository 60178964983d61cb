"""The attacks: their options, the columns that they make, and all of them on one batch of images."""

from typing import Literal

import torch
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor

from leakgauge.attacks.naive_loss import image_noise, naive_loss
from leakgauge.attacks.pia import pia, pian
from leakgauge.attacks.rediffuse import ddim_variation, rediffuse
from leakgauge.attacks.sima import sima
from leakgauge.attacks.t_error import t_errors
from leakgauge.config import Options
from leakgauge.diffusion.conditioning import Use
from leakgauge.diffusion.denoiser import Denoiser


class TErrorGrid(Options):
    """t-errors at 0, interval, 2 interval, ..., last."""

    interval: PositiveInt
    last: NonNegativeInt

    @property
    def timesteps(self) -> list[int]:
        return list(range(0, self.last + 1, self.interval))


class ReDiffuse(Options):
    """The mean of `draws` variations from each timestep, walked back to 0 by `stride`."""

    timesteps: list[PositiveInt]
    stride: PositiveInt
    draws: PositiveInt


class Attacks(Options):
    """The attacks to run and the timesteps of each."""

    t_error: TErrorGrid
    pia: list[NonNegativeInt]
    pian: list[NonNegativeInt]
    naive_loss: list[NonNegativeInt]
    sima: list[NonNegativeInt]
    rediffuse: ReDiffuse
    noise_seed: NonNegativeInt  # of the naive loss and of rediffuse

    def columns(self) -> dict[str, dict[str, str | int]]:
        """Column name -> definition and network calls an image, counted as if it were computed alone."""
        k = self.t_error.interval
        columns: dict[str, dict[str, str | int]] = {}
        for t in self.t_error.timesteps:
            walk = f"sum (x_t - back)^2 after one DDIM move {t} -> {t + k} -> {t}, walked from 0 by {k}"
            columns[f"t_error_t{t}"] = {"definition": walk, "network_calls": t // k + 2}
        for t in self.pia:
            columns[f"pia_t{t}"] = {"definition": "sum |e0 - epsilon(x_t, t)|^4, x_t from e0", "network_calls": 2}
        for t in self.pian:
            columns[f"pian_t{t}"] = {"definition": "pia with e0 rescaled to mean |e0|", "network_calls": 2}
        for t in self.naive_loss:
            columns[f"loss_t{t}"] = {"definition": "sum (n - epsilon(x_t, t))^2, x_t from n", "network_calls": 1}
        for t in self.sima:
            columns[f"sima_t{t}"] = {"definition": "sum epsilon(x_0, t)^4", "network_calls": 1}
        for t in self.rediffuse.timesteps:
            draws, stride = self.rediffuse.draws, self.rediffuse.stride
            mean = f"sum (x_0 - mean)^2 of {draws} variations: noised to {t}, back to 0 by DDIM moves of {stride}"
            columns[f"rediffuse_t{t}"] = {"definition": mean, "network_calls": draws * (t // stride)}
        return columns

    def problem(self, num_train_timesteps: int) -> str | None:
        """The option that a target with so many timesteps can't answer, and why; None if there is none."""
        grid, end = self.t_error, num_train_timesteps - 1
        if grid.last % grid.interval:
            return f"t_error.last: {grid.last} is off the grid of interval {grid.interval}"
        if grid.last + grid.interval > end:
            return f"t_error.last: {grid.last} + interval {grid.interval} is beyond the target's last timestep, {end}"
        single = {name: getattr(self, name) for name in ("pia", "pian", "naive_loss", "sima")}
        for name, timesteps in (single | {"rediffuse.timesteps": self.rediffuse.timesteps}).items():
            if len(set(timesteps)) < len(timesteps):
                return f"{name}: duplicate timestep in {timesteps}"
            if timesteps and max(timesteps) > end:
                return f"{name}: timestep {max(timesteps)} is beyond the target's last, {end}"
        for t in self.rediffuse.timesteps:
            if t % self.rediffuse.stride:
                return f"rediffuse.timesteps: {t} is no multiple of the stride, {self.rediffuse.stride}"
        return None


@torch.inference_mode()
def score_batch(target: Denoiser, x0: Tensor, ids: list[str], attacks: Attacks) -> Tensor:
    """Every column of `attacks.columns()` for a batch, in that order.

    x0 : (B, C, H, W) float32 in [-1, 1].  Returns (B, columns) float64.
    """
    e0 = target.epsilon(x0, 0)
    grid = attacks.t_error
    scores = [t_errors(target, x0, grid.interval, len(grid.timesteps), e0)]
    scores += [pia(target, x0, e0, t)[:, None] for t in attacks.pia]
    scores += [pian(target, x0, e0, t)[:, None] for t in attacks.pian]
    for t in attacks.naive_loss:
        noise = image_noise(ids, tuple(x0.shape[1:]), t, attacks.noise_seed).to(x0.device)
        scores.append(naive_loss(target, x0, noise, t)[:, None])
    scores += [sima(target, x0, t)[:, None] for t in attacks.sima]
    for t in attacks.rediffuse.timesteps:
        variation = ddim_variation(target, ids, t, attacks.rediffuse.stride, attacks.noise_seed)
        scores.append(rediffuse(variation, x0, attacks.rediffuse.draws)[:, None])
    return torch.cat(scores, dim=1)


class Score(Options):
    """Which scores, and how many images at once."""

    engine: Literal["local", "ray"]  # where; no part of what scores are, so that DVC does not watch it
    shard: PositiveInt  # images that are written together: what a killed run loses at most
    batch_size: PositiveInt | Literal["auto"]  # images a network call, at most a shard
    condition: Use  # of a conditional target
    attacks: Attacks
