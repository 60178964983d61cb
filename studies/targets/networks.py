"""Small networks of diffusers for small images."""

import math

from diffusers import AutoencoderKL, DiTTransformer2DModel, ModelMixin, UNet2DModel

from leakgauge.config import PARAMS
from leakgauge.errors import InputError
from studies.targets.recipe import Recipe

HEADS, LAYERS, PATCH = 4, 4, 2  # of the DiT
LATENT_CHANNELS = 4
FOURIER_SCALE = 1.0  # of the noise level's random features; diffusers' 16 suits runs of a million steps


def make_network(recipe: Recipe, channels: int, height: int, width: int, classes: int) -> ModelMixin:
    """An untrained network for x_0 of (channels, height, width).  classes : that a DiT is told apart."""
    if height != width or height % 2:
        raise InputError(f"{PARAMS}: population.dataset: needs square images of an even side, not {width}x{height}")
    if recipe.network == "dit":
        return DiTTransformer2DModel(
            num_attention_heads=HEADS,
            attention_head_dim=recipe.width,
            in_channels=channels,
            out_channels=channels,
            num_layers=LAYERS,
            sample_size=height,
            patch_size=PATCH,
            num_embeds_ada_norm=classes,
        )
    widths = (recipe.width, 2 * recipe.width)
    network = UNet2DModel(
        sample_size=height,
        in_channels=channels,
        out_channels=channels,
        layers_per_block=1,
        block_out_channels=widths,
        down_block_types=("DownBlock2D",) * 2,
        up_block_types=("UpBlock2D",) * 2,
        norm_num_groups=math.gcd(*widths, 8),
        add_attention=False,
        dropout=recipe.dropout,
        # a score network is told sigma itself, takes its logarithm, and divides what it says by it
        time_embedding_type="fourier" if recipe.process == "score_sde" else "positional",
    )
    if recipe.process == "score_sde":
        network.time_proj.weight.data *= FOURIER_SCALE / 16  # of 16, neighbouring noise levels look unrelated
    return network


def make_autoencoder(channels: int, size: int) -> AutoencoderKL:
    """An untrained autoencoder that halves the sides."""
    return AutoencoderKL(
        in_channels=channels,
        out_channels=channels,
        sample_size=size,
        latent_channels=LATENT_CHANNELS,
        block_out_channels=(16, 32),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=8,
        mid_block_add_attention=False,
    )
