"""The autoencoder of a latent diffusion model: images to what the diffusion runs on, always the same way.

Rombach et al., "High-Resolution Image Synthesis with Latent Diffusion Models", CVPR 2022, Sec. 3.1.
"""

from diffusers import AutoencoderKL, VQModel
from torch import Tensor


class Autoencoder:
    """A frozen autoencoder, in float32."""

    def __init__(self, model: AutoencoderKL | VQModel) -> None:
        self.model = model.eval().requires_grad_(False)

    @property
    def factor(self) -> int:
        """Pixels a side that make one latent."""
        return 2 ** (len(self.model.config.block_out_channels) - 1)

    @property
    def channels(self) -> int:
        """Channels of an image."""
        return self.model.config.in_channels

    @property
    def latent_channels(self) -> int:
        """Channels of its latents."""
        config = self.model.config
        return getattr(config, "vq_embed_dim", None) or config.latent_channels  # the former: the codebook's, VQ only

    def encode(self, x: Tensor) -> Tensor:
        """The latents of images: of a KL autoencoder the mode, of a VQ one what comes before quantisation.

        x : (B, C, H, W) float32 in [-1, 1].  Returns (B, latent channels, H / factor, W / factor), scaled as the
        diffusion was trained on it.
        """
        if isinstance(self.model, VQModel):
            latents = self.model.encode(x).latents
        else:
            latents = self.model.encode(x).latent_dist.mode() - self._shift
        return self.model.config.scaling_factor * latents

    def decode(self, latents: Tensor) -> Tensor:
        """Images from latents, the inverse of `encode` as far as there is one."""
        return self.model.decode(latents / self.model.config.scaling_factor + self._shift).sample

    @property
    def _shift(self) -> float:
        return getattr(self.model.config, "shift_factor", None) or 0.0
