"""A base: the model that the target was fine-tuned from, or a reference; each score under it beside the target's."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import dump_params, tiny_params, write_params
from planted import page

from leakgauge.attacks.columns import choose
from leakgauge.config import asked
from leakgauge.errors import InputError
from leakgauge.files import file_hash
from leakgauge.options import TargetOptions
from leakgauge.tables import BASE, RATIO, ROLES, base_columns, read_metadata, read_table
from stages.base import base
from stages.check import check
from stages.config import config
from stages.evaluate import evaluate
from stages.fit import fit
from stages.predict import predict
from stages.score import score
from stages.split import split

TARGET = "digits_ddpm"
PIPELINE, SCORES = Path(f"models/target/{TARGET}"), Path(f"data/scores/{TARGET}")


def ask(learners: tuple[str, ...] = ("marginal", "linear"), split: dict | None = None, **target: object) -> None:
    """The tiny audit with other options of its target and its split."""
    params = tiny_params()
    params["learners"] = {name: {"kind": name, **params["learners"].get(name, {})} for name in learners}
    params["evaluate"]["stack"] = []
    params["split"] |= split or {}
    params["target"] |= target
    write_params(params)


def scored() -> list[str]:
    """The columns of scores, computed anew for all roles."""
    base(TARGET)
    for role in ROLES:
        score(TARGET, role)
    return read_table(SCORES / "holdout.parquet").column_names[1:]


def judge() -> None:
    """Fit, predict and evaluate the learners of `ask`."""
    shutil.rmtree(f"data/z/{TARGET}")
    for learner in ("marginal", "linear"):
        fit(TARGET, learner)
        predict(TARGET, learner)
    evaluate(TARGET)


def test_without_a_base_the_folder_says_so_and_scores_stand_alone(audit):
    before = (SCORES / "holdout.parquet").read_bytes()
    base(TARGET)
    assert [path.name for path in Path(f"models/base/{TARGET}").iterdir()] == ["base.json"]
    assert not base_columns(scored())
    assert (SCORES / "holdout.parquet").read_bytes() == before


def test_under_a_base_that_is_the_target_every_ratio_is_one_and_nothing_is_found(audit):
    shutil.copytree(PIPELINE, "given")
    alone = read_table(SCORES / "member.parquet")
    ask(base={"path": "given", "sha256": file_hash(Path("given"))})
    names = scored()
    under = base_columns(names)
    assert [name.removesuffix(BASE) for name in under] == alone.column_names[1:]
    table = read_table(SCORES / "member.parquet")
    for name in alone.column_names[1:]:
        assert table.column(name) == alone.column(name)
        assert table.column(f"{name}{BASE}") == alone.column(name)
        assert set(table.column(f"{name}{RATIO}").to_pylist()) == {1.0}
    judge()
    assert "by scores beside those under" in page()
    assert "the base given" in page()
    found = json.loads(Path(f"metrics/details/{TARGET}.json").read_text())
    assert found["headline"]["judge"] == "linear"
    assert found["headline"]["auc_ci_low"] < 0.5 < found["headline"]["auc_ci_high"]


def test_another_base_makes_scores_that_a_bag_of_before_does_not_take(audit):
    shutil.copytree(PIPELINE, "given")
    ask(base={"path": "given", "sha256": file_hash(Path("given"))})
    before = read_metadata(SCORES / "holdout.parquet")["target_sha256"]
    scored()
    assert read_metadata(SCORES / "holdout.parquet")["target_sha256"] != before
    with pytest.raises(InputError, match="scores of another target"):
        predict(TARGET, "marginal")


def test_a_folder_with_another_hash_than_was_pinned_is_refused_with_the_hash_it_has(audit, refusal):
    shutil.copytree(PIPELINE, "given")
    ask(base={"path": "given", "sha256": "0" * 64})
    said = refusal(base, target=TARGET)
    assert f"target.base: the sha256 of given is {file_hash(Path('given'))}" in said
    assert not Path(f"models/base/{TARGET}").exists()


def test_a_base_of_another_noise_schedule_is_refused_before_an_image_is_scored(audit, refusal):
    shutil.copytree(PIPELINE, "given")
    path = Path("given/scheduler/scheduler_config.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"beta_schedule": "squaredcos_cap_v2"}))
    ask(base={"path": "given", "sha256": file_hash(Path("given"))})
    base(TARGET)
    said = refusal(score, target=TARGET, role="member")
    assert "target.base: its scores cannot stand beside the target's: alpha at timestep" in said
    assert "another noise schedule" in said


def test_a_base_takes_a_variant_of_its_own_and_leaves_out_files_of_its_own(audit, refusal, capsys):
    shutil.copytree(PIPELINE, "given")
    weights = Path("given/unet/diffusion_pytorch_model.safetensors")
    shutil.copy(weights, weights.with_name("diffusion_pytorch_model.ema.safetensors"))
    weights.rename(weights.with_name("diffusion_pytorch_model.non_ema.safetensors"))
    Path("given/other.pt").write_bytes(b"")
    pinned = {"path": "given", "sha256": file_hash(Path("given"))}
    ask(base=pinned)
    assert "name one by target.base.variant: ema or non_ema" in refusal(base, target=TARGET)
    ask(base=pinned | {"variant": "ema"})
    said = refusal(base, target=TARGET)
    assert "other.pt is a pickle" in said and "name it in target.base.leave_out: ['other.pt']" in said
    ask(base=pinned | {"variant": "ema", "leave_out": ["other.pt"]})
    capsys.readouterr()
    base(TARGET)
    assert "given: not taken: other.pt, unet/diffusion_pytorch_model.non_ema.safetensors" in capsys.readouterr().out
    kept = json.loads(Path(f"models/base/{TARGET}/base.json").read_text())
    assert kept["not_taken"] == ["other.pt", "unet/diffusion_pytorch_model.non_ema.safetensors"]


def test_a_base_of_a_repository_and_of_a_folder_are_told_apart_by_their_keys(audit):
    for wrong, key in (({"repo": "a/b"}, "target.base.revision"), ({"path": "given"}, "target.base.sha256")):
        ask(base=wrong)
        with pytest.raises(InputError, match=f"{key}: missing"):
            asked("target", TargetOptions, TARGET)


def test_a_reference_is_trained_on_images_of_no_other_role_and_tells_no_role(audit):
    before = {role: read_table(Path(f"data/roles/{TARGET}/{role}.parquet")) for role in ROLES}
    ask(split={"reference": 100})
    split(TARGET)
    check(TARGET)
    roles = {role: read_table(Path(f"data/roles/{TARGET}/{role}.parquet")) for role in (*ROLES, "reference")}
    ids = [name for table in roles.values() for name in table.column("image_id").to_pylist()]
    assert len(ids) == len(set(ids))
    assert roles["reference"].num_rows == 100
    assert all(roles[role].equals(before[role]) for role in ("member", "auxiliary")), "they stay who they were"
    names = scored()
    assert json.loads(Path(f"models/base/{TARGET}/base.json").read_text()) == {"base": None, "reference": 100}
    assert file_hash(Path(f"models/base/{TARGET}/pipeline")) != file_hash(PIPELINE)
    table = read_table(SCORES / "holdout.parquet")
    values = np.stack([table.column(name).to_numpy() for name in names])
    assert np.isfinite(values).all()
    assert read_table(Path(f"data/null/{TARGET}/member.parquet")).column_names[-1] == "base"
    judge()
    assert "a reference, trained on 100 images set apart" in page()
    found = json.loads(Path(f"metrics/details/{TARGET}.json").read_text())["null_check"]
    assert not any(one["fails"] for one in found.values())


@pytest.mark.parametrize("reference", [0, 100])
def test_a_ratio_may_be_learnt_where_there_is_something_to_divide_by(reference, audit):
    params = tiny_params()
    params["split"]["reference"] = reference
    params["fit"]["scores"] = ["t_error_t10", "t_error_t10_ratio"]
    dump_params(params)
    if reference:
        config(TARGET)
    else:
        with pytest.raises(InputError, match="no score column 't_error_t10_ratio'"):
            config(TARGET)


def test_what_is_learnt_is_never_a_score_under_the_base_and_a_ratio_where_a_pattern_says_so():
    columns = ["t_error_t10", "pia_t20"]
    columns = [*columns, *(f"{name}{BASE}" for name in columns), *(f"{name}{RATIO}" for name in columns)]
    assert choose(TARGET, ["*"], columns) == ["t_error_t10", "pia_t20"]
    assert choose(TARGET, ["t_error_t10", "*_ratio"], columns) == ["t_error_t10", "t_error_t10_ratio", "pia_t20_ratio"]
    with pytest.raises(InputError, match="no score column 't_error_t10_base'"):
        choose(TARGET, ["t_error_t10_base"], columns)
