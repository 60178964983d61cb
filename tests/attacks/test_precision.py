"""A precision is measured against plain float32 before scoring, and refused above the tolerance, or where it fails."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import REPOSITORY, tiny_params, write_params
from diffusers import AutoencoderKL, UNet2DModel
from families import TEXTS, put_target

from leakgauge.attacks.scorer import Job, Scorer, moved_by_precision
from leakgauge.compute import best_device
from leakgauge.diffusion.denoiser import PLAIN, Denoiser
from leakgauge.errors import InputError
from leakgauge.files import file_hash
from leakgauge.options import Score
from leakgauge.scoring import score_options
from leakgauge.tables import ROLES, read_metadata, read_table
from stages.evaluate import evaluate
from stages.score import score

TARGET = "digits_ddpm"
SCORES = Path(f"data/scores/{TARGET}/holdout.parquet")


def ask_for(**options: object) -> None:
    """Set options of section `score`."""
    params = tiny_params()
    params["score"] |= options
    write_params(params)


def scorer() -> Scorer:
    """What scores the holdout with the options of the working directory."""
    images = Path(f"data/roles/{TARGET}/holdout.parquet")
    return Scorer(Job(TARGET, Path(f"models/target/{TARGET}"), images, score_options(TARGET)), best_device())


def scored(**options: object) -> tuple[np.ndarray, dict[str, Any]]:
    """The scores of the holdout with these options, (N, columns), and what is said of them."""
    ask_for(**options)
    score(TARGET, "holdout")
    return read_table(SCORES).drop_columns("image_id").to_pandas().to_numpy(), read_metadata(SCORES)


def test_a_layout_that_changes_only_the_order_of_sums_is_within_the_tolerance(audit):
    _, said = scored()
    assert said["precision"] == PLAIN.model_dump() | {"channels_last": True}
    assert said["moved_by_precision"] < 1e-3


def test_a_precision_that_moves_scores_is_refused_with_the_figures_and_old_scores_stay(audit, refusal):
    ask_for(precision="bfloat16")
    before, moved = file_hash(SCORES), moved_by_precision(scorer())
    line = refusal(score, target=TARGET, role="holdout")
    assert f"params.yaml: a score moves by {moved:.2g} of itself with score.channels_last: True and " in line
    assert "score.precision: bfloat16, which is more than score.tolerance: 0.001" in line
    assert file_hash(SCORES) == before


def test_a_layout_that_moves_scores_of_nearly_nothing_is_refused_by_its_name(family, tmp_path, monkeypatch, refusal):
    """The first t-errors of an EDM are some 1e-11: the squared difference of images that are nearly alike."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(family("edm"), "models/target/theirs")
    put_target(Path("theirs"))
    line = refusal(score, target="theirs", role="member")
    assert "of itself with score.channels_last: True, which is more than score.tolerance: 0.001" in line
    put_target(Path("theirs"), channels_last=False)
    score("theirs", "member")


def test_the_tolerance_decides(audit, refusal):
    ask_for(precision="bfloat16")
    moved = moved_by_precision(scorer())
    _, said = scored(precision="bfloat16", tolerance=moved * 1.01)
    assert said["precision"]["precision"] == "bfloat16"
    assert said["moved_by_precision"] == moved
    ask_for(precision="bfloat16", tolerance=moved * 0.99)
    assert "more than score.tolerance" in refusal(score, target=TARGET, role="holdout")


def test_what_a_target_overrides_is_named_with_the_target(audit, refusal):
    params = tiny_params()
    params["targets"][TARGET]["score"] = {"precision": "bfloat16", "tolerance": 1e-4}
    write_params(params)
    line = refusal(score, target=TARGET, role="holdout")
    assert f"score.channels_last: True and targets.{TARGET}.score.precision: bfloat16" in line
    assert f"more than targets.{TARGET}.score.tolerance: 0.0001" in line


def test_a_precision_that_does_not_work_here_is_refused_in_one_line(audit, tmp_path):
    ask_for(compile=True)
    before = file_hash(SCORES)
    none = {"CXX": str(tmp_path / "no_compiler"), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-m", "stages.score", TARGET, "holdout"],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)} | none,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "params.yaml: score.channels_last: True and score.compile: True: does not work here: " in line
    assert "no_compiler" in line
    assert file_hash(SCORES) == before


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_tf32_is_not_called_harmless_where_it_does_nothing(audit, refusal):
    ask_for(precision="tf32")
    line = refusal(score, target=TARGET, role="holdout")
    assert "params.yaml: score.precision: tf32 does nothing on a CPU" in line


def test_scores_are_computed_with_tf32_although_it_was_measured_against_plain_float32(audit):
    """Whether products take tf32 is set for the whole process; a CPU reads the setting, but does not follow it."""
    ask_for(precision="tf32")
    precise, images = scorer(), 4
    options = precise.job.options.model_copy(update=PLAIN.model_dump())
    plain = Scorer(replace(precise.job, options=options), best_device())
    seen = []
    for one in (precise, plain):
        one.denoiser.network.register_forward_pre_hook(
            lambda *_: seen.append((torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32))
        )
    for one, expected in ((precise, True), (plain, False), (precise, True)):
        seen.clear()
        one.score(one.read(0, images))
        assert set(seen) == {(expected, expected)}
    precise.null_scores(np.arange(images), 0)
    precise.score(precise.read(0, images))
    assert set(seen) == {(True, True)}


def test_where_nothing_is_asked_for_nothing_is_tried(audit, monkeypatch):
    ask_for(channels_last=False)
    with monkeypatch.context() as patch:
        patch.setattr(Scorer, "score", None)
        assert moved_by_precision(scorer()) == 0
    _, said = scored(channels_last=False)
    assert said["precision"] == PLAIN.model_dump()
    assert said["moved_by_precision"] == 0


def test_scores_are_computed_with_the_precision_that_was_asked_for(audit):
    plain, _ = scored(channels_last=False)
    moved, said = scored(precision="bfloat16", tolerance=1e6)
    largest = np.abs(moved / plain - 1).max()
    assert 1e-3 < largest < 1e6
    assert said["moved_by_precision"] == pytest.approx(np.abs(moved[:32] / plain[:32] - 1).max())


def test_all_roles_are_scored_with_one_precision_and_the_figures_say_how_far_it_moved_any(audit):
    ask_for(precision="bfloat16", tolerance=1e6)
    for role in ROLES:
        score(TARGET, role)
    said = {role: read_metadata(Path(f"data/scores/{TARGET}/{role}.parquet")) for role in ROLES}
    assert len({json.dumps(facts["precision"]) for facts in said.values()}) == 1
    evaluate(TARGET)
    details = json.loads(Path(f"metrics/details/{TARGET}.json").read_text())
    assert details["moved_by_precision"] == max(said[role]["moved_by_precision"] for role in ("member", "holdout"))


@pytest.mark.parametrize("name", ["epsilon", "v", "latent_kl", "by_class", "dit", "text"])
def test_channels_last_changes_no_score_of_any_family(name, family):
    x = torch.randint(0, 256, (3, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    epsilon = []
    for channels_last in (False, True):
        precision = PLAIN.model_copy(update={"channels_last": channels_last})
        target = Denoiser.from_pipeline(family(name), torch.device("cpu"), precision)
        bound = target.with_condition(target.conditioning_of([0, 1, 2], ["a", "b", "c"], "given"))
        epsilon.append(bound.epsilon(bound.encode(x), 100))
    torch.testing.assert_close(epsilon[1].contiguous(), epsilon[0], rtol=1e-4, atol=1e-5)


def test_the_network_is_laid_out_as_asked(family):
    precision = PLAIN.model_copy(update={"channels_last": True})
    target = Denoiser.from_pipeline(family("epsilon"), torch.device("cpu"), precision)
    assert target.network.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    assert target.encode(torch.zeros(2, 3, 8, 8, dtype=torch.uint8)).is_contiguous(memory_format=torch.channels_last)


def epsilon_of(folder: Path, **options: object) -> tuple[torch.Tensor, Denoiser]:
    """What a pipeline says of three images at t = 100, run as asked."""
    target = Denoiser.from_pipeline(folder, torch.device("cpu"), PLAIN.model_copy(update=options))
    channels, rows, columns = target.x0_shape(16, 16)
    colours = target.autoencoder.channels if target.autoencoder else channels
    shape = 3, colours, rows * target.factor, columns * target.factor
    x = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    bound = target.with_condition(target.conditioning_of([0, 1, 2], ["a", "b", "c"], "given"))
    with torch.inference_mode():
        return bound.epsilon(bound.encode(x), 100), target


@pytest.mark.parametrize("name", ["epsilon", "learned_variance", "by_class", "dit", "latent_tiny", *TEXTS])
@pytest.mark.parametrize(("precision", "digits"), [("bfloat16", 8), ("float16", 11)])
def test_low_weights_run_every_network_in_one_type_and_move_its_noise_by_their_rounding(
    name, precision, digits, family
):
    exact, _ = epsilon_of(family(name))
    moved, target = epsilon_of(family(name), precision=precision, low_weights=True)
    assert {weight.dtype for weight in target.network.parameters()} == {getattr(torch, precision)}
    assert moved.dtype == torch.float32
    assert 0 < float((moved - exact).norm() / exact.norm()) < 16 * 2.0**-digits


def test_low_weights_are_run_as_diffusers_runs_them(family):
    said, target = epsilon_of(family("epsilon"), precision="bfloat16", low_weights=True)
    network = UNet2DModel.from_pretrained(family("epsilon"), subfolder="unet", torch_dtype=torch.bfloat16)
    x = torch.randint(0, 256, (3, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = network(target.encode(x).to(torch.bfloat16), torch.full((3,), 100)).sample.float()
    torch.testing.assert_close(said, expected, rtol=0, atol=0)


def test_weights_that_a_low_type_cannot_hold_are_refused_with_its_name(family, tmp_path):
    folder = shutil.copytree(family("epsilon"), tmp_path / "large")
    network = UNet2DModel.from_pretrained(folder, subfolder="unet")
    network.conv_in.weight.data.mul_(1e9)
    network.save_pretrained(folder / "unet")
    epsilon_of(folder, precision="bfloat16", low_weights=True)
    with pytest.raises(InputError, match=r"unet weights are not finite .* in 'conv_in.weight', as float16"):
        epsilon_of(folder, precision="float16", low_weights=True)


@pytest.mark.parametrize("name", ["epsilon", "dit", "text", "sdxl", "sd3", "flux", "pixart", "sana"])
def test_a_network_that_waits_in_main_memory_gives_the_same_bytes(name, family):
    exact, _ = epsilon_of(family(name))
    offloaded, target = epsilon_of(family(name), offload=True)
    assert torch.equal(offloaded, exact)
    assert any(hasattr(layer, "_diffusers_hook") for layer in target.network.modules()), "its layers are moved"


def test_what_is_scored_with_low_weights_is_measured_against_float32_and_recorded(audit, refusal):
    ask_for(precision="bfloat16", low_weights=True)
    line = refusal(score, target=TARGET, role="holdout")
    assert "score.precision: bfloat16 and score.low_weights: True, which is more than score.tolerance" in line
    plain, _ = scored(channels_last=False)
    moved, said = scored(precision="bfloat16", low_weights=True, tolerance=1e6)
    assert said["precision"]["low_weights"] is True
    assert said["moved_by_precision"] == pytest.approx(np.abs(moved[:32] / plain[:32] - 1).max())


def test_scores_of_a_network_that_waits_are_the_same(audit):
    plain, before = scored(channels_last=False)
    offloaded, said = scored(channels_last=False, offload=True)
    np.testing.assert_array_equal(offloaded, plain)
    assert said["precision"]["offload"] is True
    assert before["moved_by_precision"] == said["moved_by_precision"] == 0, "exact, so it is not tried"


def test_options_that_do_not_go_together_are_refused_in_one_line(audit, capsys):
    for options, why in (
        ({"low_weights": True}, "low_weights: true needs precision: bfloat16 or float16, not float32"),
        ({"offload": True, "compile": True}, "offload: true and compile: true do not go together"),
    ):
        with pytest.raises(ValueError, match=why):
            Score(**options)


def test_an_autoencoder_takes_large_images_in_tiles_as_diffusers_does(family):
    x = torch.randint(0, 256, (2, 1, 24, 24), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    encoded = {}
    for tiling in (False, True):
        precision = PLAIN.model_copy(update={"tiling": tiling})
        encoded[tiling] = Denoiser.from_pipeline(family("latent_kl"), torch.device("cpu"), precision).encode(x)
    vae = AutoencoderKL.from_pretrained(family("latent_kl"), subfolder="vqvae")
    vae.enable_tiling()
    with torch.inference_mode():
        expected = vae.config.scaling_factor * vae.encode(x.float() / 127.5 - 1).latent_dist.mode()
    torch.testing.assert_close(encoded[True], expected)
    assert not torch.allclose(encoded[True], encoded[False], rtol=1e-3), "seams"


@pytest.mark.parametrize("name", ["epsilon", "latent_vq"])
def test_tiling_without_an_autoencoder_that_has_it_is_refused(name, family):
    with pytest.raises(InputError, match="has no autoencoder that takes images in tiles: leave `tiling` out"):
        epsilon_of(family(name), tiling=True)


@pytest.mark.slow
def test_a_compiled_network_gives_the_same_scores(audit):
    before = read_table(SCORES).drop_columns("image_id").to_pandas().to_numpy()
    after, said = scored(compile=True)
    assert said["precision"]["compile"] is True
    assert said["moved_by_precision"] < 1e-3
    np.testing.assert_allclose(after, before, rtol=2e-3)
