"""The VAE by closed forms, and its scores where the answer is known."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from leakgauge.inference.roc import auc
from studies.beyond.vae import VAE, VAEOptions, divergence, negative_log_likelihood, train_vae, vae_scores

HOW = VAEOptions(latent=4, hidden=64, deviation=0.1, steps=0, batch_size=32, learning_rate=2e-3, draws=4)
DRAWN = np.random.default_rng(0).permutation(1797)[:340]
X = torch.from_numpy(load_digits().images[DRAWN].reshape(340, -1)).float() / 16
IDS = [f"image {row}" for row in range(len(X))]


def test_the_divergence_is_that_of_two_gaussians():
    mean, log_variance = torch.randn(5, 3), torch.randn(5, 3)
    known = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(divergence(mean, log_variance), known)
    assert divergence(torch.zeros(1, 3), torch.zeros(1, 3)).item() == 0


def test_the_likelihood_is_that_of_independent_gaussian_pixels():
    x, decoded = torch.rand(5, 7), torch.rand(5, 7)
    known = -MultivariateNormal(decoded, 0.3**2 * torch.eye(7)).log_prob(x)
    torch.testing.assert_close(negative_log_likelihood(x, decoded, 0.3), known, rtol=1e-4, atol=1e-4)


def test_the_elbo_is_the_likelihood_where_codes_tell_nothing_and_never_above_it():
    model = VAE(64, HOW)
    for half in (model.encoder, model.decoder):
        torch.nn.init.zeros_(half[-1].weight)
        torch.nn.init.zeros_(half[-1].bias)
    exact = negative_log_likelihood(X, torch.full_like(X, 0.5), 0.1)
    torch.testing.assert_close(model.negative_elbo(X, torch.randn(len(X), 4)), exact)
    torch.nn.init.ones_(model.encoder[-1].bias)  # codes that still tell nothing, but cost nats
    assert (model.negative_elbo(X, torch.randn(len(X), 4)) > exact).all()


def test_a_score_belongs_to_the_image_whoever_is_scored_beside_it():
    model = train_vae(X[:20], HOW, 0)
    alone, together = vae_scores(model, X[7:9], IDS[7:9]), vae_scores(model, X, IDS)
    for name in alone:
        torch.testing.assert_close(alone[name], together[name][7:9], rtol=1e-5, atol=1e-5)


def test_the_seed_decides():
    first, again, other = (train_vae(X[:20], HOW.model_copy(update={"steps": 5}), seed) for seed in (0, 0, 1))
    weights = [torch.cat([w.flatten() for w in model.parameters()]) for model in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize("score", ["reconstruction", "negative_elbo"])
def test_an_untrained_vae_tells_nobody_and_an_overfitted_one_its_members(score):
    for steps in (0, 1500):
        scores = vae_scores(train_vae(X[:40], HOW.model_copy(update={"steps": steps}), 0), X, IDS)[score].numpy()
        value, low, high = auc(-scores[:40], -scores[40:], 0.999)
        assert value > 0.95 if steps else low < 0.5 < high
