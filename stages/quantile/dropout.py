"""Dropout by masks that are handed over: networks that are trained at once each draw their own, as if alone."""

import torch
from torch import Tensor, nn


class Dropout(nn.Module):
    """Leaves out each unit with probability p while training.  (B, units) -> (B, units)."""

    mask: Tensor  # (B, units) float32: 0, or 1 / (1 - p); replaced for each batch

    def __init__(self, p: float, units: int) -> None:
        super().__init__()
        self.p, self.units = p, units
        self.register_buffer("mask", torch.ones(()), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.mask.to(x.dtype) if self.training and self.p else x


def draw_masks(network: nn.Module, rows: int, generator: torch.Generator) -> dict[str, Tensor]:
    """A mask for each dropout of a network, by the name of its buffer: drawn on the CPU, the same for every device."""
    return {
        f"{name}.mask": torch.empty(rows, part.units).bernoulli_(1 - part.p, generator=generator).div_(1 - part.p)
        for name, part in network.named_modules()
        if isinstance(part, Dropout) and part.p
    }
