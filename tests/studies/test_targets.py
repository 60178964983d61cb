"""Models of every process are trained towards what the scores read off them, and privately as the account says."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import REPOSITORY
from torch import nn

from leakgauge.diffusion.denoiser import Denoiser
from leakgauge.errors import InputError
from leakgauge.files import file_hash
from studies.common.population import draw_roles
from studies.targets.objectives import Objective
from studies.targets.private import private_steps
from studies.targets.recipe import Privacy, Recipe, Repeats, read_recipe, targets_of
from studies.targets.teaching import augment, training_set
from studies.targets.trainer import Trained, save, train

PROCESSES = ("ddpm", "v_prediction", "score_sde", "flow")
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def quick_autoencoder(monkeypatch):
    monkeypatch.setattr("studies.targets.autoencoder.STEPS", 10)


def recipe(**changes: object) -> Recipe:
    """That of the base model, small."""
    before = Path.cwd()
    os.chdir(REPOSITORY / "studies")
    try:
        base = read_recipe("ddpm")
    finally:
        os.chdir(before)
    small = {"width": 4, "steps": 4, "batch_size": 8, "warmup_steps": 2, "seeds": [0]}
    return base.model_copy(update={**small, **changes})


def images(count: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(256, (count, 1, 8, 8), generator=generator, dtype=torch.uint8)
    return pixels, torch.arange(count) % 3


def trained(how: Recipe, seed: int = 0) -> list[Trained]:
    return list(train(*images(), 3, how, seed))


class Point(nn.Module):
    """The ideal network for data that is one image, x_0 = c everywhere: it knows epsilon = (x_t - alpha c) / sigma."""

    def __init__(self, process: str, c: float) -> None:
        super().__init__()
        self.objective, self.c = Objective(process), c

    def forward(self, x, timestep):
        place = (self.objective.times[None] - timestep[:, None]).abs().argmin(1)
        alpha, sigma = (
            level[place].float().view(-1, 1, 1, 1)
            for level in (self.objective.process.alpha, self.objective.process.sigma)
        )
        epsilon = (x - alpha * self.c) / sigma
        said = {
            "ddpm": epsilon,
            "v_prediction": alpha * epsilon - sigma * self.c,
            "score_sde": -epsilon / sigma,
            "flow": epsilon - self.c,
        }[self.objective.name]
        return type("Output", (), {"sample": said})


@pytest.mark.parametrize("process", PROCESSES)
def test_the_ideal_network_of_a_known_image_loses_nothing_and_of_another_image_something(process):
    x0 = torch.full((64, 1, 4, 4), 0.3)
    torch.manual_seed(0)
    right = Objective(process).losses(Point(process, 0.3), x0, None)
    wrong = Objective(process).losses(Point(process, 0.5), x0, None)
    assert right.shape == (64,)
    assert right.max() < 1e-4
    assert wrong.mean() > 1e-2


@pytest.mark.parametrize("process", PROCESSES)
def test_what_training_calls_an_error_is_an_error_of_the_epsilon_that_the_scores_read(process, tmp_path):
    (model,) = trained(recipe(process=process))
    save(model, tmp_path / "model")
    target, objective = Denoiser.from_pipeline(tmp_path / "model", CPU), Objective(process)
    x0, noise = torch.linspace(-1, 1, 64).view(1, 1, 8, 8), torch.randn(1, 1, 8, 8)
    t = 300
    torch.manual_seed(5)
    x0 = x0.expand(500, -1, -1, -1)
    with torch.no_grad():
        asked = objective.losses(model.network, x0, None)  # at 500 timesteps
    torch.manual_seed(5)
    noise = torch.randn_like(x0)
    times = torch.randint(1000, (500,))
    for row in range(3):
        t, alpha = int(times[row]), objective.process.alpha[int(times[row])].item()
        x = objective.process.add_noise(x0[row : row + 1], noise[row : row + 1], t)
        error = (target.epsilon(x, t) - noise[row]).square().mean().item()
        factor = {"v_prediction": alpha**-2, "flow": alpha**-2}.get(process, 1.0)
        assert asked[row].item() == pytest.approx(factor * error, rel=1e-3)


@pytest.mark.parametrize("changes", [{"network": "dit"}, {"latent": True}], ids=["dit", "latent"])
def test_other_networks_can_be_scored_as_they_are_saved(changes, tmp_path):
    (model,) = trained(recipe(**changes))
    save(model, tmp_path / "model")
    target = Denoiser.from_pipeline(tmp_path / "model", CPU)
    target.check_images(tmp_path, 1, 8, 8)
    bound = target.with_condition(target.conditioning_of([0, 1], [None, None], "given"))
    x0 = bound.encode(images()[0][:2])
    assert bound.epsilon(x0, 100).shape == x0.shape


def test_latents_have_unit_deviation(tmp_path):
    (model,) = trained(recipe(latent=True))
    save(model, tmp_path / "model")
    target = Denoiser.from_pipeline(tmp_path / "model", CPU)
    assert target.encode(images()[0]).std().item() == pytest.approx(1, abs=0.02)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path):
    for name, seed in {"one": 0, "same": 0, "other": 1}.items():
        save(trained(recipe(dropout=0.2, flip=True, shift=1), seed)[0], tmp_path / name)
    assert file_hash(tmp_path / "one") == file_hash(tmp_path / "same") != file_hash(tmp_path / "other")


def test_a_snapshot_is_what_an_earlier_stop_would_have_left(tmp_path):
    early = trained(recipe(steps=3))[0]
    snapshot, last = trained(recipe(steps=6, snapshots=[3]))
    assert (snapshot.step, last.step) == (3, 6)
    save(early, tmp_path / "early")
    save(snapshot, tmp_path / "snapshot")
    save(last, tmp_path / "last")
    assert file_hash(tmp_path / "early") == file_hash(tmp_path / "snapshot") != file_hash(tmp_path / "last")


def test_training_lowers_the_loss():
    fast = recipe(width=8, steps=150, batch_size=16, ema_decay=0.9)
    first, last = trained(fast.model_copy(update={"snapshots": [1]}))
    x0 = images()[0].float() / 127.5 - 1
    losses = []
    for model in (first, last):
        torch.manual_seed(0)
        with torch.no_grad():
            losses.append(Objective("ddpm").losses(model.network, x0.repeat(20, 1, 1, 1), None).mean().item())
    assert losses[1] < 0.7 * losses[0]


def test_the_first_members_stand_there_as_often_as_asked():
    x0, labels = torch.arange(10.0).view(10, 1, 1, 1), torch.arange(10)
    repeated, told = training_set(x0, labels, recipe(repeats=Repeats(share=0.2, times=3)))
    assert repeated.flatten().tolist() == [0, 0, 0, 1, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert told.tolist() == repeated.flatten().int().tolist()


def test_crops_move_an_image_by_at_most_so_many_pixels_and_repeat_its_edge():
    image = torch.arange(16.0).view(1, 1, 4, 4)
    padded = torch.nn.functional.pad(image, (1, 1, 1, 1), mode="replicate")
    windows = [padded[..., r : r + 4, c : c + 4] for r in range(3) for c in range(3)]
    torch.manual_seed(0)
    moved = augment(image.expand(200, -1, -1, -1), recipe(shift=1))
    seen = [[torch.equal(one[None], window) for window in windows].index(True) for one in moved]
    assert set(seen) == set(range(9))


def test_mirror_images_come_half_of_the_time():
    image = torch.arange(16.0).view(1, 1, 4, 4)
    torch.manual_seed(0)
    shown = augment(image.expand(400, -1, -1, -1), recipe(flip=True))
    mirrored = sum(torch.equal(one[None], image.flip(3)) for one in shown)
    assert 150 < mirrored < 250
    assert all(torch.equal(one[None], image) or torch.equal(one[None], image.flip(3)) for one in shown)


def test_the_accountant_tells_no_more_than_the_epsilon_asked_for_and_less_before_the_end():
    how = recipe(steps=6, snapshots=[2], privacy=Privacy(epsilon=3.0, delta=1e-3, clip=0.5))
    early, last = trained(how)
    assert 0 < early.epsilon < last.epsilon <= 3.0
    assert last.epsilon > 2.5


def test_without_noise_nothing_is_promised():
    (model,) = trained(recipe(privacy=Privacy(epsilon=None, delta=1e-3, clip=0.5)))
    assert model.epsilon is None


def test_one_image_moves_a_private_step_by_no_more_than_its_clipped_gradient():
    """Losses are one linear weight times what an image is worth: gradients are known, so is the clipped sum."""
    network = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(network.weight)
    worth = torch.tensor([1e6, 0.25, 0.25, 0.25])
    how = recipe(steps=1, batch_size=4, learning_rate=1e-3, privacy=Privacy(epsilon=None, delta=1e-3, clip=0.5))
    gradients = []

    def losses(model, rows):
        return model(worth[rows][:, None])[:, 0]

    network.weight.register_hook(lambda gradient: gradients.append(gradient))
    steps = private_steps(network, losses, 4, how, 0)
    next(steps)
    clipped = network.weight.summed_grad.item()  # before the optimizer divides it by the batch
    assert clipped == pytest.approx(0.5 + 3 * 0.25, rel=1e-3)


def test_roles_do_not_overlap_and_copies_of_members_are_left_out():
    hashes = np.array([f"image {row % 45}" for row in range(50)])  # the last five are copies of the first
    shares = recipe().shares.model_copy(update={"member": 20, "auxiliary": 10})
    for seed in range(5):
        roles = draw_roles(hashes, shares, seed)
        rows = np.concatenate(list(roles.values()))
        assert len(set(rows)) == len(rows)
        assert not set(hashes[roles["member"]]) & set(hashes[np.r_[roles["auxiliary"], roles["holdout"]]])


def test_a_shadow_is_trained_on_auxiliary_images_of_the_target_and_on_no_others():
    hashes = np.array([f"image {row}" for row in range(60)])
    shares = recipe().shares.model_copy(update={"member": 10, "auxiliary": 30})
    target = draw_roles(hashes, shares, 7)
    shadows = [draw_roles(hashes, shares.model_copy(update={"of_auxiliary": 7}), seed) for seed in range(3)]
    for shadow in shadows:
        assert set(shadow["member"]) | set(shadow["auxiliary"]) == set(target["auxiliary"])
        assert len(shadow["member"]) == 10
        assert not len(shadow["holdout"])
    assert set(shadows[0]["member"]) != set(shadows[1]["member"])


def test_too_few_images_are_one_line_that_names_the_key():
    shares = recipe().shares.model_copy(update={"member": 20, "auxiliary": 30})
    with pytest.raises(InputError, match=r"params.yaml: model.shares: 50 images are too few"):
        draw_roles(np.arange(50).astype(str), shares, 0)


def test_models_are_listed_by_seed_and_step():
    how = recipe(seeds=[3, 5], steps=9, snapshots=[2])
    assert [target.folder.as_posix() for target in targets_of("x", how, last_only=False)] == [
        *("models/x/3/2", "models/x/3/9", "models/x/5/2", "models/x/5/9")
    ]
    assert [target.step for target in targets_of("x", how, last_only=True)] == [9, 9]
