"""What an attacker is shown of a model: rounded weights, noisy predictions."""

import pytest
import torch
from torch import nn

from studies.common.scoring import NoisyDenoiser, open_view, round_weights
from studies.common.views import View


def test_rounded_weights_are_the_nearest_of_so_many_even_levels():
    layer = nn.Linear(4, 1, bias=False)
    layer.weight.data = torch.tensor([[-1.0, 0.2, 0.4, 0.9]])
    round_weights(layer, 3)  # levels -1, -2/3, ..., 1
    assert layer.weight.flatten().tolist() == pytest.approx([-1, 1 / 3, 1 / 3, 1])
    layer.weight.data = torch.tensor([[-1.0, 0.2, 0.4, 0.9]])
    round_weights(layer, 2)  # -1, 0, 1
    assert layer.weight.flatten().tolist() == [-1, 0, 0, 1]


def test_rounding_twice_is_rounding_once_and_zeros_stay():
    layer = nn.Linear(8, 8)
    layer.bias.data.zero_()
    round_weights(layer, 5)
    once = layer.weight.clone()
    assert len(once.unique()) <= 31
    round_weights(layer, 5)
    assert torch.allclose(layer.weight, once)
    assert not layer.bias.any()


def test_a_plain_view_is_the_model_itself_and_fewer_bits_are_farther_from_it(family):
    folder = family("epsilon")
    x = torch.linspace(-1, 1, 128).view(2, 1, 8, 8)
    shown = {bits: open_view(folder, View(of="ddpm", bits=bits)).epsilon(x, 50) for bits in (None, 12, 8, 3)}
    errors = [(shown[bits] - shown[None]).abs().mean().item() for bits in (12, 8, 3)]
    assert 0 < errors[0] < errors[1] < errors[2]


def test_noise_has_the_deviation_asked_for_is_fresh_at_every_call_and_comes_from_the_seed(family):
    folder, x = family("epsilon"), torch.zeros(500, 1, 8, 8)
    plain = open_view(folder, View(of="ddpm"))
    noisy, again = (open_view(folder, View(of="ddpm", noise=0.3)) for _ in range(2))
    assert isinstance(noisy, NoisyDenoiser)
    added = noisy.epsilon(x, 50) - plain.epsilon(x, 50)
    assert added.std().item() == pytest.approx(0.3, rel=0.03)
    assert torch.equal(noisy.epsilon(x, 50), [again.epsilon(x, 50), again.epsilon(x, 50)][1])
    assert not torch.equal(added, noisy.epsilon(x, 50) - plain.epsilon(x, 50))


def test_a_noisy_denoiser_is_noisy_also_in_what_is_bound_to_it(family):
    noisy = open_view(family("by_class"), View(of="ddpm", noise=0.3))
    bound = noisy.with_condition(torch.tensor([0, 1]))
    assert isinstance(bound, NoisyDenoiser)
    x = torch.zeros(2, 1, 8, 8)
    assert not torch.equal(bound.epsilon(x, 50), bound.epsilon(x, 50))
