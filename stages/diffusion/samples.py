"""Look at what a target draws: generated images beside real ones.

The target draws by the very moves that its scores are made of, so that a sheet that looks right says that it was read
right: Song et al., "Denoising Diffusion Implicit Models", ICLR 2021, from the last timestep to the first.
"""

from itertools import pairwise

import numpy as np
import torch
from PIL import Image

from stages.diffusion.denoiser import Denoiser

STEPS = 50  # DDIM steps an image
CELL = 64  # pixels a side, at least, that an image takes on the sheet


def sample_sheet(target: Denoiser | None, real: np.ndarray, seed: int, count: int = 16) -> Image.Image:
    """A sheet of two 4-row blocks: `count` real images on the left, as many generated ones on the right.

    real : (N, C, H, W) uint8, the members.  Deterministic given the seed.  A target conditional on classes draws one
    class after another, one conditional on text has the empty prompt.  Without a target, where there is no more than
    its scores, the right block is left out; without members the left one is.
    """
    blocks = [_block(real[:count].transpose(0, 2, 3, 1))] if len(real) else []
    if target and all(shape := target.x0_shape(*real.shape[2:])):  # without members perhaps nothing tells the size
        blocks.append(_block(draw(target, shape, seed, count)))
    blocks = blocks or [np.full((CELL, CELL, 1), 255, np.uint8)]
    gap = np.full((blocks[0].shape[0], CELL // 4, blocks[0].shape[2]), 255, np.uint8)
    sheet = np.concatenate([blocks[0], *(part for block in blocks[1:] for part in (gap, block))], axis=1)
    return Image.fromarray(sheet[..., 0] if sheet.shape[-1] == 1 else sheet)


@torch.inference_mode()
def draw(target: Denoiser, shape: tuple[int, int, int], seed: int, count: int) -> np.ndarray:
    """Generated images, (count, H, W, C) uint8.  shape : of one x_0, (C', H', W')."""
    target, process = target.given(target.condition.in_turn(count)), target.process
    noise = torch.randn((count, *shape), generator=torch.Generator().manual_seed(seed)).to(target.device)
    x = process.sigma[-1].item() * noise
    timesteps = np.unique(np.linspace(0, process.num_train_timesteps - 1, STEPS + 1).round().astype(int))[::-1].tolist()
    for start, end in pairwise([*timesteps, 0]):  # the last one stays at 0, for x_0
        epsilon = target.epsilon(x, start)
        x0 = target.x0(x, epsilon, start)
        if not target.autoencoder:
            x0 = x0.clamp(-1, 1)
        x = process.add_noise(x0, epsilon, end)
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
