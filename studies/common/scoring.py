"""A model as a view shows it, and the scores that images get under it."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from leakgauge.attacks.columns import score_columns
from leakgauge.attacks.registry import score_batch
from leakgauge.compute import best_device
from leakgauge.diffusion.denoiser import Denoiser
from leakgauge.errors import InputError
from studies.common.population import Population
from studies.common.views import View

BATCH = 256


def open_view(folder: Path, view: View) -> Denoiser:
    """The model in a folder as a view shows it.  Raises InputError."""
    denoiser = Denoiser.from_pipeline(folder, best_device())
    if view.bits:
        round_weights(denoiser.network, view.bits)
    return NoisyDenoiser(denoiser, view.noise, view.noise_seed) if view.noise else denoiser


@torch.no_grad()
def round_weights(network: torch.nn.Module, bits: int) -> None:
    """Round each tensor to 2^bits - 1 levels, evenly from -max|w| to max|w|."""
    for weights in network.parameters():
        if (largest := weights.abs().max()) > 0:
            step = largest / max(2 ** (bits - 1) - 1, 0.5)
            weights.copy_((weights / step).round() * step)


def score_images(
    denoiser: Denoiser, population: Population, rows: np.ndarray, view: View, what: str
) -> dict[str, np.ndarray]:
    """Column -> (n,) float64 of some images.  what : named in an error.  Raises InputError if a score is not finite."""
    conditioning = denoiser.conditioning_of(population.labels[rows].tolist(), [None] * len(rows), "given")
    parts = []
    for start in range(0, len(rows), BATCH):
        batch = rows[start : start + BATCH]
        bound = denoiser.with_condition(None if conditioning is None else conditioning[start : start + BATCH])
        x0 = bound.encode(torch.from_numpy(population.pixels[batch]))
        parts.append(score_batch(bound, x0, population.ids[batch].tolist(), view).cpu().numpy())
    scores = dict(zip(score_columns(view), np.concatenate(parts).T, strict=True))
    for name, values in scores.items():
        if not np.isfinite(values).all():
            raise InputError(f"{what}: score {name} is NaN or inf: the model overflows; a lower learning_rate helps")
    return scores


class NoisyDenoiser(Denoiser):
    """A denoiser whose answers are noisy: fresh Gaussian noise on every prediction of epsilon, from a seed.

    Who asks often can average it out; that is not tried here.
    """

    def __init__(self, denoiser: Denoiser, deviation: float, seed: int) -> None:
        self.__dict__ |= denoiser.__dict__
        self.deviation, self.generator = deviation, torch.Generator().manual_seed(seed)

    def epsilon(self, x: Tensor, t: int) -> Tensor:
        """The predicted noise, and noise."""
        noise = torch.randn(x.shape, generator=self.generator).to(x.device)
        return super().epsilon(x, t) + self.deviation * noise
