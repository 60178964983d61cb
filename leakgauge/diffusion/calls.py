"""How a network of each kind is called: a batch x_t and its time, and what comes back of x_t's shape.

| network | beside x_t, its time and its text |
|---|---|
| UNet of SDXL | `time_ids`: size of the original, corner of the crop, target size: the image's size, (0, 0), the same |

Each is called as its pipeline's `__call__` calls it.
"""

from collections.abc import Callable

import torch
from diffusers import ModelMixin
from torch import Tensor, nn

Size = tuple[int, int]  # height and width of an image in pixels
# Of the network (perhaps compiled), x_t (B, C, H, W), the time (B,), its conditioning, the images' size.
Call = Callable[[Callable, Tensor, Tensor, dict[str, Tensor], Size], Tensor]


def call_of(network: nn.Module) -> Call:
    """The way to call a network."""
    return CALLS.get(type(network).__name__, call_plainly)


def channels_of(network: ModelMixin) -> int:
    """Channels of x_t."""
    return network.config.in_channels


def call_plainly(network: Callable, x: Tensor, time: Tensor, inputs: dict[str, Tensor], size: Size) -> Tensor:
    """x_t, its time and its conditioning by name."""
    return network(x, timestep=time, **inputs).sample


def call_unet_with_text(network: Callable, x: Tensor, time: Tensor, inputs: dict[str, Tensor], size: Size) -> Tensor:
    """As `StableDiffusionPipeline`, or `StableDiffusionXLPipeline` where a prompt has a pooled embedding."""
    if "text_embeds" not in inputs:
        return call_plainly(network, x, time, inputs, size)
    time_ids = torch.tensor([*size, 0, 0, *size], dtype=x.dtype, device=x.device).repeat(len(x), 1)
    added = {"text_embeds": inputs["text_embeds"], "time_ids": time_ids}
    states = inputs["encoder_hidden_states"]
    return network(x, timestep=time, encoder_hidden_states=states, added_cond_kwargs=added).sample


CALLS = {"UNet2DConditionModel": call_unet_with_text}
