"""A score that is higher for members is the wrong way round, and is named wherever a figure would rest on it."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from conftest import Elsewhere, marginal_figures, tiny_params, write_params
from planted import TARGET, page
from ruamel.yaml import YAML

from leakgauge.inference.comparisons import higher_for_members
from leakgauge.tables import read_metadata, read_table, write_table
from stages.evaluate import evaluate
from stages.fit import fit
from stages.predict import predict


def test_only_an_interval_below_one_half_counts():
    low, high = np.arange(20.0), np.arange(20.0) + 30
    area, _, end = higher_for_members(high, low)
    assert area == 0
    assert end < 0.5
    assert higher_for_members(low, high) is None
    assert higher_for_members(low, low) is None
    assert higher_for_members(np.array([3.0]), np.array([1.0, 2.0])) is None, "one image is no evidence"
    assert higher_for_members(np.empty(0), low) is None


@pytest.mark.parametrize(("members", "holdout"), [(20, 20), (60, 150)])
def test_scores_that_tell_nothing_are_rarely_called_the_wrong_way_round(members, holdout):
    rng = np.random.default_rng(0)
    called = [higher_for_members(rng.random(members), rng.random(holdout)) is not None for _ in range(3000)]
    assert np.mean(called) <= 0.0005 + 4 * np.sqrt(0.0005 / 3000)


def times(role: str, column: str, factor: float) -> None:
    path = Path(f"data/scores/{TARGET}/{role}.parquet")
    table = read_table(path)
    values = pa.array(factor * table.column(column).to_numpy())
    write_table(path, table.set_column(table.column_names.index(column), column, values), read_metadata(path))


def figures_of(target: str) -> dict:
    return json.loads(Path(f"metrics/details/{target}.json").read_text())["judges"]


def test_evaluate_warns_of_a_main_score_that_is_higher_for_members_and_so_does_the_page(audit, capsys):
    assert not any(figures["wrong_way_round"] for figures in figures_of(TARGET).values())
    assert "The wrong way round" not in page()
    times("member", "t_error_t10", 100)
    for learner in tiny_params()["learners"]:
        predict(TARGET, learner)
    evaluate(TARGET)
    said = capsys.readouterr().err
    assert f"warning: {TARGET}: score t_error_t10 is higher for members than for others, AUC 0.0" in said
    assert "lower must mean more member-like; of a confidence c hand over exp(-c)" in said
    assert said.count("higher for members") == 1, "once for all learners"
    assert all(figures["wrong_way_round"] for figures in figures_of(TARGET).values())
    assert 'class="alarm">The wrong way round: score t_error_t10 is higher for members' in page()
    assert "No check fails." not in page()


def test_every_candidate_of_a_choice_that_is_higher_for_members_is_named(audit, capsys):
    times("member", "t_error_t0", 100)
    params = tiny_params()
    params["learners"] = {"marginal": {"kind": "marginal"}}
    params["fit"]["scores"] = ["t_error_t10", "t_error_t0"]
    params["evaluate"] |= {"stack": [], "selection": 0.5, "alphas": [0.1], "curve_fpr": 0.1}
    write_params(params)
    fit(TARGET, "marginal")
    predict(TARGET, "marginal")
    capsys.readouterr()
    evaluate(TARGET)
    said = capsys.readouterr().err
    assert "to choose a score, score t_error_t0 is higher for members than for others, AUC 0.0" in said
    assert said.count("higher for members") == 1
    by_score = json.loads(Path(f"metrics/details/{TARGET}.json").read_text())["selection"]["by_score"]
    assert [name for name, found in by_score.items() if found["wrong_way_round"]] == ["t_error_t0"]
    assert "on the images set apart to choose a score, t_error_t0 is higher for members" in page()


@pytest.mark.parametrize("handed_over", ["confidence", "exp(-confidence)"])
def test_confidences_from_elsewhere_are_called_the_wrong_way_round_until_they_are_turned(
    handed_over, elsewhere: Elsewhere, capsys
):
    confidence = -np.log(elsewhere.scores["loss"]) + 5
    values = confidence if handed_over == "confidence" else np.exp(-confidence)
    elsewhere.hand_over(elsewhere.scores.assign(loss=values), auxiliary=60, holdout="rest")
    params = YAML(typ="safe").load(Path("params.yaml").read_text())
    params["learners"] = {"marginal": params["learners"]["marginal"]}
    params["evaluate"] |= {"stack": [], "alphas": [0.1], "curve_fpr": 0.1}
    write_params(params)
    figures = marginal_figures("theirs")
    assert figures["wrong_way_round"] == (handed_over == "confidence") == (figures["auc"] < 0.5)
    assert ("score loss is higher for members" in capsys.readouterr().err) == (handed_over == "confidence")
