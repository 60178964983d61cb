"""The curves of an audit, by alpha, by size of sub-bags and by timestep: they tell what the metrics tell."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import TINY_LEARNERS, learn

from leakgauge.inference.conformal import bag_vote
from leakgauge.inference.evaluation import ONE_FOR_ALL, Evaluation
from leakgauge.inference.metrics import power
from leakgauge.inference.z_scores import ZTable
from leakgauge.options import Evaluate
from leakgauge.report.figures import draw_figures
from leakgauge.tables import read_metadata, read_table, write_table
from stages.evaluate import evaluate
from stages.fit import fit
from stages.predict import predict

TARGET = "digits_ddpm"
PLOTS = Path(f"metrics/plots/{TARGET}")
JUDGES = [*TINY_LEARNERS, "stack"]
LEARNT = [0, 20]  # timesteps


def curve(name: str) -> pd.DataFrame:
    return pd.read_csv(PLOTS / f"{name}.csv")


def judges() -> dict:
    return json.loads(Path(f"metrics/details/{TARGET}.json").read_text())["judges"]


@pytest.fixture
def two_timesteps(audit) -> None:
    """Every learner has learnt two t-errors and a score that is none."""
    learn([f"t_error_t{step}" for step in LEARNT] + ["pia_t20"])
    for learner in TINY_LEARNERS:
        fit(TARGET, learner)
        predict(TARGET, learner)
    evaluate(TARGET)


def assert_same(row: pd.Series, figures: dict, **names: str) -> None:
    """Columns of a row are figures of the metrics, by their names there."""
    for column, name in names.items():
        assert row[column] == pytest.approx(figures[name], rel=1e-5), column


def test_the_curve_by_alpha_tells_what_the_metrics_tell_and_no_level_that_cannot_be_reached(audit):
    rows = curve("alpha")
    assert list(rows["learner"].unique()) == JUDGES
    for judge, figures in judges().items():
        of_judge = rows[rows["learner"] == judge]
        assert of_judge["nominal"].min() >= figures["p_value_resolution"]
        assert (of_judge.groupby("verdict")["nominal"].count() > 10).all()
        for verdict, prefix in (("calibrated", ""), ("raw", "raw_")):
            at = of_judge[of_judge["verdict"] == verdict].set_index("nominal").loc[0.05]
            fpr = f"{prefix}realised_fpr_at_alpha_5e-2"
            assert_same(at, figures, fpr=fpr, fpr_ci_low=f"{fpr}_ci_low", fpr_count=f"{fpr}_count")
        at = of_judge[of_judge["verdict"] == "calibrated"].set_index("nominal").loc[0.05]
        assert_same(at, figures, tpr="tpr_at_alpha_5e-2", tpr_ci_high="tpr_at_alpha_5e-2_ci_high")
        expected = "realised_fpr_at_alpha_5e-2_expected"
        assert_same(at, figures, fpr_expected_low=f"{expected}_low", fpr_expected_high=f"{expected}_high")
    assert rows.loc[rows["verdict"] == "raw", ["fpr_expected_low", "fpr_expected_high"]].isna().all().all()


def test_alphas_asked_for_are_on_the_curve(audit):
    learn(alphas=[0.123, 0.0456])
    evaluate(TARGET)
    rows = curve("alpha")
    for judge in JUDGES:
        assert {0.123, 0.0456} <= set(rows.loc[rows["learner"] == judge, "nominal"])


def test_a_whole_bag_has_no_spread_and_is_the_audits_own(audit):
    rows = curve("bag_size")
    assert list(rows["learner"].unique()) == JUDGES
    for judge, figures in judges().items():
        of_judge = rows[rows["learner"] == judge]
        assert of_judge["attackers"].tolist() == [1, 2, 3, 5]
        assert of_judge["sub_bags"].tolist() == [10, 10, 10, 1]
        last = of_judge.iloc[-1]
        assert last["tpr_sd"] == 0
        own = figures["tpr_at_fpr_1e-2"]
        assert last["tpr_min"] == last["tpr_max"] == last["tpr"] == pytest.approx(own, rel=1e-5)


def test_single_attackers_differ(audit):
    learn(curve_fpr=0.2)
    evaluate(TARGET)
    rows = curve("bag_size").query("learner == 'gbm'")
    first, last = rows.iloc[0], rows.iloc[-1]
    assert first["tpr_sd"] > 0
    assert last["tpr_sd"] == 0
    assert first["tpr_min"] < first["tpr"] < first["tpr_max"]
    z = ZTable.open(Path(f"data/z/{TARGET}/gbm.parquet")).read("t_error_t10")
    member, holdout = (-z[role] for role in ("member", "holdout"))
    alone = [power(member[:, b], holdout[:, b], 0.2, 0.95)["tpr"] for b in range(5)]
    for column in ("tpr_min", "tpr_max"):
        assert any(first[column] == pytest.approx(tpr, rel=1e-5) for tpr in alone)


def test_one_threshold_for_all_is_shown_on_every_t_error_and_each_learner_on_those_it_learnt(two_timesteps):
    rows = curve("timestep")
    of = {learner: rows.loc[rows["learner"] == learner, "timestep"].tolist() for learner in rows["learner"].unique()}
    assert of == {ONE_FOR_ALL: [0, 10, 20], **dict.fromkeys(JUDGES, LEARNT)}


def test_a_timestep_is_judged_by_its_own_column_of_one_bag(two_timesteps):
    rows, names = curve("timestep").set_index(["learner", "timestep"]), {"auc": "auc", "tpr": "tpr_at_fpr_1e-2"}
    for judge in JUDGES:
        assert_same(rows.loc[(judge, 0)], judges()[judge], **names, tpr_ci_low="tpr_at_fpr_1e-2_ci_low")
    for learner in TINY_LEARNERS:
        z = ZTable.open(Path(f"data/z/{TARGET}/{learner}.parquet"))
        for step in LEARNT:
            votes = [bag_vote(z.read(f"t_error_t{step}")[role]) for role in ("member", "holdout")]
            assert rows.loc[(learner, step)].to_dict() == pytest.approx(power(*votes, 0.01, 0.95), rel=1e-5)
    learn([f"t_error_t{step}" for step in LEARNT] + ["pia_t20"], score="t_error_t20")
    evaluate(TARGET)
    for judge in JUDGES:
        assert_same(rows.loc[(judge, 20)], judges()[judge], **names)


def test_one_threshold_for_all_takes_the_score_itself(two_timesteps):
    rows = curve("timestep").query("learner == @ONE_FOR_ALL").set_index("timestep")
    for step in (0, 10, 20):
        member, holdout = (
            -read_table(Path(f"data/scores/{TARGET}/{role}.parquet")).column(f"t_error_t{step}").to_numpy()
            for role in ("member", "holdout")
        )
        found = rows.loc[step, ["auc", "tpr", "tpr_ci_high"]].astype(float).to_dict()
        expected = power(member, holdout, 0.01, 0.95)
        assert found == pytest.approx({name: expected[name] for name in found}, rel=1e-5)


def test_without_a_t_error_the_curve_by_timestep_has_columns_and_no_rows(audit):
    scores = {role: {"loss_t20": np.arange(1.0, 100)} for role in ("member", "holdout")}
    empty = Evaluation(Evaluate(), {}, "loss_t20", {}, {}, {}).timestep_curve(scores)
    assert len(empty) == 0
    assert list(empty.columns) == list(curve("timestep").columns)


def test_a_holdout_that_cannot_resolve_the_curves_fpr_leaves_tpr_empty(audit):
    for folder in ("roles", "scores", "features"):
        path = Path(f"data/{folder}/{TARGET}/holdout.parquet")
        write_table(path, read_table(path).slice(0, 50), read_metadata(path))
    for learner in TINY_LEARNERS:
        predict(TARGET, learner)
    evaluate(TARGET)
    for name in ("bag_size", "timestep"):
        assert len(curve(name))
        assert curve(name)["tpr"].isna().all()
    assert curve("timestep")["auc"].between(0, 1).all()
    curves = {path.stem: pd.read_csv(path) for path in PLOTS.glob("*.csv")}
    curves["fit"] = pd.read_csv(f"metrics/fit/{TARGET}/gbm.csv").assign(learner="gbm")
    curves["loss"] = pd.read_csv(f"metrics/training/{TARGET}/loss.csv")
    drawn = draw_figures(curves, "gbm", "marginal", 0.01, "compressed_bits")
    few, many = {"roc", "rates", "conditional_fpr"}, {"all_roc", "all_rates", "bag_size", "timestep", "fit"}
    assert set(drawn) == {*few, *many, "loss"}


def test_curves_are_the_same_bytes_whenever_they_are_computed(audit):
    before = {path.name: path.read_bytes() for path in PLOTS.glob("*.csv")}
    evaluate(TARGET)
    assert {path.name: path.read_bytes() for path in PLOTS.glob("*.csv")} == before
