"""The experiments: what they promise is in their tables, and it is what the audit's own stages would find."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import TINY, TINY_LEARNERS, tiny_params, write_params

from leakgauge import bags
from leakgauge.ablations.timestep import ONE_FOR_ALL
from leakgauge.files import file_hash
from leakgauge.report.ablations import draw_experiments
from leakgauge.tables import read_metadata, read_table, write_table
from stages.evaluate import evaluate
from stages.fit import fit
from stages.predict import predict
from stages.report import report
from stages.select import select
from stages.sweep import FITTING, sweep

TARGET = "digits_ddpm"
LEARNER = TINY["sweep"]["learner"]
TABLES = Path(f"metrics/sweeps/{TARGET}")
NAMES = ("alpha", "bag_size", "timestep", "auxiliary", "width")
OFF = {"bag_sizes": [], "timesteps": [], "auxiliary": [], "widths": []}
METRICS = Path(f"metrics/{TARGET}.json")


def table(name: str) -> pd.DataFrame:
    return pd.read_csv(TABLES / f"{name}.csv")


def change(learners: dict | None = None, **sections: dict) -> None:
    """Write params.yaml with these options of sections, and of learners."""
    params = tiny_params()
    for section, values in sections.items():
        params[section] |= values
    params["learners"] |= learners or {}
    write_params(params)


def fitted_and_measured(learner: str) -> dict:
    """What the audit's own bag of a learner reaches, and its bag.json."""
    fit(TARGET, learner)
    predict(TARGET, learner)
    evaluate(TARGET)
    bag = json.loads(Path(f"models/quantile/{TARGET}/{learner}/bag.json").read_text())
    return json.loads(METRICS.read_text())[learner] | {"out_of_bag_loss": bag["out_of_bag_loss"]}


def assert_same(row: pd.Series, figures: dict, **names: str) -> None:
    """Columns of a row are figures of the metrics, by their names there."""
    for column, name in names.items():
        assert row[column] == pytest.approx(figures[name], rel=1e-5), column


def test_every_experiment_has_the_rows_it_promises(audit):
    asked = TINY["sweep"]
    assert set(table("alpha")["learner"]) == set(TINY_LEARNERS)
    assert table("bag_size")["attackers"].tolist() == asked["bag_sizes"]
    assert table("timestep")["timestep"].tolist() == [0, 0, 20, 20]
    assert table("timestep")["learner"].tolist() == [ONE_FOR_ALL, LEARNER] * 2
    assert table("auxiliary")["auxiliary"].tolist() == [60, 120]
    assert table("width")["width"].tolist() == asked["widths"]
    assert table("width")["parameters"].is_monotonic_increasing
    for name in NAMES:
        assert not table(name)[["learner"]].isna().any().any()


def test_alpha_tells_what_the_metrics_tell_and_no_level_that_cannot_be_reached(audit):
    rows, metrics = table("alpha"), json.loads(METRICS.read_text())
    for learner in TINY_LEARNERS:
        figures = metrics[learner]
        of_learner = rows[rows["learner"] == learner]
        assert of_learner["nominal"].min() >= figures["p_value_resolution"]
        assert (of_learner.groupby("verdict")["nominal"].count() > 10).all()
        for verdict, prefix in (("calibrated", ""), ("raw", "raw_")):
            at = of_learner[of_learner["verdict"] == verdict].set_index("nominal").loc[0.05]
            fpr = f"{prefix}realised_fpr_at_alpha_5e-2"
            assert_same(at, figures, fpr=fpr, fpr_ci_low=f"{fpr}_ci_low", fpr_count=f"{fpr}_count")
        at = of_learner[of_learner["verdict"] == "calibrated"].set_index("nominal").loc[0.05]
        assert_same(at, figures, tpr="tpr_at_alpha_5e-2", tpr_ci_high="tpr_at_alpha_5e-2_ci_high")


def test_a_whole_bag_has_no_spread_and_is_the_audits_own(audit):
    last = table("bag_size").iloc[-1]
    assert (last["attackers"], last["tpr_sd"]) == (TINY["fit"]["bag_size"], 0)
    own = json.loads(METRICS.read_text())[LEARNER]["tpr_at_fpr_1e-2"]
    assert last["tpr_min"] == last["tpr_max"] == last["tpr"] == pytest.approx(own, rel=1e-5)


def test_single_attackers_differ(audit):
    change(sweep=OFF | {"bag_sizes": [1, 5], "resamplings": 20}, evaluate={"curve_fpr": 0.2})
    sweep(TARGET)
    first, last = (table("bag_size").iloc[row] for row in (0, -1))
    assert first["tpr_sd"] > 0
    assert last["tpr_sd"] == 0
    assert first["tpr_min"] < first["tpr"] < first["tpr_max"]


def test_all_auxiliary_images_give_the_bag_that_fit_gives(audit):
    figures = json.loads(METRICS.read_text())[LEARNER]
    bag = json.loads(Path(f"models/quantile/{TARGET}/{LEARNER}/bag.json").read_text())
    last = table("auxiliary").iloc[-1]
    names = {"auc": "auc", "auc_ci_low": "auc_ci_low", "tpr": "tpr_at_fpr_1e-2"}
    assert_same(last, figures, **names, realised_fpr="realised_fpr_at_alpha_1e-2")
    assert last["out_of_bag_loss"] == pytest.approx(bag["out_of_bag_loss"], rel=1e-5)
    first = table("auxiliary").iloc[0]
    assert first["out_of_bag_loss"] != last["out_of_bag_loss"]
    assert np.isnan(first["realised_fpr"]), "60 auxiliary images support no p-value of 1 %"


def test_a_width_gives_the_bag_that_fit_gives_of_a_resnet_so_wide(audit):
    resnet = tiny_params()["learners"]["resnet"] | {"width": 2}
    loose = {"alphas": [0.1, 0.05], "curve_fpr": 0.05}  # one attacker leaves few images to calibrate on
    change(fit={"bag_size": 1}, learners={"resnet": resnet}, evaluate=loose, sweep=OFF | {"widths": [2]})
    figures = fitted_and_measured("resnet")
    sweep(TARGET)
    only = table("width").iloc[0]
    assert_same(only, figures, auc="auc", tpr="tpr_at_fpr_5e-2", out_of_bag_loss="out_of_bag_loss")


def test_a_timestep_is_judged_by_its_own_column_of_one_bag(audit):
    change(fit={"score": "t_error_t0", "fusion": ["t_error_t20"]})
    figures = fitted_and_measured(LEARNER)
    rows = table("timestep").set_index(["learner", "timestep"])
    assert_same(rows.loc[(LEARNER, 0)], figures, auc="auc", tpr="tpr_at_fpr_1e-2")
    by_score = pd.read_csv(f"metrics/plots/{TARGET}/timestep.csv").set_index("timestep")
    for step in (0, 20):
        one = rows.loc[(ONE_FOR_ALL, step)]
        assert_same(one, by_score.loc[step], auc="auc", auc_ci_high="auc_ci_high", tpr="tpr")


def test_images_set_apart_count_in_no_experiment(audit):
    change(select={"share": 0.4})
    select(TARGET)
    evaluate(TARGET)
    sweep(TARGET)
    figures = json.loads(METRICS.read_text())[LEARNER]
    assert figures["members"] < 60
    assert_same(table("auxiliary").iloc[-1], figures, auc="auc", auc_ci_low="auc_ci_low")
    marginal = table("alpha").query("learner == 'marginal' and nominal == 0.1 and verdict == 'calibrated'").iloc[0]
    assert marginal["tpr"] == pytest.approx(marginal["tpr_count"] / figures["members"], rel=1e-5)


def test_an_empty_list_leaves_an_experiment_out(audit):
    params = tiny_params()
    params["sweep"] |= OFF | {"learner": "nobody", "resnet": "nobody"}  # who are not needed
    write_params(params)
    for path in Path(f"metrics/figures/{TARGET}").glob("sweep_*"):
        path.unlink()
    sweep(TARGET)
    report()
    for name, module in FITTING.items():
        assert (TABLES / f"{name}.csv").read_text() == ",".join(module.COLUMNS) + "\n"
    assert [path.name for path in Path(f"metrics/figures/{TARGET}").glob("sweep_*")] == ["sweep_alpha.png"]


def test_a_holdout_that_cannot_resolve_the_curves_fpr_leaves_tpr_empty(audit):
    for folder in ("roles", "scores", "features"):
        path = Path(f"data/{folder}/{TARGET}/holdout.parquet")
        write_table(path, read_table(path).slice(0, 50), read_metadata(path))
    for learner in TINY_LEARNERS:
        predict(TARGET, learner)
    sweep(TARGET)
    for name in ("bag_size", "timestep", "auxiliary", "width"):
        assert table(name)["tpr"].isna().all()
    assert table("width")["auc"].between(0, 1).all()
    assert len(draw_experiments({name: table(name) for name in NAMES}, 0.01)) == len(NAMES)


def test_a_killed_run_resumes_and_ends_in_the_same_bytes(audit, monkeypatch):
    before, begun, spread = file_hash(TABLES), [], bags.spread

    def one_by_one(work, jobs, description):
        for job in jobs:
            if len(begun) == 7:
                begun.append("killed")
                raise KeyboardInterrupt
            begun.append(job[-1])
            work(*job)

    monkeypatch.setattr(bags, "spread", one_by_one)
    with pytest.raises(KeyboardInterrupt):
        sweep(TARGET)
    kept = list(Path(".partial").glob("sweep@*/*/*/attacker_*.safetensors"))
    assert len(kept) == 7
    assert file_hash(TABLES) == before, "nothing half done is written"
    rest = []
    monkeypatch.setattr(bags, "spread", lambda work, jobs, what: rest.extend(jobs) or spread(work, jobs, what))
    sweep(TARGET)
    assert len(rest) == 5 + 5 + 5 + 2 - 7, "the bag of all auxiliary images is that of the sub-bags, fitted once"
    assert file_hash(TABLES) == before
    assert not list(Path(".partial").glob("sweep@*/*"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"learner": "mpl"}, "params.yaml: sweep.learner: no learner 'mpl'; there are marginal, gbm, mlp, resnet"),
        ({"resnet": "resnet2"}, "params.yaml: sweep.resnet: no learner 'resnet2'; there are marginal, gbm"),
        ({"resnet": "gbm"}, "params.yaml: sweep.resnet: learner 'gbm' is a gbm, not a resnet"),
        ({"timesteps": [0, 50]}, "params.yaml: sweep.timesteps: no score column 't_error_t50'; there are t_error_t0, "),
        ({"auxiliary": [60, 200]}, "params.yaml: sweep.auxiliary: 200 images asked for: needs at least 50 and at most"),
        ({"auxiliary": [20]}, "params.yaml: sweep.auxiliary: 20 images asked for: needs at least 50 and at most the 1"),
        ({"auxiliary": ["some"]}, "params.yaml: sweep.auxiliary.0: "),
        ({"resamplings": 1}, "params.yaml: sweep.resamplings: Input should be greater than or equal to 2, found 1"),
        ({"bag_sizes": [0]}, "params.yaml: sweep.bag_sizes.0: Input should be greater than 0, found 0"),
    ],
)
def test_a_fault_in_the_section_is_named_before_anything_is_fitted(options, said, audit, refusal):
    before = file_hash(TABLES)
    change(sweep=options)
    assert said in refusal(sweep, target=TARGET)
    assert file_hash(TABLES) == before


def test_a_fault_in_a_targets_override_is_named_there(audit, refusal):
    params = tiny_params()
    params["targets"][TARGET]["sweep"] = {"learner": "mpl"}
    write_params(params)
    assert f"params.yaml: targets.{TARGET}.sweep.learner: no learner 'mpl'" in refusal(sweep, target=TARGET)


def test_a_learner_that_diverges_is_named(audit, refusal):
    mlp = tiny_params()["learners"]["mlp"] | {"learning_rate": 1e30}
    change(learners={"mlp": mlp}, sweep=OFF | {"learner": "mlp", "auxiliary": ["all"]})
    assert "params.yaml: learners.mlp: predicts NaN or inf" in refusal(sweep, target=TARGET)


def test_tables_of_other_images_are_refused(audit, refusal):
    path = Path(f"data/features/{TARGET}/member.parquet")
    write_table(path, read_table(path).slice(1), read_metadata(path))
    assert f"{path}: its image_ids do not match data/roles" in refusal(sweep, target=TARGET)
