"""What a model is shown: batches of its members, augmented and repeated as its recipe says."""

import torch
from torch import Tensor

from studies.targets.recipe import Recipe


def training_set(x0: Tensor, labels: Tensor, recipe: Recipe) -> tuple[Tensor, Tensor]:
    """The members, the first of them as often as the recipe repeats them.  x0 : (N, C, H, W).  labels : (N,)."""
    repeated = round(recipe.repeats.share * len(x0))
    times = torch.ones(len(x0), dtype=torch.int64)
    times[:repeated] = recipe.repeats.times
    return x0.repeat_interleave(times, dim=0), labels.repeat_interleave(times)


def augment(x0: Tensor, recipe: Recipe) -> Tensor:
    """A batch mirrored and moved at random, from torch's generator.  x0 : (B, C, H, W); returns the same shape."""
    if recipe.flip:
        mirrored = torch.rand(len(x0), 1, 1, 1) < 0.5
        x0 = torch.where(mirrored, x0.flip(3), x0)
    if recipe.shift:
        reach, height, width = recipe.shift, *x0.shape[2:]
        padded = torch.nn.functional.pad(x0, (reach,) * 4, mode="replicate")
        down, right = torch.randint(2 * reach + 1, (2, len(x0), 1, 1))  # (B, 1, 1) each
        rows = (down + torch.arange(height)[:, None]).expand(-1, height, width)  # (B, H, W)
        columns = (right + torch.arange(width)[None]).expand(-1, height, width)
        x0 = padded[torch.arange(len(x0))[:, None, None], :, rows, columns].permute(0, 3, 1, 2)
    return x0
