"""How a network of each kind is called: a batch x_t and its time, and what comes back of x_t's shape.

| network | beside x_t, its time and its text |
|---|---|
| UNet of SDXL | `time_ids`: size of the original, corner of the crop, target size: the image's size, (0, 0), the same |
| Flux | the latents in patches of 2 x 2, the places of patches and of tokens, a guidance scale if it takes one |
| Chroma | as Flux, without a guidance scale; a mask of tokens |
| PixArt | the size and the aspect ratio, if it takes them |
| Hunyuan-DiT | the places of patches; size of the original, target size, corner of the crop; style 0, the only one |
| Sana | its time is scaled |
| Lumina 2 | its time and its velocity run from noise to image |

Each is called as its pipeline's `__call__` calls it.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from diffusers import ModelMixin
from diffusers.models.embeddings import get_2d_rotary_pos_embed
from torch import Tensor, nn

HUNYUAN_SIDE = 64  # latents of the image, 512 x 512, whose places the pipeline stretches to any size
ANY_SIZE = (
    *("UNet2DConditionModel", "SD3Transformer2DModel", "PixArtTransformer2DModel", "HunyuanDiT2DModel"),
    *("SanaTransformer2DModel", "Lumina2Transformer2DModel"),
)
FLUX_GUIDANCE = 3.5  # the default of diffusers' pipeline and training scripts (train_dreambooth_flux.py)
Size = tuple[int, int]  # height and width of an image in pixels
# Of the network (perhaps compiled), x_t (B, C, H, W), the time (B,), its conditioning, the images' size.
Call = Callable[[Any, Tensor, Tensor, dict[str, Tensor], Size], Tensor]


def call_of(network: nn.Module, num_train_timesteps: int) -> Call:
    """The way to call a network."""
    if type(network).__name__ == "Lumina2Transformer2DModel":
        return partial(call_lumina, num_train_timesteps)
    return CALLS.get(type(network).__name__, call_plainly)


def channels_of(network: ModelMixin) -> int:
    """Channels of x_t."""
    return network.config.in_channels // patch_of(network) ** 2


def returned_of(network: ModelMixin) -> int:
    """Channels of what the network returns, in x_t's shape; a learned variance doubles them."""
    if type(network).__name__ == "HunyuanDiT2DModel":
        return network.out_channels
    returned = network.config.out_channels or network.config.in_channels
    return returned // patch_of(network) ** 2


def patch_of(network: ModelMixin) -> int:
    """Numbers of x_t a side that the network is given as channels of one."""
    return 2 if type(network).__name__ in ("FluxTransformer2DModel", "ChromaTransformer2DModel") else 1


def takes_any_size(network: ModelMixin) -> bool:
    """Whether its `sample_size` is only what pipelines make by default: trainers use other sizes, and so may images."""
    return type(network).__name__ in ANY_SIZE


def token_of(network: ModelMixin) -> int:
    """Numbers of x_t a side that make one token of a transformer."""
    return max(patch_of(network), network.config.get("patch_size") or 1)


def call_plainly(network: Any, x: Tensor, time: Tensor, inputs: dict[str, Tensor], size: Size) -> Tensor:
    """x_t, its time and its conditioning by name."""
    return network(x, timestep=time, **inputs).sample


def call_unet_with_text(network: Any, x: Tensor, time: Tensor, inputs: dict[str, Tensor], size: Size) -> Tensor:
    """As `StableDiffusionPipeline`, or `StableDiffusionXLPipeline` where a prompt has a pooled embedding."""
    if "text_embeds" not in inputs:
        return call_plainly(network, x, time, inputs, size)
    time_ids = torch.tensor([*size, 0, 0, *size], dtype=x.dtype, device=x.device).repeat(len(x), 1)
    added = {"text_embeds": inputs["text_embeds"], "time_ids": time_ids}
    states = inputs["encoder_hidden_states"]
    return network(x, timestep=time, encoder_hidden_states=states, added_cond_kwargs=added).sample


def call_flux(network: Any, x: Tensor, time: Tensor, inputs: dict[str, Tensor], size: Size) -> Tensor:
    """As `FluxPipeline`.  A network that was distilled to take a guidance scale is given that of training scripts."""
    guided = network.config.guidance_embeds
    added = {"guidance": torch.full((len(x),), FLUX_GUIDANCE, device=x.device)} if guided else {}
    return _call_packed(network, x, time, inputs | added)


def call_chroma(network: Any, x: Tensor, time: Tensor, inputs: dict[str, Tensor], size: Size) -> Tensor:
    """As `ChromaPipeline`: the mask of the text is followed by that of the patches, of which none is padding."""
    patches = torch.ones(len(x), x.shape[-2] * x.shape[-1] // 4, device=x.device)
    return _call_packed(
        network, x, time, inputs | {"attention_mask": torch.cat([inputs["attention_mask"], patches], 1)}
    )


def _call_packed(network: Any, x: Tensor, time: Tensor, inputs: dict[str, Tensor]) -> Tensor:
    """Four numbers of a patch of 2 x 2 as channels of one token, and the places of tokens."""
    rows, columns = x.shape[-2] // 2, x.shape[-1] // 2
    places = torch.cartesian_prod(torch.zeros(1), torch.arange(float(rows)), torch.arange(float(columns)))
    of_text = torch.zeros(inputs["encoder_hidden_states"].shape[1], 3)
    tokens = nn.functional.pixel_unshuffle(x, 2).flatten(2).transpose(1, 2)  # (B, patches, 4 C)
    output = network(
        tokens, timestep=time / 1000, img_ids=places.to(x.device), txt_ids=of_text.to(x.device), **inputs
    ).sample
    return nn.functional.pixel_shuffle(output.transpose(1, 2).unflatten(2, (rows, columns)), 2)


def call_pixart(network: Any, x: Tensor, time: Tensor, inputs: dict[str, Tensor], size: Size) -> Tensor:
    """As `PixArtAlphaPipeline` and `PixArtSigmaPipeline`; a learned variance lies behind what is predicted."""
    added: dict[str, Tensor | None] = {"resolution": None, "aspect_ratio": None}
    if network.use_additional_conditions:
        resolution = torch.tensor(size, dtype=x.dtype, device=x.device).repeat(len(x), 1)
        added = {"resolution": resolution, "aspect_ratio": resolution[:, :1] / resolution[:, 1:]}
    return network(x, timestep=time, added_cond_kwargs=added, **inputs).sample


def call_hunyuan(network: Any, x: Tensor, time: Tensor, inputs: dict[str, Tensor], size: Size) -> Tensor:
    """As `HunyuanDiTPipeline`; a learned variance lies behind what is predicted."""
    from diffusers.pipelines.hunyuandit.pipeline_hunyuandit import get_resize_crop_region_for_grid  # has transformers

    config = network.config
    grid = x.shape[-2] // config.patch_size, x.shape[-1] // config.patch_size
    corners = get_resize_crop_region_for_grid(grid, HUNYUAN_SIDE // config.patch_size)
    places = get_2d_rotary_pos_embed(config.attention_head_dim, corners, grid, device=x.device, output_type="pt")
    sizes = torch.tensor([*size, *size, 0, 0], dtype=x.dtype, device=x.device).repeat(len(x), 1)
    style = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    return network(
        x, timestep=time.to(x.dtype), image_meta_size=sizes, style=style, image_rotary_emb=places, **inputs
    ).sample


def call_sana(network: Any, x: Tensor, time: Tensor, inputs: dict[str, Tensor], size: Size) -> Tensor:
    """As `SanaPipeline`."""
    return network(x, timestep=time * network.config.timestep_scale, **inputs).sample


def call_lumina(
    num_train_timesteps: int, network: Any, x: Tensor, time: Tensor, inputs: dict[str, Tensor], size: Size
) -> Tensor:
    """As `Lumina2Pipeline`: its time runs from noise, 0, to the image, 1, and so does its velocity."""
    return -network(x, timestep=1 - time / num_train_timesteps, **inputs).sample


CALLS = {
    "UNet2DConditionModel": call_unet_with_text,
    "FluxTransformer2DModel": call_flux,
    "ChromaTransformer2DModel": call_chroma,
    "PixArtTransformer2DModel": call_pixart,
    "HunyuanDiT2DModel": call_hunyuan,
    "SanaTransformer2DModel": call_sana,
}
