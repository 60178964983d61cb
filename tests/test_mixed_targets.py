"""Scores of one model are never learnt, chosen or judged together with those of another."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from leakgauge.tables import read_metadata, read_table, write_table
from stages.evaluate import evaluate
from stages.fit import fit
from stages.infer import infer
from stages.score import score
from stages.select import select
from stages.split import split
from stages.stack import stack
from stages.suspect import suspect
from stages.sweep import sweep

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


def test_select_refuses_members_and_holdout_of_two_models(audit, refusal):
    tell(scores("holdout"), target_sha256="0" * 64)
    line = refusal(select, target=TARGET)
    assert f"{scores('holdout')}: scores of another target than the one behind {scores('member')}" in line


@pytest.mark.parametrize("role", ["member", "auxiliary", "holdout"])
@pytest.mark.parametrize("stage", [evaluate, sweep])
def test_what_measures_a_bag_refuses_scores_of_another_model_than_it_learnt(stage, role, audit, refusal):
    tell(scores(role), target_sha256="0" * 64)
    assert f"its bag was fitted on scores of another target than {scores(role)}" in refusal(stage, target=TARGET)


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
def test_select_refuses_members_and_holdout_scored_on_two_machines_or_by_two_versions(changes, audit, refusal):
    said = told_otherwise(scores("holdout"), **changes)
    line = refusal(select, target=TARGET)
    assert f"{said}{scores('member')} with " in line
    assert f"dvc repro --force --single-item score@{TARGET}-holdout" in line


@pytest.mark.parametrize("role", ["member", "auxiliary", "holdout"])
@pytest.mark.parametrize("stage", [evaluate, sweep])
def test_what_measures_a_bag_refuses_scores_computed_otherwise_than_those_it_learnt(stage, role, audit, refusal):
    said = told_otherwise(scores(role), torch="1.0")
    assert f"{said}data/predictions/{TARGET}/" in refusal(stage, target=TARGET)


def test_stack_refuses_scores_computed_otherwise_than_those_its_learners_learnt(audit, refusal):
    said = told_otherwise(scores("auxiliary"), diffusers="0.1")
    assert f"{said}data/predictions/{TARGET}/gbm.parquet with " in refusal(stack, target=TARGET)


def test_infer_refuses_suspects_scored_on_another_machine(audit, refusal):
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save("suspects/digits/mine.png")
    suspect("digits")
    split(TARGET)
    score(TARGET, "suspect")
    said = told_otherwise(scores("suspect"), device="cuda", name="NVIDIA H100")
    line = refusal(infer, target=TARGET)
    assert f"{said}data/predictions/{TARGET}/gbm.parquet with " in line
    assert f"score@{TARGET}-suspect" in line


def test_scores_that_say_nothing_of_a_machine_are_compared_with_any(audit):
    for role in ("member", "holdout"):
        tell(scores(role), computed_on=None)
    select(TARGET)
    evaluate(TARGET)


def test_infer_refuses_suspects_scored_under_another_model(audit, refusal):
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save("suspects/digits/mine.png")
    suspect("digits")
    split(TARGET)
    score(TARGET, "suspect")
    tell(scores("suspect"), target_sha256="0" * 64)
    line = refusal(infer, target=TARGET)
    assert f"{scores('suspect')}: scores of another target than the one behind data/predictions/{TARGET}/gbm" in line
