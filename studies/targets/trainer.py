"""Train a model, in the clear or with differential privacy.  All randomness comes from the seed."""

import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL, ModelMixin, SchedulerMixin
from diffusers.training_utils import EMAModel
from torch import Tensor

from leakgauge.diffusion.denoiser import to_unit_range
from leakgauge.diffusion.loading import Autoencoder
from studies.targets.autoencoder import train_autoencoder
from studies.targets.networks import make_network
from studies.targets.objectives import Objective
from studies.targets.private import private_steps
from studies.targets.recipe import Recipe
from studies.targets.teaching import augment, training_set

LARGEST_GRADIENT = 1.0  # its norm, of a batch


@dataclass(frozen=True)
class Trained:
    """A model after some steps."""

    step: int
    network: ModelMixin  # with averaged weights
    scheduler: SchedulerMixin
    autoencoder: AutoencoderKL | None
    seconds: float  # spent on training so far
    epsilon: float | None  # of differential privacy, as the accountant has it; None: none is promised


def train(pixels: Tensor, labels: Tensor, classes: int, recipe: Recipe, seed: int) -> Iterator[Trained]:
    """Train on some images, and hand out a copy after each of `recipe.kept` steps.

    pixels : (N, C, H, W) uint8.  labels : (N,) int64, in 0 ... classes - 1.
    """
    started = time.monotonic()
    torch.manual_seed(seed)
    x0, labels = training_set(to_unit_range(pixels), labels, recipe)
    autoencoder = train_autoencoder(x0, seed) if recipe.latent else None
    if autoencoder:
        with torch.inference_mode():
            x0 = Autoencoder(autoencoder).encode(x0)
        x0 = x0.clone()
    torch.manual_seed(seed)
    channels, height, width = x0.shape[1:]
    network = make_network(recipe, channels, height, width, classes)
    objective = Objective(recipe.process)
    told = labels if recipe.network == "dit" else None

    def losses(model: ModelMixin, rows: Tensor) -> Tensor:
        return objective.losses(model, augment(x0[rows], recipe), None if told is None else told[rows])

    steps = private_steps if recipe.privacy else _plain_steps
    average = EMAModel(network.parameters(), decay=recipe.ema_decay, use_ema_warmup=True, power=0.75)
    for step, spent in steps(network.train(), losses, len(x0), recipe, seed):
        average.step(network.parameters())
        if step in recipe.kept:
            averaged = make_network(recipe, channels, height, width, classes)
            averaged.load_state_dict(network.state_dict())
            average.copy_to(averaged.parameters())
            seconds = time.monotonic() - started
            yield Trained(step, averaged.eval(), objective.scheduler, copy.deepcopy(autoencoder), seconds, spent)


def _plain_steps(
    network: ModelMixin, losses: Callable[[ModelMixin, Tensor], Tensor], count: int, recipe: Recipe, seed: int
) -> Iterator[tuple[int, None]]:
    """AdamW at one learning rate after the warm-up, so that every step's model is a finished one.  Yields steps."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    warmup = torch.optim.lr_scheduler.LinearLR(optimizer, 1e-2, total_iters=recipe.warmup_steps)
    order = torch.empty(0, dtype=torch.int64)
    for step in range(1, recipe.steps + 1):
        while len(order) < recipe.batch_size:
            order = torch.cat([order, torch.randperm(count)])
        rows, order = order[: recipe.batch_size], order[recipe.batch_size :]
        losses(network, rows).mean().backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), LARGEST_GRADIENT)
        optimizer.step()
        optimizer.zero_grad()
        warmup.step()
        yield step, None


def save(trained: Trained, folder: Path) -> None:
    """Write a model's parts, in the layout of a diffusers pipeline: safetensors and JSON."""
    kind = "transformer" if type(trained.network).__name__ == "DiTTransformer2DModel" else "unet"
    trained.network.save_pretrained(folder / kind)
    trained.scheduler.save_pretrained(folder / "scheduler")
    if trained.autoencoder:
        trained.autoencoder.save_pretrained(folder / "vae")
