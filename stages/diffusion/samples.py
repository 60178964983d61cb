"""Look at what a target draws: generated images beside real ones."""

import numpy as np
import torch
from diffusers import DDIMPipeline
from PIL import Image

STEPS = 50  # DDIM steps an image
CELL = 64  # pixels a side, at least, that an image takes on the sheet


def sample_sheet(sampler: DDIMPipeline | None, real: np.ndarray, seed: int, count: int = 16) -> Image.Image:
    """A sheet of two 4-row blocks: `count` real images on the left, as many generated ones on the right.

    real : (N, C, H, W) uint8, the members.  DDIM sampling, deterministic given the seed.  Without a sampler, for a
    target that is no more than its scores, the right block is left out; without members the left one is.
    """
    blocks = [_block(real[:count].transpose(0, 2, 3, 1))] if len(real) else []
    if sampler:
        blocks.append(_block(_drawn(sampler, seed, count)))
    gap = np.full((blocks[0].shape[0], CELL // 4, blocks[0].shape[2]), 255, np.uint8)
    sheet = np.concatenate([blocks[0], *(part for block in blocks[1:] for part in (gap, block))], axis=1)
    return Image.fromarray(sheet[..., 0] if sheet.shape[-1] == 1 else sheet)


def _drawn(sampler: DDIMPipeline, seed: int, count: int) -> np.ndarray:
    """Generated images, (count, H, W, C) uint8."""
    sampler.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(seed)
    steps = min(STEPS, sampler.scheduler.config.num_train_timesteps)
    drawn = sampler(batch_size=count, generator=generator, num_inference_steps=steps, output_type="np").images
    return np.round(drawn * 255).astype(np.uint8)


def _block(images: np.ndarray, rows: int = 4) -> np.ndarray:
    """Images in a grid of `rows`, each enlarged by whole pixels; places left over are white.  images : (N, H, W, C)."""
    scale = max(1, CELL // images.shape[1])
    images = images.repeat(scale, axis=1).repeat(scale, axis=2)
    images = np.pad(images, ((0, -len(images) % rows), (2, 2), (2, 2), (0, 0)), constant_values=255)
    _, height, width, channels = images.shape
    grid = images.reshape(rows, -1, height, width, channels).transpose(0, 2, 1, 3, 4)  # (rows, H, columns, W, C)
    return grid.reshape(rows * height, -1, channels)
