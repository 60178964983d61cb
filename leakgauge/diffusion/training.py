"""Train a small diffusion model on members, and draw samples from it.

Look at what a target draws: generated images beside real ones.

The target draws by the very moves that its scores are made of, so that a sheet that looks right says that it was read
right: Song et al., "Denoising Diffusion Implicit Models", ICLR 2021, from the last timestep to the first.

Train a DDPM: the target whose leakage the pipeline then measures.

Ho et al., "Denoising Diffusion Probabilistic Models", NeurIPS 2020, Algorithm 1 with the simple epsilon loss
(Eq. 14), an exponential moving average of the weights, warm-up, gradient clipping and a decaying step size.

Every random number is a function of (seed, step), so a run that was killed and resumed ends in the same bytes.
"""

import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel
from PIL import Image
from safetensors.torch import load_file, save
from torch import Tensor
from tqdm import tqdm

from leakgauge.compute import best_device
from leakgauge.diffusion.denoiser import Denoiser, to_unit_range
from leakgauge.errors import InputError
from leakgauge.files import write_bytes
from leakgauge.options import Training

STEPS = 50  # DDIM steps an image
CELL = 64  # pixels a side, at least, that an image takes on the sheet


def sample_sheet(target: Denoiser | None, real: np.ndarray, seed: int, count: int = 16) -> Image.Image:
    """A sheet of two 4-row blocks: `count` real images on the left, as many generated ones on the right.

    real : (N, C, H, W) uint8, the members.  Deterministic given the seed.  A target conditional on classes draws one
    class after another, one conditional on text has the empty prompt.  Without a target, where there is no more than
    its scores, the right block is left out; without members the left one is.
    """
    blocks = [_block(real[:count].transpose(0, 2, 3, 1))] if len(real) else []
    if target and all(shape := target.x0_shape(*real.shape[2:])):  # without members the size may be unknown
        blocks.append(_block(draw(target, shape, seed, count)))
    blocks = blocks or [np.full((CELL, CELL, 1), 255, np.uint8)]
    gap = np.full((blocks[0].shape[0], CELL // 4, blocks[0].shape[2]), 255, np.uint8)
    sheet = np.concatenate([blocks[0], *(part for block in blocks[1:] for part in (gap, block))], axis=1)
    return Image.fromarray(sheet[..., 0] if sheet.shape[-1] == 1 else sheet)


def draw(target: Denoiser, shape: tuple[int, int, int], seed: int, count: int) -> np.ndarray:
    """Generated images, (count, H, W, C) uint8.  shape : of one x_0, (C', H', W')."""
    noise = torch.randn((count, *shape), generator=torch.Generator().manual_seed(seed))
    return generate(target.with_condition(target.condition.sample_conditions(count)), noise)


@torch.inference_mode()
def generate(target: Denoiser, noise: Tensor, after_step: Callable[[], object] = lambda: None) -> np.ndarray:
    """Images from noise by `STEPS` moves, (B, H, W, C) uint8.

    target : bound to the conditions of these images.  noise : (B, C', H', W') float32, standard normal.
    after_step : called after each move.
    """
    process = target.process
    x = process.sigma[-1].item() * noise.to(target.device)
    timesteps = np.unique(np.linspace(0, process.num_train_timesteps - 1, STEPS + 1).round().astype(int))[::-1].tolist()
    for start, end in pairwise([*timesteps, 0]):  # the last one stays at 0, for x_0
        epsilon = target.epsilon(x, start)
        x0 = target.x0(x, epsilon, start)
        if not target.autoencoder:
            x0 = x0.clamp(-1, 1)
        x = process.add_noise(x0, epsilon, end)
        after_step()
    pixels = (target.decode(x0).cpu() + 1) * 127.5
    return pixels.round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


def _block(images: np.ndarray, rows: int = 4) -> np.ndarray:
    """Images in a grid of `rows`, each enlarged by whole pixels; places left over are white.  images : (N, H, W, C)."""
    scale = max(1, CELL // images.shape[1])
    images = images.repeat(scale, axis=1).repeat(scale, axis=2)
    images = np.pad(images, ((0, -len(images) % rows), (2, 2), (2, 2), (0, 0)), constant_values=255)
    _, height, width, channels = images.shape
    grid = images.reshape(rows, -1, height, width, channels).transpose(0, 2, 1, 3, 4)  # (rows, H, columns, W, C)
    return grid.reshape(rows * height, -1, channels)


def train(pixels: Tensor, options: Training, folder: Path) -> tuple[DDPMPipeline, Tensor]:
    """Train on images, going on from the checkpoint in `folder` if there is one.

    pixels : (N, C, H, W) uint8.  Returns the pipeline with the averaged weights, and (steps,) float32 losses.
    """
    run = _Run(pixels, options)
    checkpoint = folder / "checkpoint.safetensors"
    start = run.load(checkpoint) if checkpoint.exists() else 0
    with tqdm(total=options.steps, initial=start, desc="train", unit="step", disable=None) as bar:
        for step in range(start, options.steps):
            run.step(step)
            bar.update()
            if (step + 1) % options.checkpoint_every == 0:
                run.save(checkpoint, step + 1)
                bar.set_postfix(loss=f"{run.losses[max(0, step - 99) : step + 1].mean():.4f}")
    run.average.copy_to(run.unet.parameters())
    return DDPMPipeline(run.unet, run.scheduler), run.losses


def make_unet(options: Training, channels: int, size: tuple[int, int]) -> UNet2DModel:
    """An untrained UNet for (channels, *size) images; its weights are drawn from the seed.  Raises InputError."""
    levels = len(options.block_out_channels)
    if any(side % 2 ** (levels - 1) for side in size):
        raise InputError(
            f"target.block_out_channels: {levels} levels halve the image {levels - 1} times, "
            f"but {size[1]}x{size[0]} does not halve that often"
        )
    torch.manual_seed(options.seed)
    return UNet2DModel(
        sample_size=size[0] if size[0] == size[1] else size,
        in_channels=channels,
        out_channels=channels,
        layers_per_block=options.layers_per_block,
        block_out_channels=tuple(options.block_out_channels),
        down_block_types=("DownBlock2D",) * levels,
        up_block_types=("UpBlock2D",) * levels,
        norm_num_groups=math.gcd(*options.block_out_channels, 8),
        add_attention=options.attention,
        dropout=options.dropout,
    )


class _Run:
    """The state of one training run."""

    def __init__(self, pixels: Tensor, options: Training) -> None:
        self.device = best_device()
        self.options = options
        self.x0 = to_unit_range(pixels).to(self.device)  # (N, C, H, W)
        self.scheduler = DDPMScheduler(
            num_train_timesteps=options.num_train_timesteps,
            beta_schedule=options.beta_schedule,
            clip_sample=True,
        )
        self.unet = make_unet(options, pixels.shape[1], (pixels.shape[2], pixels.shape[3])).to(self.device)
        self.optimizer = torch.optim.AdamW(self.unet.parameters(), lr=options.learning_rate, weight_decay=0.0)
        self.learning_rate = get_scheduler(
            options.decay,
            self.optimizer,
            num_warmup_steps=options.warmup_steps,
            num_training_steps=options.steps,
        )
        self.average = EMAModel(self.unet.parameters(), decay=options.ema_decay, use_ema_warmup=True, power=0.75)
        self.losses = torch.zeros(options.steps)

    def step(self, step: int) -> None:
        """One gradient step on one batch."""
        torch.manual_seed(_seed(self.options.seed, step))  # dropout, noise and timesteps of this step
        x0 = self.x0[self._batch(step)]
        noise = torch.randn(x0.shape).to(self.device)
        timesteps = torch.randint(self.options.num_train_timesteps, (len(x0),)).to(self.device)
        noisy = self.scheduler.add_noise(x0, noise, timesteps)
        loss = F.mse_loss(self.unet(noisy, timesteps).sample, noise)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.unet.parameters(), self.options.max_grad_norm)
        self.optimizer.step()
        self.learning_rate.step()
        self.optimizer.zero_grad()
        self.average.step(self.unet.parameters())
        self.losses[step] = loss.detach().cpu()

    def _batch(self, step: int) -> Tensor:
        """Indices of this step's images: a stream of shuffled epochs, cut into batches."""
        n, size = len(self.x0), self.options.batch_size
        first, last = step * size, (step + 1) * size
        epochs = [self._epoch(epoch) for epoch in range(first // n, (last - 1) // n + 1)]
        stream = torch.cat(epochs)
        return stream[first % n : first % n + size]

    def _epoch(self, epoch: int) -> Tensor:
        generator = torch.Generator().manual_seed(_seed(self.options.seed, -1 - epoch))
        return torch.randperm(len(self.x0), generator=generator)

    def save(self, path: Path, step: int) -> None:
        """Write everything that the steps after `step` depend on, atomically."""
        state: dict[str, Tensor] = {"losses": self.losses, "step": torch.tensor(step)}
        state |= {f"unet.{name}": value for name, value in self.unet.state_dict().items()}
        state |= {f"average.{i}": value for i, value in enumerate(self.average.shadow_params)}
        for i, moments in self.optimizer.state_dict()["state"].items():
            state |= {f"optimizer.{i}.{name}": value for name, value in moments.items()}
        write_bytes(path, save({name: value.contiguous() for name, value in state.items()}))

    def load(self, path: Path) -> int:
        """Take the state from a checkpoint; returns the step to go on with."""
        state = load_file(path)
        step = int(state["step"])
        self.losses = state["losses"]
        self.unet.load_state_dict(_below("unet", state))
        averages = _below("average", state)
        self.average.shadow_params = [averages[str(i)].to(self.device) for i in range(len(averages))]
        self.average.optimization_step = step
        moments: dict[int, dict[str, Any]] = {}
        for name, value in _below("optimizer", state).items():
            index, _, moment = name.partition(".")
            moments.setdefault(int(index), {})[moment] = value
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": moments})
        self.learning_rate.last_epoch = step
        for group, base, factor in zip(
            self.optimizer.param_groups, self.learning_rate.base_lrs, self.learning_rate.lr_lambdas, strict=True
        ):
            group["lr"] = base * factor(step)
        return step


def _below(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(f"{prefix}."): value for name, value in state.items() if name.startswith(f"{prefix}.")}


def _seed(seed: int, number: int) -> int:
    """A seed for each (seed, number); numbers below zero are epochs, the others steps."""
    return (seed * 1_000_003 + number) % 2**63
