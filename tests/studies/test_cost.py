"""GSA and SecMI-NNs: their parts by hand, and both where the answer is known."""

import functools

import numpy as np
import pytest
import torch
from test_targets import recipe

from leakgauge.attacks.naive_loss import image_noise
from leakgauge.attacks.t_error import t_errors
from leakgauge.diffusion.denoiser import Denoiser
from leakgauge.diffusion.process import NoiseProcess
from leakgauge.inference.roc import auc
from studies.cost.gradients import gradient_norms
from studies.cost.gsa import features, gsa
from studies.cost.secmi_nns import _folds, secmi_nns, step_differences
from studies.targets.trainer import train

CPU, TIMESTEPS, GROUP = torch.device("cpu"), [50, 300, 700], 24


def pixels(count: int) -> torch.Tensor:
    """Images that can only be learnt by heart: (count, 1, 8, 8) uint8 noise."""
    return torch.randint(256, (count, 1, 8, 8), generator=torch.Generator().manual_seed(3), dtype=torch.uint8)


IMAGES = pixels(4 * GROUP)
IDS = [f"image {row}" for row in range(len(IMAGES))]


@functools.cache
def model(start: int, steps: int) -> Denoiser:
    """Trained on the `GROUP` images from `start` on; in `steps` steps."""
    how = recipe(width=8, steps=steps, batch_size=48, warmup_steps=20, ema_decay=0.9)
    rows = slice(start, start + GROUP)
    (trained,) = train(IMAGES[rows], torch.zeros(GROUP, dtype=torch.int64), 1, how, start)
    return Denoiser(trained.network, NoiseProcess.from_scheduler(trained.scheduler), CPU)


@functools.cache
def norms(start: int, steps: int) -> dict[str, np.ndarray]:
    target = model(start, steps)
    return gradient_norms(target, target.encode(IMAGES), IDS, TIMESTEPS, 0)


def told_apart(membership_score: np.ndarray, members: slice, others: slice) -> tuple[float, float, float]:
    return auc(membership_score[members], membership_score[others], 0.999)


def test_norms_are_those_of_plain_backward_passes():
    target = model(0, 3)
    x0 = target.encode(IMAGES[:2])
    found = gradient_norms(target, x0, IDS[:2], TIMESTEPS, 0)
    network = target.network.requires_grad_(True)
    try:
        for row in range(2):
            of_each = []
            for t in TIMESTEPS:
                noise = image_noise(IDS[row : row + 1], (1, 8, 8), t, 0)
                loss = (
                    (target.epsilon(target.process.add_noise(x0[row : row + 1], noise, t), t) - noise).square().mean()
                )
                of_each.append(torch.autograd.grad(loss, list(network.parameters())))
            gsa1 = [torch.stack(pulls).mean(0).norm().item() for pulls in zip(*of_each, strict=True)]
            gsa2 = [torch.stack([pull.norm() for pull in pulls]).mean().item() for pulls in zip(*of_each, strict=True)]
            np.testing.assert_allclose(found["gsa1"][row], gsa1, rtol=1e-3, atol=1e-7)
            np.testing.assert_allclose(found["gsa2"][row], gsa2, rtol=1e-3, atol=1e-7)
    finally:
        network.requires_grad_(False)
    assert (found["gsa1"] <= found["gsa2"] + 1e-9).all(), "the norm of a mean is at most the mean of the norms"


def test_norms_do_not_depend_on_an_images_company():
    target = model(0, 3)
    order = [9, 3, 0, 11]
    alone = gradient_norms(target, target.encode(IMAGES[order]), [IDS[row] for row in order], TIMESTEPS, 0)
    together = gradient_norms(target, target.encode(IMAGES[:12]), IDS[:12], TIMESTEPS, 0)
    np.testing.assert_allclose(alone["gsa2"], together["gsa2"][order], rtol=1e-3, atol=1e-7)


def test_features_have_no_unit_and_no_level():
    plain = np.random.default_rng(0).lognormal(size=(50, 3))
    np.testing.assert_allclose(features(plain), features(plain * [1.0, 1e3, 1e-3]), atol=1e-9)
    assert np.isfinite(features(np.zeros((4, 2)))).all()


def test_trees_find_the_members_that_shadows_taught_them_and_swapped_labels_find_the_others():
    rng = np.random.default_rng(1)
    is_member = np.arange(300) < 100
    shadows = [(np.exp(rng.standard_normal((300, 4)) - 2 * is_member[:, None] * [1, 0, 0, 0]), is_member)] * 3
    target = np.exp(rng.standard_normal((300, 4)) - 2 * is_member[:, None] * [1, 0, 0, 0]) * 50
    right, wrong = (gsa([(x, y if keep else ~y) for x, y in shadows], target, 0) for keep in (True, False))
    assert auc(right[:100], right[100:], 0.95)[0] > 0.85
    assert auc(wrong[:100], wrong[100:], 0.95)[0] < 0.15


def test_the_squares_of_the_differences_sum_to_the_t_error():
    target = model(0, 3)
    x0 = target.encode(IMAGES[:6])
    with torch.inference_mode():
        expected = t_errors(target, x0, 10, 4)[:, 3]
    found = step_differences(target, x0, 30, 10).double().square().flatten(1).sum(1)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)


def test_every_image_is_judged_only_by_networks_that_it_did_not_teach():
    """Labels that nothing tells: whoever were judged by what they taught would come out above chance."""
    rng = np.random.default_rng(0)
    differences, is_member = torch.rand(150, 1, 4, 4), rng.random(150) < 0.5
    membership_score = secmi_nns(differences, is_member, 0)
    _, low, high = auc(membership_score[is_member], membership_score[~is_member], 0.999)
    assert low < 0.5 < high
    fold = _folds(is_member, 0)
    counts = [[int((fold[labels] == number).sum()) for number in range(5)] for labels in (is_member, ~is_member)]
    assert all(max(count) - min(count) <= 1 for count in counts)


@pytest.mark.slow
@pytest.mark.parametrize("sort", ["gsa1", "gsa2"])
def test_gsa_finds_the_members_of_an_overfitted_target_and_nobody_where_the_target_saw_none(sort):
    members, unknown, others = slice(0, GROUP), slice(2 * GROUP, 3 * GROUP), slice(3 * GROUP, 4 * GROUP)
    target, shadows = norms(0, 600)[sort], []
    for start in (GROUP, 2 * GROUP):
        is_member = (np.arange(4 * GROUP) >= start) & (np.arange(4 * GROUP) < start + GROUP)
        pool = np.arange(4 * GROUP) >= GROUP  # no shadow sees the target's members
        shadows.append((norms(start, 600)[sort][pool], is_member[pool]))
    membership_score = gsa(shadows, target, 0)
    assert told_apart(membership_score, members, others)[0] > 0.95
    _, low, high = told_apart(membership_score, unknown, others)
    assert low < 0.5 < high


@pytest.mark.slow
def test_secmi_nns_finds_the_members_of_an_overfitted_target_and_nobody_where_the_target_saw_none():
    target, others = model(0, 600), slice(2 * GROUP, 4 * GROUP)
    differences = step_differences(target, target.encode(IMAGES), 20, 10)
    for members, answer in ((slice(0, GROUP), "near 1"), (slice(GROUP, 2 * GROUP), "chance")):
        rows = np.r_[members, others]
        membership_score = secmi_nns(differences[rows], np.arange(len(rows)) < GROUP, 0)
        value, low, high = auc(membership_score[:GROUP], membership_score[GROUP:], 0.999)
        assert value > 0.95 if answer == "near 1" else low < 0.5 < high
