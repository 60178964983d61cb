"""A stack: weights that are known, from learners that are known."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import dump_params, tiny_params

from leakgauge.inference.conformal import bag_vote
from leakgauge.inference.fusion import Stack, fit_stack
from leakgauge.inference.z_scores import ZTable
from leakgauge.tables import log_scores, read_metadata, read_table, write_table
from stages.config import config
from stages.evaluate import evaluate
from stages.fit import fit
from stages.predict import predict

TARGET = "digits_ddpm"
METRICS, VERDICTS = Path(f"metrics/details/{TARGET}.json"), Path(f"data/verdicts/{TARGET}.parquet")
RNG = np.random.default_rng(0)
TRUTH, NOISE = RNG.standard_normal(20_000), RNG.standard_normal(20_000)
OBSERVED = TRUTH + 0.3 * RNG.standard_normal(20_000)


def fitted(location: np.ndarray, scale: np.ndarray, observed: np.ndarray) -> tuple[Stack, np.ndarray]:
    """A stack of learners that predict Gaussians, location and scale (L, P), and its z-scores of what was observed."""
    z, log_scale = (observed - location) / scale, np.log(scale)
    stack = fit_stack(z, log_scale)
    return stack, stack.z_scores(z, log_scale)


def test_a_learner_that_knows_gets_all_the_weight_and_the_scale_is_that_of_its_errors():
    stack, z = fitted(np.stack([TRUTH, NOISE]), np.ones((2, 20_000)), OBSERVED)
    assert stack.location == pytest.approx([1, 0], abs=0.02)
    assert np.exp(stack.offset) == pytest.approx(0.3, rel=0.03)
    assert pytest.approx(z, abs=0.5) == (OBSERVED - TRUTH) / 0.3
    assert z.std() == pytest.approx(1, abs=0.01)


def test_two_learners_with_errors_of_their_own_are_weighted_by_their_precision():
    errors = np.array([[0.4], [0.8]]) * RNG.standard_normal((2, 20_000))
    stack, _ = fitted(OBSERVED + errors, np.ones((2, 20_000)), OBSERVED)
    assert stack.location == pytest.approx([0.8, 0.2], abs=0.02)  # 1 / 0.16 against 1 / 0.64


def test_a_scale_that_is_right_is_kept_and_one_that_tells_nothing_is_not():
    right, wrong = np.exp(RNG.uniform(-1, 1, (2, 20_000)))
    stack, z = fitted(np.zeros((2, 20_000)), np.stack([right, wrong]), right * RNG.standard_normal(20_000))
    assert stack.scale == pytest.approx([1, 0], abs=0.05)
    assert stack.offset == pytest.approx(0, abs=0.03)
    assert z.std() == pytest.approx(1, abs=0.01)


def test_a_stack_of_one_learner_that_is_right_is_that_learner():
    scale = np.exp(RNG.uniform(-1, 1, (1, 20_000)))
    observed = TRUTH + scale[0] * NOISE
    _, z = fitted(TRUTH[None], scale, observed)
    np.testing.assert_allclose(z, NOISE, atol=0.2)


def test_a_stacks_z_scores_are_those_of_the_gaussian_by_its_weights():
    stack = Stack(np.array([0.7, 0.3]), np.array([0.5, 0.2]), -0.1)
    location, scale = np.array([[1.0], [-2.0]]), np.array([[0.5], [2.0]])
    z = stack.z_scores((3.0 - location) / scale, np.log(scale))
    combined = np.exp(-0.1) * 0.5**0.5 * 2.0**0.2
    assert z == pytest.approx([(3.0 - (0.7 * 1.0 - 0.3 * 2.0)) / combined])


def test_the_stack_of_the_audit_is_learnt_on_auxiliary_images_out_of_bag(audit):
    tables = [ZTable.open(Path(f"data/z/{TARGET}/{name}.parquet")) for name in ("gbm", "mlp")]
    z, scales = (
        {role: np.stack([of.read("t_error_t10", what)[role] for of in tables]) for role in ("auxiliary", "holdout")}
        for what in ("z", "log_scale")
    )
    stack = fit_stack(*(of["auxiliary"][:, tables[0].out_of_bag] for of in (z, scales)))
    told = json.loads(METRICS.read_text())["stack"]["t_error_t10"]
    assert list(told) == ["gbm", "mlp"]
    assert [of["location"] for of in told.values()] == pytest.approx(list(stack.location))
    assert [of["scale"] for of in told.values()] == pytest.approx(list(stack.scale))
    rows = read_table(VERDICTS).to_pandas().query("learner == 'stack' and role == 'holdout'")
    of_holdout = stack.z_scores(z["holdout"], scales["holdout"])
    np.testing.assert_allclose(rows["membership_score"], bag_vote(of_holdout))


def test_nothing_is_learnt_from_images_kept_apart(audit):
    params = tiny_params()
    params["fit"]["calibration"] = 40
    params["evaluate"] |= {"alphas": [0.1], "curve_fpr": 0.1}
    dump_params(params)
    config(TARGET)
    for learner in params["learners"]:
        fit(TARGET, learner)
        predict(TARGET, learner)
    evaluate(TARGET)
    before = json.loads(METRICS.read_text())["stack"]
    scores = Path(f"data/scores/{TARGET}/auxiliary.parquet")
    table = ZTable.open(Path(f"data/z/{TARGET}/gbm.parquet"))
    values = np.exp(log_scores(scores, "t_error_t10") + 9 * table.calibrates)
    rows = read_table(scores)
    write_table(
        scores, rows.set_column(rows.column_names.index("t_error_t10"), "t_error_t10", [values]), read_metadata(scores)
    )
    for learner in params["learners"]:
        predict(TARGET, learner)
    evaluate(TARGET)
    assert json.loads(METRICS.read_text())["stack"] == before


def test_without_a_stack_there_is_none(audit):
    params = tiny_params()
    params["evaluate"]["stack"] = []
    dump_params(params)
    config(TARGET)
    evaluate(TARGET)
    found = json.loads(METRICS.read_text())
    assert (found["stack"], "stack" in found["judges"]) == ({}, False)


@pytest.mark.parametrize(
    ("learners", "said"),
    [
        (["oracle"], "no learner 'oracle'; there are marginal, gbm, mlp, resnet"),
        (["gbm", "resnet"], "resnet predicts quantiles; a stack needs `head: location_scale`"),
        (["marginal"], "marginal predicts quantiles; a stack needs `head: location_scale`"),
    ],
)
def test_a_stack_of_unknown_learners_or_of_quantiles_is_refused(learners, said, tmp_path, monkeypatch, refusal):
    monkeypatch.chdir(tmp_path)
    params = tiny_params()
    params["evaluate"]["stack"] = learners
    dump_params(params)
    assert f"params.yaml: evaluate.stack: {said}" in refusal(config, target=TARGET)
