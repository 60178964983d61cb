"""Bad input: one line that names the culprit, exit 1, nothing half-written, nothing lost."""

import json
import resource
import shutil
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from conftest import TINY_LEARNERS, change, change_attacks, tiny_params, write_params
from PIL import Image
from safetensors.torch import load_file, save_file

from leakgauge import cli as command
from leakgauge.files import file_hash
from leakgauge.tables import read_metadata, read_table, write_table
from stages.config import config
from stages.evaluate import evaluate
from stages.fit import fit
from stages.images import prepare_images
from stages.predict import predict
from stages.score import score
from stages.split import split
from stages.target import target as make_target

TARGET = "digits_ddpm"
ROLES = ("member", "auxiliary", "holdout")
MODEL = Path(f"models/target/{TARGET}")
SCORES = Path(f"data/scores/{TARGET}")


def folder_of_images(*arrays: np.ndarray) -> Path:
    folder = Path("photos")
    folder.mkdir()
    for number, pixels in enumerate(arrays):
        Image.fromarray(pixels).save(folder / f"{number}.png")
    params = tiny_params()
    params["datasets"]["photos"] = {"source": "folder", "path": "photos"}
    write_params(params)
    return folder


def grey(size: int = 8, value: int = 7) -> np.ndarray:
    return np.full((size, size), value, np.uint8)


def test_what_config_did_not_write_is_named_with_what_to_do(audit, refusal):
    said = "not found: run `dvc repro` to make it"
    assert f"data/config/nobody/split.json: {said}" in refusal(split, target="nobody")
    assert f"data/config/{TARGET}/learners/oracle.json: {said}" in refusal(fit, target=TARGET, learner="oracle")


@pytest.mark.parametrize(
    ("attacks", "said"),
    [
        ({"t_error": {"interval": 10, "last": 25}}, "t_error.last: 25 is off the grid of interval 10"),
        ({"pia": [20, 20]}, "pia: duplicate timestep in [20, 20]"),
    ],
)
def test_timesteps_that_no_target_could_answer_are_refused_by_config(attacks, said, audit, refusal):
    change_attacks(**attacks)
    assert f"params.yaml: score.attacks.{said}" in refusal(config, target=TARGET)


@pytest.mark.parametrize("attack", ["pia", "pian", "naive_loss", "sima"])
def test_a_timestep_beyond_the_target_is_refused(attack, audit, refusal):
    change_attacks(**{attack: [1000]})
    assert f"params.yaml: score.attacks.{attack}: timestep 1000 is beyond the target's last, 999" in refusal(
        score, target=TARGET, role="holdout"
    )


def test_a_walk_beyond_the_target_is_refused(audit, refusal):
    change_attacks(t_error={"interval": 10, "last": 990})
    assert "score.attacks.t_error.last: 990 + interval 10 is beyond" in refusal(score, target=TARGET, role="holdout")


def test_a_fault_in_a_targets_override_is_named_where_it_stands(audit, refusal):
    params = tiny_params()
    params["targets"][TARGET]["score"] = {"attacks": {"sima": [1000]}}
    write_params(params)
    assert f"targets.{TARGET}.score.attacks.sima: timestep 1000" in refusal(score, target=TARGET, role="holdout")


def test_an_image_that_does_not_decode_is_named_and_nothing_is_written(audit, refusal):
    folder = folder_of_images(grey(), grey())
    (folder / "1.png").write_bytes((folder / "0.png").read_bytes()[:40])
    assert "photos/1.png: does not decode as an image" in refusal(prepare_images, dataset="photos")
    assert not Path("data/images/photos.parquet").exists()


def test_images_of_mixed_size_are_refused(audit, refusal):
    folder_of_images(grey(8), grey(9))
    assert "photos/1.png: is 9x9 with 1 channel, but photos/0.png is 8x8 with 1 channel" in refusal(
        prepare_images, dataset="photos"
    )


def test_images_of_mixed_channels_are_refused(audit, refusal):
    folder_of_images(grey(8), np.zeros((8, 8, 3), np.uint8))
    assert "photos/1.png: is 8x8 with 3 channels" in refusal(prepare_images, dataset="photos")


def test_images_with_transparency_are_refused_not_flattened(audit, refusal):
    folder_of_images(np.zeros((8, 8, 4), np.uint8))
    assert "photos/0.png: has mode RGBA" in refusal(prepare_images, dataset="photos")


def test_an_empty_folder_is_refused(audit, refusal):
    folder_of_images()
    assert "photos: no images in this folder" in refusal(prepare_images, dataset="photos")


def test_a_folder_of_images_becomes_the_same_contract(audit):
    folder_of_images(grey(value=1), grey(value=2))
    prepare_images("photos")
    assert read_table(Path("data/images/photos.parquet")).column("image_id").to_pylist() == ["0.png", "1.png"]


def test_more_images_than_there_are_is_refused(audit, refusal):
    change("split", member=1000, auxiliary=900)
    assert "1000 members leave 797 distinct non-members, too few for 900 auxiliary and 150 holdout" in refusal(
        split, target=TARGET
    )


def test_too_few_auxiliary_images_for_a_bag_are_refused(audit, refusal):
    params = tiny_params()
    params["split"]["auxiliary"] = 40
    params["evaluate"] |= {"alphas": [0.1], "curve_fpr": 0.1}
    write_params(params)
    split(TARGET)
    score(TARGET, "auxiliary")
    assert "40 distinct auxiliary images; a bag needs at least 50 (split.auxiliary)" in refusal(
        fit, target=TARGET, learner="gbm"
    )


def index_file(members: list[int], others: list[int]) -> dict:
    np.savez("roles.npz", mia_train_idxs=np.array(members), mia_eval_idxs=np.array(others))
    return {"path": "roles.npz", "sha256": file_hash(Path("roles.npz"))}


def test_roles_follow_an_index_file(audit):
    change("split", index=index_file(list(range(0, 100)), list(range(200, 500))))
    split(TARGET)
    members = read_table(Path(f"data/roles/{TARGET}/member.parquet")).column("image_id").to_pylist()
    assert members == [f"digits-{i:04d}" for i in range(100)]
    auxiliary = read_table(Path(f"data/roles/{TARGET}/auxiliary.parquet")).column("image_id").to_pylist()
    assert all("digits-0200" <= name <= "digits-0499" for name in auxiliary)


def test_an_index_file_with_overlapping_roles_is_refused(audit, refusal):
    change("split", index=index_file([1, 2, 3], [3, 4, 5]))
    assert "roles.npz: 1 rows are both member and non-member, the first is 3" in refusal(split, target=TARGET)


def test_an_index_file_beyond_the_dataset_is_refused(audit, refusal):
    change("split", index=index_file([1, 2], [3, 1797]))
    assert "rows run from 1 to 1797, the dataset has 1797 images" in refusal(split, target=TARGET)


def test_an_index_file_other_than_the_pinned_one_is_refused(audit, refusal):
    change("split", index=index_file([1, 2], [3, 4]) | {"sha256": "0" * 64})
    assert "roles.npz: its sha256 is " in refusal(split, target=TARGET)


def test_a_small_holdout_warns_of_its_resolution_and_gives_no_figure(audit, capsys):
    change("split", holdout=80)
    split(TARGET)
    score(TARGET, "holdout")
    for learner in TINY_LEARNERS:
        predict(TARGET, learner)
    evaluate(TARGET)
    told = capsys.readouterr().err
    assert "80 holdout images resolve FPR to 0.013: no TPR at FPR 1e-2 is given" in told
    assert json.loads(Path(f"metrics/details/{TARGET}.json").read_text())["judges"]["gbm"]["tpr_at_fpr_1e-2"] is None
    assert json.loads(Path(f"metrics/{TARGET}.json").read_text())["tpr_1e-2"] is None


def damage_weights(value: float) -> None:
    path = MODEL / "unet/diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    weights["conv_in.weight"] = torch.full_like(weights["conv_in.weight"], value)
    save_file(weights, path, metadata={"format": "pt"})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_and_old_scores_stay(value, audit, refusal):
    damage_weights(value)
    before = (SCORES / "holdout.parquet").read_bytes()
    assert "weights are not finite (NaN or inf in 'conv_in.weight')" in refusal(score, target=TARGET, role="holdout")
    assert (SCORES / "holdout.parquet").read_bytes() == before


def test_scores_that_are_not_finite_are_refused(audit, refusal):
    damage_weights(3e38)  # finite, but the network overflows
    assert "scores are NaN or inf, the first is t_error_t0 of image digits-" in refusal(
        score, target=TARGET, role="holdout"
    )


def without(key: str) -> None:
    path = MODEL / "unet/diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    del weights[key]
    save_file(weights, path, metadata={"format": "pt"})


def test_missing_weights_are_refused_not_made_up(audit, refusal):
    without("conv_in.weight")
    line = refusal(score, target=TARGET, role="holdout")
    assert "weights do not fit unet/config.json: missing keys: conv_in.weight" in line


def test_weights_of_another_shape_are_refused(audit, refusal):
    config = MODEL / "unet/config.json"
    config.write_text(config.read_text().replace('"in_channels": 1', '"in_channels": 3'))
    assert str(MODEL) in refusal(score, target=TARGET, role="holdout")


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("scheduler/scheduler_config.json", "DDPMScheduler", "VQDiffusionScheduler", "scheduler is a VQDiffusion"),
        ("scheduler/scheduler_config.json", '"epsilon"', '"noise"', "prediction_type is 'noise'; supported are"),
        ("unet/config.json", '"num_class_embeds": null', '"num_class_embeds": 10', "do not fit unet/config.json"),
    ],
)
def test_models_that_cannot_be_scored_are_refused_not_misread(file, old, new, said, audit, refusal):
    config = MODEL / file
    assert old in config.read_text()
    config.write_text(config.read_text().replace(old, new))
    assert said in refusal(score, target=TARGET, role="holdout")


def test_images_that_do_not_halve_as_often_as_the_unet_does_are_refused(audit, refusal):
    change("target", block_out_channels=[8, 8, 8, 8, 8])
    assert "target.block_out_channels: 5 levels halve the image 4 times, but 8x8 does not" in refusal(
        make_target, target=TARGET
    )


def test_a_fit_that_diverged_is_refused(audit, refusal):
    params = tiny_params()
    params["learners"]["resnet"] |= {"learning_rate": 1e30, "epochs": 3}
    write_params(params)
    fit(TARGET, "resnet")
    line = refusal(predict, target=TARGET, learner="resnet")
    assert "resnet: predicts NaN or inf for" in line
    assert "a lower learning_rate helps" in line


def test_a_holdout_score_without_a_logarithm_is_refused(audit, refusal):
    path = SCORES / "holdout.parquet"
    table, facts = read_table(path), read_metadata(path)
    index = table.column_names.index("t_error_t10")
    table = table.set_column(index, "t_error_t10", pa.array(np.zeros(table.num_rows)))
    write_table(path, table, facts)
    assert "holdout.parquet: column t_error_t10 has scores that are not positive" in refusal(
        predict, target=TARGET, learner="gbm"
    )


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 torn", b"\x93NUMPY"])
def test_a_damaged_index_file_is_refused(content, audit, refusal):
    Path("roles.npz").write_bytes(content)
    change("split", index={"path": "roles.npz", "sha256": file_hash(Path("roles.npz"))})
    assert "roles.npz: needs arrays mia_train_idxs and mia_eval_idxs" in refusal(split, target=TARGET)


def test_an_index_of_no_members_is_refused(audit, refusal):
    change("split", index=index_file([], [1, 2]))
    assert "must be integers, and some of each" in refusal(split, target=TARGET)


def test_z_scores_of_a_learner_that_is_gone_are_pointed_out(audit, capsys):
    params = tiny_params()
    del params["learners"]["gbm"]
    params["evaluate"]["stack"] = []
    write_params(params)
    evaluate(TARGET)
    assert "gbm.parquet: its learner is no longer in params.yaml" in capsys.readouterr().err


def test_an_interrupted_stage_says_so_and_keeps_its_work(audit, monkeypatch, capsys):
    def interrupt(*_args):
        raise KeyboardInterrupt

    monkeypatch.setattr("stages.target.place_folder", interrupt)
    monkeypatch.setattr(sys, "argv", ["stage", TARGET])
    with pytest.raises(SystemExit) as stop:
        command.run(make_target, target="a name")
    assert stop.value.code == 130
    assert "interrupted; `dvc repro` goes on from here" in capsys.readouterr().err
    assert list(Path(".partial").glob("target@*/*/checkpoint.safetensors"))


def test_fit_refuses_scores_without_a_logarithm(audit, refusal):
    path = SCORES / "auxiliary.parquet"
    table, facts = read_table(path), read_metadata(path)
    values = table.column("t_error_t10").to_numpy().copy()
    values[3] = np.nan
    table = table.set_column(table.column_names.index("t_error_t10"), "t_error_t10", pa.array(values))
    write_table(path, table, facts)
    assert "column t_error_t10 has scores that are not positive and finite" in refusal(
        fit, target=TARGET, learner="marginal"
    )


def test_a_target_for_other_images_is_refused(audit, refusal):
    config = MODEL / "unet/config.json"
    config.write_text(config.read_text().replace('"sample_size": 8', '"sample_size": 16'))
    line = refusal(score, target=TARGET, role="holdout")
    assert "takes 16x16 1-channel images, the dataset has 8x8 1-channel" in line


def test_a_folder_that_is_no_pipeline_is_refused(audit, refusal):
    shutil.rmtree(MODEL / "unet")
    assert f"{MODEL}: not a diffusers pipeline folder" in refusal(score, target=TARGET, role="holdout")


def use_pipeline_at(path: str) -> None:
    params = tiny_params()
    params["targets"][TARGET] |= {"source": "path", "model": path}
    write_params(params)


def test_a_pipeline_folder_is_taken_as_it_is(audit):
    shutil.move(MODEL, "elsewhere")
    use_pipeline_at("elsewhere")
    make_target(TARGET)
    weights = "unet/diffusion_pytorch_model.safetensors"
    assert (MODEL / weights).read_bytes() == (Path("elsewhere") / weights).read_bytes()
    score(TARGET, "holdout")


def test_a_path_without_a_pipeline_is_refused_and_the_old_target_stays(audit, refusal):
    use_pipeline_at("data")
    before = file_hash(MODEL)
    assert "data: not a diffusers pipeline folder: it has no model_index.json" in refusal(make_target, target=TARGET)
    assert file_hash(MODEL) == before


def test_a_truncated_table_is_named(audit, refusal):
    path = SCORES / "auxiliary.parquet"
    path.write_bytes(path.read_bytes()[:-100])
    assert str(path) in refusal(fit, target=TARGET, learner="gbm")


def test_a_missing_table_is_named_with_what_to_do(audit, refusal):
    (SCORES / "member.parquet").unlink()
    line = refusal(evaluate, target=TARGET)
    assert f"{SCORES}/member.parquet: not found: run `dvc repro` to make it" in line


def test_a_bag_that_lost_an_attacker_is_refused(audit, refusal):
    shutil.rmtree(f"models/quantile/{TARGET}/gbm/attacker_001")
    assert f"models/quantile/{TARGET}/gbm: not a whole bag" in refusal(predict, target=TARGET, learner="gbm")


def test_z_scores_of_another_targets_scores_are_refused(audit, refusal):
    path = SCORES / "member.parquet"
    table, facts = read_table(path), read_metadata(path)
    write_table(path, table, facts | {"target_sha256": "0" * 64})
    line = refusal(evaluate, target=TARGET)
    assert f"{path}: scores of another target than the one behind data/z/{TARGET}/marginal.parquet" in line


def test_a_disk_that_takes_no_more_is_one_line_and_leaves_the_old_file(audit, refusal):
    before = (SCORES / "holdout.parquet").read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))  # the kernel refuses what goes beyond
    try:
        line = refusal(score, target=TARGET, role="holdout")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "File too large" in line
    assert (SCORES / "holdout.parquet").read_bytes() == before
    assert not list(SCORES.glob(".*")), "no partial file stays"


def test_members_are_told_by_their_names(audit):
    change("split", member="digits-00*")
    split(TARGET)
    members = read_table(Path(f"data/roles/{TARGET}/member.parquet")).column("image_id").to_pylist()
    assert members == [f"digits-{i:04d}" for i in range(100)]


def test_a_pattern_that_no_image_matches_is_refused(audit, refusal):
    change("split", member="members/*")
    assert "split.member: no image_id matches 'members/*'; the first is 'digits-0000'" in refusal(split, target=TARGET)
