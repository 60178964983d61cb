"""A small variational autoencoder, and what it says of an image.

Kingma & Welling, "Auto-Encoding Variational Bayes", ICLR 2014: q(z|x) = N(mean, deviation^2), p(z) = N(0, I),
p(x|z) = N(decoded, s^2 I) with pixels in [0, 1].
"""

import math

import torch
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn

from leakgauge.attacks.naive_loss import image_noise
from leakgauge.options import Options


class VAEOptions(Options):
    """How a VAE is made and trained."""

    latent: PositiveInt
    hidden: PositiveInt  # units of each of the two hidden layers, of either half
    deviation: PositiveFloat  # s, of a pixel given its code
    steps: NonNegativeInt
    batch_size: PositiveInt
    learning_rate: PositiveFloat
    draws: PositiveInt  # of z an image, of the negative ELBO


class VAE(nn.Module):
    """Fully connected.  Images as (B, P) float32 in [0, 1]."""

    def __init__(self, pixels: int, options: VAEOptions) -> None:
        super().__init__()
        self.options = options
        self.encoder = _layers(pixels, options.hidden, 2 * options.latent)
        self.decoder = _layers(options.latent, options.hidden, pixels)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of q(z|x), (B, latent) each."""
        mean, log_variance = self.encoder(x).chunk(2, dim=1)
        return mean, log_variance.clamp(-12, 4)

    def decode(self, z: Tensor) -> Tensor:
        """The mean of p(x|z), (B, P)."""
        return torch.sigmoid(self.decoder(z))

    def negative_elbo(self, x: Tensor, noise: Tensor) -> Tensor:
        """KL(q(z|x) || p(z)) - log p(x|z), in nats, (B,), at z = mean + deviation noise.  noise : (B, latent)."""
        mean, log_variance = self.encode(x)
        decoded = self.decode(mean + (log_variance / 2).exp() * noise)
        return divergence(mean, log_variance) + negative_log_likelihood(x, decoded, self.options.deviation)


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, variance) || N(0, I)) in nats, (B,).  Kingma & Welling, App. B."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1)


def negative_log_likelihood(x: Tensor, decoded: Tensor, deviation: float) -> Tensor:
    """-log N(x; decoded, s^2 I) in nats, (B,).  x, decoded : (B, P)."""
    constant = x.shape[1] * math.log(deviation * math.sqrt(2 * math.pi))
    return (x - decoded).square().sum(dim=1) / (2 * deviation**2) + constant


def train_vae(x: Tensor, options: VAEOptions, seed: int) -> VAE:
    """Maximise the ELBO of some images.  x : (N, P) float32 in [0, 1]."""
    torch.manual_seed(seed)
    model = VAE(x.shape[1], options)
    optimizer = torch.optim.Adam(model.parameters(), lr=options.learning_rate)
    for _ in range(options.steps):
        batch = x[torch.randint(len(x), (options.batch_size,))]
        loss = model.negative_elbo(batch, torch.randn(len(batch), options.latent)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


@torch.inference_mode()
def vae_scores(model: VAE, x: Tensor, ids: list[str]) -> dict[str, Tensor]:
    """Scores of images, (N,) float64 each, lower is more member-like.  x : (N, P) float32 in [0, 1].

    `reconstruction` : the squared error of the image decoded from its mean code.  `negative_elbo` : in nats, averaged
    over draws of z that belong to the image.
    """
    decoded = model.decode(model.encode(x)[0])
    draws = [image_noise(ids, (model.options.latent,), 0, 0, draw).to(x.device) for draw in range(model.options.draws)]
    elbos = torch.stack([model.negative_elbo(x, noise) for noise in draws])  # (draws, N)
    return {
        "reconstruction": (x - decoded).double().square().sum(dim=1),
        "negative_elbo": elbos.double().mean(dim=0),
    }


def _layers(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        *(nn.Linear(inputs, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, outputs))
    )
