"""Shortcuts: what makes a network faster, and moves what it says a little.  `tune` decides which a target bears."""

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from diffusers import ModelMixin
from torch import Tensor

from stages.params import Options


class Shortcuts(Options):
    """How a network is run."""

    channels_last: bool  # images as (B, H, W, C) in memory
    precision: Literal["float32", "tf32", "bfloat16"]  # of products; tf32 does nothing on a CPU
    compile: bool  # by torch.compile, which needs a C++ compiler

    @property
    def memory_format(self) -> torch.memory_format:
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def arrange(self, x: Tensor) -> Tensor:
        """The same values, laid out in memory as the network has them.  x : (B, C, H, W)."""
        return x.contiguous(memory_format=self.memory_format)

    def prepare(self, network: ModelMixin) -> ModelMixin:
        """The network, laid out in memory; whether products take tf32 is set for the whole process."""
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = self.precision == "tf32"
        return network.to(memory_format=self.memory_format)

    def compiled(self, network: ModelMixin) -> ModelMixin:
        """What to call in the network's stead."""
        # Every shape is compiled for itself: what came before must not decide the last digits.
        return torch.compile(network, dynamic=False) if self.compile else network

    def autocast(self, device: torch.device) -> AbstractContextManager:
        """The context that a call runs in."""
        return torch.autocast(device.type, torch.bfloat16) if self.precision == "bfloat16" else nullcontext()


PLAIN = Shortcuts(channels_last=False, precision="float32", compile=False)
