"""Training the target: real learning, resumable to the byte, never resumed from another configuration."""

from pathlib import Path

import pytest
import torch
from conftest import tiny_params, write_params
from diffusers import DDPMScheduler

from leakgauge.attacks.t_error import t_errors
from leakgauge.config import section
from leakgauge.diffusion import training
from leakgauge.diffusion.denoiser import Denoiser, to_unit_range
from leakgauge.diffusion.process import NoiseProcess
from leakgauge.diffusion.training import make_unet, train
from leakgauge.files import file_hash, resumable
from leakgauge.inference.roc import auc
from leakgauge.options import TargetOptions, Training
from leakgauge.tables import decode_images, read_table
from stages.target import target as make_target

TARGET = "digits_ddpm"


@pytest.fixture
def options(audit) -> Training:
    return section("target", TargetOptions, TARGET)


def pixels() -> torch.Tensor:
    return torch.randint(0, 255, (20, 1, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


def weights(pipeline) -> torch.Tensor:
    return torch.cat([weight.flatten() for weight in pipeline.unet.parameters()])


class KilledError(Exception):
    pass


def train_killed_after(step: int, options: Training, folder: Path, monkeypatch) -> None:
    original = training._Run.step

    def stop(run, number):
        if number == step:
            raise KilledError
        original(run, number)

    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(training._Run, "step", stop)
        train(pixels(), options, folder)


def test_resumed_training_ends_in_the_same_bytes(options, tmp_path, monkeypatch):
    whole, losses = train(pixels(), options, tmp_path)
    resumed = tmp_path / "resumed"
    resumed.mkdir()
    train_killed_after(10, options, resumed, monkeypatch)
    assert (resumed / "checkpoint.safetensors").exists()
    steps, original = [], training._Run.step
    monkeypatch.setattr(training._Run, "step", lambda run, step: (steps.append(step), original(run, step)))
    again, losses_again = train(pixels(), options, resumed)
    assert steps == list(range(8, 12)), "on from the checkpoint at 8, not from the start"
    assert torch.equal(weights(whole), weights(again))
    assert torch.equal(losses, losses_again)


def test_the_loss_falls(options, tmp_path):
    longer = options.model_copy(update={"steps": 150, "checkpoint_every": 150, "warmup_steps": 5})
    _, losses = train(pixels(), longer, tmp_path)
    assert losses[-20:].mean() < 0.7 * losses[:20].mean()


def test_every_epoch_sees_every_image_once(options):
    run = training._Run(pixels(), options.model_copy(update={"batch_size": 8}))
    stream = torch.cat([run._batch(step) for step in range(5)])  # 40 draws of 20 images
    assert sorted(stream[:20].tolist()) == sorted(stream[20:].tolist()) == list(range(20))


def test_an_untrained_unet_is_the_same_for_the_same_seed(options):
    first, second = (make_unet(options, 1, (8, 8)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_work_is_kept_on_failure_removed_on_success_and_never_shared_by_another_configuration(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = tmp_path / "input"
    data.write_text("a")
    folders = []
    for config in ({"lr": 1}, {"lr": 2}):
        with pytest.raises(KilledError), resumable("stage@x", config, [data]) as folder:
            (folder / "shard").write_text("done")
            folders.append(folder)
            raise KilledError
    data.write_text("b")
    with pytest.raises(KilledError), resumable("stage@x", {"lr": 1}, [data]) as folder:
        folders.append(folder)
        raise KilledError
    data.write_text("a")
    assert len(set(folders)) == 3
    with resumable("stage@x", {"lr": 1}, [data]) as folder:
        assert (folder / "shard").read_text() == "done"
    assert not folder.parent.exists()


def test_a_changed_parameter_does_not_resume_from_the_old_checkpoint(audit, monkeypatch):
    seen = []
    monkeypatch.setattr(training._Run, "load", lambda run, path: seen.append(path) or 0)
    with monkeypatch.context() as patch:
        patch.setattr("stages.target.place_folder", lambda *_: (_ for _ in ()).throw(KilledError))
        with pytest.raises(KilledError):
            make_target(TARGET)  # leaves its checkpoint behind
    params = tiny_params()
    params["target"]["learning_rate"] = 2e-3
    write_params(params)
    make_target(TARGET)
    assert not seen


def test_an_untrained_target_is_at_chance(audit, options):
    process = NoiseProcess.from_scheduler(DDPMScheduler())
    target = Denoiser(make_unet(options, 1, (8, 8)), process, torch.device("cpu"))
    x0 = to_unit_range(torch.from_numpy(decode_images(read_table(Path("data/images/digits.parquet")))))
    with torch.inference_mode():
        score = t_errors(target, x0, 10, 3)[:, 2].numpy()
    order = torch.randperm(len(x0), generator=torch.Generator().manual_seed(0)).numpy()
    area, low, high = auc(-score[order[:800]], -score[order[800:]], 0.999)
    assert low < 0.5 < high
    assert 0.45 < area < 0.55


def test_training_the_same_target_twice_gives_the_same_folder(audit):
    before = file_hash(Path(f"models/target/{TARGET}"))
    make_target(TARGET)
    assert file_hash(Path(f"models/target/{TARGET}")) == before
