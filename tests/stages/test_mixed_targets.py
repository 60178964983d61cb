"""Scores of one model are never learnt, chosen or judged together with those of another."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import ask_about, tiny_params, write_params
from PIL import Image

from leakgauge.tables import read_metadata, read_table, write_table
from stages.evaluate import evaluate
from stages.fit import fit
from stages.images import prepare_images
from stages.predict import predict
from stages.score_suspects import score_suspects
from stages.suspects import suspects

TARGET = "digits_ddpm"


def scores(role: str) -> Path:
    return Path(f"data/scores/{TARGET}/{role}.parquet")


def tell(path: Path, **facts: object) -> None:
    """Write a table again with other metadata."""
    write_table(path, read_table(path), read_metadata(path) | facts)


@pytest.mark.parametrize("table", ["roles", "features", "scores"])
@pytest.mark.parametrize("facts", [{"target": "another"}, {"role": "holdout"}])
def test_fit_refuses_a_table_of_another_target_or_role(facts, table, audit, refusal):
    path = Path(f"data/{table}/{TARGET}/auxiliary.parquet")
    tell(path, **facts)
    found = {"target": TARGET, "role": "auxiliary"} | facts
    line = refusal(fit, target=TARGET, learner="gbm")
    assert f"{path}: is of target '{found['target']}', role '{found['role']}', not '{TARGET}', 'auxiliary'" in line


def test_fit_refuses_the_file_of_members_in_the_place_of_the_auxiliary_one(audit, refusal):
    scores("member").replace(scores("auxiliary"))
    assert f"{scores('auxiliary')}: is of target '{TARGET}', role 'member'" in refusal(
        fit, target=TARGET, learner="gbm"
    )


@pytest.mark.parametrize("role", ["member", "auxiliary", "holdout"])
def test_predict_refuses_scores_of_another_model_than_the_bag_learnt(role, audit, refusal):
    tell(scores(role), target_sha256="0" * 64)
    line = refusal(predict, target=TARGET, learner="gbm")
    assert f"{scores(role)}: scores of another target than the one behind models/quantile/{TARGET}/gbm" in line


@pytest.mark.parametrize("role", ["member", "holdout"])
def test_evaluate_refuses_scores_of_another_model_than_the_one_behind_the_z_scores(role, audit, refusal):
    tell(scores(role), target_sha256="0" * 64)
    line = refusal(evaluate, target=TARGET)
    assert f"{scores(role)}: scores of another target than the one behind data/z/{TARGET}/" in line


OTHERWISE = [
    {"device": "cuda", "name": "NVIDIA H100"},
    {"name": "AVX2 of another machine"},
    {"torch": "1.0"},
    {"diffusers": "0.1"},
]


def told_otherwise(path: Path, **changes: str) -> str:
    """Say that scores were computed on something else; returns what the refusal says of it."""
    tell(path, computed_on=read_metadata(path)["computed_on"] | changes)
    found = ", ".join(f"{name} {value}" for name, value in changes.items())
    return f"{path}: scores computed with {found}, those behind "


@pytest.mark.parametrize("changes", OTHERWISE)
@pytest.mark.parametrize("role", ["member", "auxiliary", "holdout"])
def test_predict_refuses_scores_of_another_machine_or_version_than_the_bag_learnt(role, changes, audit, refusal):
    said = told_otherwise(scores(role), **changes)
    line = refusal(predict, target=TARGET, learner="gbm")
    assert f"{said}models/quantile/{TARGET}/gbm with " in line
    assert f"dvc repro --force --single-item score@{TARGET}-{role}" in line


@pytest.mark.parametrize("role", ["member", "holdout"])
def test_evaluate_refuses_scores_computed_otherwise_than_those_behind_the_z_scores(role, audit, refusal):
    said = told_otherwise(scores(role), torch="1.0")
    assert f"{said}data/z/{TARGET}/" in refusal(evaluate, target=TARGET)


def test_scores_that_say_nothing_of_a_machine_are_compared_with_any(audit):
    for role in ("member", "holdout"):
        tell(scores(role), computed_on=None)
    predict(TARGET, "gbm")
    evaluate(TARGET)


@pytest.fixture
def asked_about(audit) -> Path:
    """The scores of a set of one suspect."""
    Path("mine").mkdir()
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save("mine/1.png")
    write_params(ask_about("mine", {"source": "folder", "path": "mine"}, tiny_params()))
    prepare_images("mine_images")
    score_suspects("mine")
    return Path("data/suspects/mine/scores.parquet")


def bag_of_the_judge() -> str:
    return f"models/quantile/{TARGET}/{json.loads(Path(f'metrics/{TARGET}.json').read_text())['judge']}"


def test_suspects_scored_on_another_machine_are_refused(asked_about, refusal):
    said = told_otherwise(asked_about, device="cuda", name="NVIDIA H100")
    line = refusal(suspects, suspects="mine")
    assert f"{said}{bag_of_the_judge()} with " in line
    assert "dvc repro --force --single-item score_suspects@mine" in line


def test_suspects_scored_under_another_model_are_refused(asked_about, refusal):
    tell(asked_about, target_sha256="0" * 64)
    line = refusal(suspects, suspects="mine")
    assert f"{asked_about}: scores of another target than the one behind {bag_of_the_judge()}" in line
