"""Scores: hand-computed truth for a Gaussian target, then the properties every score must have."""

import numpy as np
import pytest
import torch
from conftest import REFERENCE, GaussianTarget
from safetensors.torch import load_file

from leakgauge.attacks.columns import score_columns
from leakgauge.attacks.naive_loss import image_noise, naive_loss
from leakgauge.attacks.pia import pia, pian
from leakgauge.attacks.registry import score_batch
from leakgauge.attacks.sima import sima
from leakgauge.attacks.t_error import t_errors
from leakgauge.options import Attacks, ReDiffuse, TErrorGrid

ATTACKS = Attacks(
    t_error=TErrorGrid(interval=10, last=40),
    pia=[20],
    pian=[20],
    naive_loss=[20],
    sima=[0, 20],
    rediffuse=ReDiffuse(timesteps=[], stride=20, draws=2),  # test_rediffuse.py
    noise_seed=0,
)


def batch(count: int = 5) -> torch.Tensor:
    return torch.randn(count, 1, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def levels(target: GaussianTarget, t: int) -> tuple[float, float, float]:
    """alpha_t, sigma_t, and c_t with epsilon = c_t (x - alpha_t mu)."""
    alpha, sigma = target.process.alpha[t].item(), target.process.sigma[t].item()
    return alpha, sigma, sigma / (alpha**2 * target.s**2 + sigma**2)


def move(target: GaussianTarget, start: int, end: int) -> float:
    """What a DDIM move multiplies the distance x_t - alpha_t mu by."""
    alpha_a, sigma_a, c_a = levels(target, start)
    alpha_b, sigma_b, _ = levels(target, end)
    return alpha_b * (1 - sigma_a * c_a) / alpha_a + sigma_b * c_a


def test_t_errors_of_a_gaussian_target_follow_the_closed_form(gaussian_target):
    x0, interval, count = batch(), 10, 8
    found = t_errors(gaussian_target, x0, interval, count)
    alpha_0 = levels(gaussian_target, 0)[0]
    distance = (x0 - alpha_0 * gaussian_target.mu).square().sum((1, 2, 3))  # |x_t - alpha_t mu|^2 along the walk
    for n in range(count):
        t = n * interval
        up, down = move(gaussian_target, t, t + interval), move(gaussian_target, t + interval, t)
        torch.testing.assert_close(found[:, n], distance * (1 - up * down) ** 2, rtol=1e-9, atol=0)
        distance = distance * up**2


def test_a_walk_over_n_timesteps_costs_n_calls_beside_the_shared_first(gaussian_target):
    x0 = batch()
    t_errors(gaussian_target, x0, interval=10, count=7, e0=gaussian_target.epsilon(x0, 0))
    assert gaussian_target.calls == 1 + 7


def test_a_score_batch_costs_the_walk_and_one_call_a_timestep_of_the_other_attacks(gaussian_target):
    score_batch(gaussian_target, batch().float(), list("abcde"), ATTACKS)
    assert gaussian_target.calls == 1 + 5 + 1 + 1 + 1 + 2


def test_pia_of_a_gaussian_target_follows_the_closed_form(gaussian_target):
    x0, mu, t = batch(), gaussian_target.mu, 100
    alpha_0, _, c_0 = levels(gaussian_target, 0)
    alpha_t, sigma_t, c_t = levels(gaussian_target, t)
    e0 = c_0 * (x0 - alpha_0 * mu)
    predicted = c_t * (alpha_t * x0 + sigma_t * e0 - alpha_t * mu)
    expected = (e0 - predicted).abs().pow(4).sum((1, 2, 3))
    torch.testing.assert_close(pia(gaussian_target, x0, gaussian_target.epsilon(x0, 0), t), expected)


def test_pian_is_pia_from_noise_of_unit_gaussian_mean_magnitude(gaussian_target):
    x0 = batch()
    e0 = gaussian_target.epsilon(x0, 0)
    rescaled = torch.stack([e / e.abs().mean() * np.sqrt(2 / np.pi) for e in e0])
    torch.testing.assert_close(pian(gaussian_target, x0, e0, 50), pia(gaussian_target, x0, rescaled, 50))


def test_naive_loss_and_sima_of_a_gaussian_target_follow_the_closed_form(gaussian_target):
    x0, mu, t = batch(), gaussian_target.mu, 30
    noise = torch.randn_like(x0)
    alpha, sigma, c = levels(gaussian_target, t)
    loss = (noise - c * (alpha * x0 + sigma * noise - alpha * mu)).square().sum((1, 2, 3))
    torch.testing.assert_close(naive_loss(gaussian_target, x0, noise, t), loss)
    torch.testing.assert_close(sima(gaussian_target, x0, t), (c * (x0 - alpha * mu)).pow(4).sum((1, 2, 3)))


def test_scores_do_not_depend_on_batch_size_or_order(reference_target):
    x0 = load_file(REFERENCE / "inputs.safetensors")["images"]
    ids = [str(i) for i in range(len(x0))]
    whole = score_batch(reference_target, x0, ids, ATTACKS)
    singly = torch.cat([score_batch(reference_target, x0[i : i + 1], ids[i : i + 1], ATTACKS) for i in range(32)])
    order = torch.randperm(len(x0), generator=torch.Generator().manual_seed(1))
    shuffled = score_batch(reference_target, x0[order], [ids[i] for i in order], ATTACKS)
    torch.testing.assert_close(singly, whole, rtol=2e-4, atol=0)
    torch.testing.assert_close(shuffled, whole[order], rtol=2e-4, atol=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_scores_do_not_depend_on_the_device(reference_target):
    from leakgauge.diffusion.denoiser import Denoiser

    on_gpu = Denoiser.from_pipeline(REFERENCE / "target", torch.device("cuda"))
    x0 = load_file(REFERENCE / "inputs.safetensors")["images"]
    ids = [str(i) for i in range(len(x0))]
    expected = score_batch(reference_target, x0, ids, ATTACKS)
    torch.testing.assert_close(score_batch(on_gpu, x0.cuda(), ids, ATTACKS).cpu(), expected, rtol=1e-3, atol=0)


def test_the_noise_of_an_image_belongs_to_its_id_and_timestep_alone():
    shape = (1, 4, 4)
    pair = image_noise(["a", "b"], shape, 20, seed=0)
    assert torch.equal(image_noise(["b"], shape, 20, seed=0)[0], pair[1])
    assert not torch.equal(pair[0], pair[1])
    assert not torch.equal(image_noise(["a"], shape, 30, seed=0)[0], pair[0])
    assert not torch.equal(image_noise(["a"], shape, 20, seed=1)[0], pair[0])


def test_image_noise_is_standard_normal():
    noise = image_noise([str(i) for i in range(200)], (1, 16, 16), 20, seed=0)
    assert abs(noise.mean().item()) < 0.02
    assert abs(noise.std().item() - 1) < 0.02


def test_every_column_has_a_definition_and_its_cost():
    columns = score_columns(ATTACKS)
    assert list(columns) == [
        *(f"t_error_t{t}" for t in (0, 10, 20, 30, 40)),
        *("pia_t20", "pian_t20", "loss_t20", "sima_t0", "sima_t20"),
    ]
    assert columns["t_error_t40"]["network_calls"] == 6  # at 0, 10, ..., 50
    assert all(column["definition"] for column in columns.values())
