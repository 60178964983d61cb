"""A base is compared with its target before it is scored: the same x_t at the same t, or no base of it."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from families import write_family

from leakgauge.diffusion.comparable import difference
from leakgauge.diffusion.denoiser import Denoiser

PIXELS = torch.arange(2 * 64).remainder(256).to(torch.uint8).reshape(2, 1, 8, 8)


def said(target: Path, base: Path, use: str = "none") -> str | None:
    return difference(*(Denoiser.from_pipeline(one, torch.device("cpu")) for one in (target, base)), PIXELS, use)


@pytest.mark.parametrize(
    ("ours", "theirs", "use", "expected"),
    [
        ("epsilon", "v", "none", None),  # the same noise, whatever the network predicts of it
        ("epsilon", "repaint", "none", None),
        ("epsilon", "sample", "none", "another noise schedule"),
        ("v", "zero_snr", "none", "another noise schedule"),
        ("flow", "flow_shifted", "none", "another noise schedule"),
        ("by_class", "epsilon", "given", "it is conditioned on nothing, the target on each image's label"),
        ("by_class", "epsilon", "none", None),
        ("latent_kl", "epsilon", "none", "its x_0 is 1x8x8, the target's "),
    ],
)
def test_a_base_of_another_kind_is_told_by_what_differs(ours, theirs, use, expected, tmp_path):
    found = said(*(write_family(name, tmp_path / str(number)) for number, name in enumerate((ours, theirs))), use)
    assert found == expected if expected is None else expected in found


def test_other_timesteps_are_another_base(tmp_path):
    target, base = (write_family("epsilon", tmp_path / name) for name in ("target", "base"))
    changed(base / "scheduler/scheduler_config.json", num_train_timesteps=500)
    assert said(target, base) == "it has 500 timesteps, the target 1000"


@pytest.mark.parametrize(("scale", "alike"), [(0.7, True), (0.18215, False)])
def test_latents_of_another_scale_are_another_base(scale, alike, tmp_path):
    target, base = (write_family("latent_kl", tmp_path / name) for name in ("target", "base"))
    changed(base / "vqvae/config.json", scaling_factor=scale)
    assert said(target, base) == (None if alike else "its autoencoder gives other latents than the target's")


def test_an_autoencoder_kept_in_half_precision_is_the_same_one(tmp_path):
    target = write_family("latent_kl", tmp_path / "target")
    base = shutil.copytree(target, tmp_path / "base")
    denoiser = Denoiser.from_pipeline(base, torch.device("cpu"))
    denoiser.autoencoder.model.half().save_pretrained(base / "vqvae")
    assert said(target, base) is None


def changed(path: Path, **options: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | options))
