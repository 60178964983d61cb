"""fit and predict: calibration splits, several scores, curves, and runs that were killed."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from conftest import TINY_LEARNERS, dump_params, tiny_params

from leakgauge.files import file_hash
from leakgauge.options import Learner
from leakgauge.quantile import bag
from leakgauge.quantile.bag import fit_attackers, fitted_at_once
from leakgauge.quantile.inputs import Inputs
from leakgauge.tables import (
    decode_images,
    list_values,
    log_scores,
    read_features,
    read_metadata,
    read_table,
    write_table,
)
from stages import fit as stage
from stages.config import config
from stages.evaluate import evaluate
from stages.fit import fit
from stages.predict import predict

TARGET = "digits_ddpm"
CONDITIONAL = [name for name in TINY_LEARNERS if name != "marginal"]


def change(learners: dict[str, dict] | None = None, **values: object) -> None:
    """Other options of `fit` and of learners; alphas that few images support."""
    params = tiny_params()
    params["fit"] |= values
    params["evaluate"] |= {"alphas": [0.1], "curve_fpr": 0.1}
    for name, changed in (learners or {}).items():
        params["learners"][name] |= changed
    dump_params(params)
    config(TARGET)


def bag_folder(learner: str) -> Path:
    return Path(f"models/quantile/{TARGET}/{learner}")


def description(learner: str) -> dict:
    return json.loads((bag_folder(learner) / "bag.json").read_text())


def curve(learner: str) -> pd.DataFrame:
    return pd.read_csv(f"metrics/fit/{TARGET}/{learner}.csv")


def z_file(learner: str) -> Path:
    return Path(f"data/z/{TARGET}/{learner}.parquet")


def z_scores(learner: str) -> pd.DataFrame:
    return read_table(z_file(learner)).to_pandas()


def judges() -> dict:
    return json.loads(Path(f"metrics/details/{TARGET}.json").read_text())["judges"]


def test_images_kept_apart_calibrate_and_no_attacker_saw_them(audit):
    change(calibration=40)
    for learner in TINY_LEARNERS:
        fit(TARGET, learner)
        predict(TARGET, learner)
    rows = z_scores("gbm")
    auxiliary = rows[rows["role"] == "auxiliary"]
    kept = auxiliary["calibrates"]
    assert kept.sum() == 40
    assert not rows.loc[rows["role"] != "auxiliary", "calibrates"].any()
    out_of_bag = np.stack(auxiliary["out_of_bag"])
    assert out_of_bag[kept].all()
    assert 0.2 < out_of_bag[~kept].mean() < 0.5
    evaluate(TARGET)
    assert set(judges()) == {*TINY_LEARNERS, "stack"}
    for figures in judges().values():
        assert figures["calibration_by"] == "calibration split"
        assert figures["calibration"] == 40


def test_all_learners_keep_the_same_images_apart_and_draw_the_same_resamples(audit):
    change(calibration=40)
    masks = []
    for learner in ("marginal", "gbm"):
        fit(TARGET, learner)
        masks.append(read_table(bag_folder(learner) / "out_of_bag.parquet"))
    assert masks[0].equals(masks[1])


def test_without_images_kept_apart_all_calibrate_out_of_bag(audit):
    rows = z_scores("gbm")
    auxiliary = rows[rows["role"] == "auxiliary"]
    assert auxiliary["calibrates"].all()
    assert 0.2 < np.stack(auxiliary["out_of_bag"]).mean() < 0.5
    assert np.stack(rows.loc[rows["role"] == "holdout", "out_of_bag"]).all()


def test_all_scores_are_learnt_together_in_the_order_asked_for_and_each_is_predicted_and_judged(audit):
    change(scores=["t_error_t10", "pia_*", "t_error_t10", "sima_t0"])  # one is asked for twice: counts once
    scores = ["t_error_t10", "pia_t20", "sima_t0"]
    for learner in TINY_LEARNERS:
        fit(TARGET, learner)
        predict(TARGET, learner)
        assert description(learner)["scores"] == scores
        table = read_table(z_file(learner))
        gaussian = description(learner)["options"].get("head", "quantiles") == "location_scale"
        stored = ["z", "log_scale"] if gaussian else ["z"]
        assert table.column_names[4:] == [f"{score}.{name}" for score in scores for name in stored]
        for name in table.column_names[4:]:
            values = list_values(table, name)
            assert (values.shape, values.dtype) == ((330, 5), np.float32)
    evaluate(TARGET)
    assert set(judges()) == {f"{name}{end}" for name in (*TINY_LEARNERS, "stack") for end in ("", "_fusion")}


def test_a_bag_that_was_asked_for_one_score_predicts_it_alone(audit):
    for learner in TINY_LEARNERS:
        assert {name.split(".")[0] for name in z_scores(learner).columns[4:]} == {"t_error_t10"}


@pytest.mark.parametrize("learner", TINY_LEARNERS)
def test_z_scores_on_disk_are_those_that_attackers_say_of_observed_scores(audit, learner):
    of, rows = bag.Bag.open(bag_folder(learner)), z_scores(learner)
    for role in ("member", "auxiliary", "holdout"):
        images, features, scores = (
            Path(f"data/{kind}/{TARGET}/{role}.parquet") for kind in ("roles", "features", "scores")
        )
        inputs = Inputs(decode_images(read_table(images)), read_features(features)[1])
        observed = log_scores(scores, "t_error_t10")[:, None]
        expected = [of.attacker(number).predict(inputs).z_scores(observed)[:, 0] for number in range(5)]
        stored = np.stack(rows.loc[rows["role"] == role, "t_error_t10.z"])
        np.testing.assert_allclose(stored, np.stack(expected, axis=1), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("learner", TINY_LEARNERS)
def test_the_curve_tells_the_losses_of_every_attacker(audit, learner):
    rows = curve(learner)
    assert list(rows.columns) == ["attacker", "step", "train", "out_of_bag"]
    assert list(rows["attacker"].unique()) == list(range(5))
    assert np.isfinite(rows.to_numpy()).all()
    last = rows.groupby("attacker").last()
    assert description(learner)["out_of_bag_loss"] == pytest.approx(last["out_of_bag"].mean(), rel=1e-4)


def plant_a_score_that_images_tell() -> None:
    """Let the auxiliary images' main score follow their brightness."""
    path = Path(f"data/scores/{TARGET}/auxiliary.parquet")
    table = read_table(path)
    brightness = read_table(Path(f"data/features/{TARGET}/auxiliary.parquet")).column("mean_luma").to_numpy()
    noise = np.random.default_rng(0).standard_normal(len(brightness))
    values = np.exp((brightness - brightness.mean()) / brightness.std() + 0.1 * noise)
    place = table.column_names.index("t_error_t10")
    write_table(path, table.set_column(place, "t_error_t10", pa.array(values)), read_metadata(path))


def test_the_unseen_loss_of_a_learner_that_learns_goes_down(audit):
    plant_a_score_that_images_tell()
    change({"mlp": {"epochs": 40, "dropout": 0.0, "learning_rate": 1e-2}}, bag_size=2)
    for learner in ("mlp", "marginal"):
        fit(TARGET, learner)
    rows = curve("mlp")
    assert (rows.groupby("attacker").size() == 8).all()
    losses = rows.groupby("step")["out_of_bag"].mean()
    assert losses.iloc[-1] < 0.7 * losses.iloc[0]
    assert losses.iloc[-1] < 0.7 * curve("marginal")["out_of_bag"].mean(), "one threshold for all learns nothing"


@pytest.mark.parametrize("learner", CONDITIONAL)
def test_a_run_that_was_killed_goes_on_and_ends_in_the_same_bytes(audit, learner, monkeypatch):
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    outputs = (bag_folder(learner), Path(f"metrics/fit/{TARGET}/{learner}.csv"))
    before, seeds = [file_hash(path) for path in outputs], []

    def die_at_the_third(inputs, log_scores, options, of_some, drawn):
        seeds.extend(of_some)
        if len(seeds) == 3:
            raise KeyboardInterrupt
        return fit_attackers(inputs, log_scores, options, of_some, drawn)

    monkeypatch.setattr(stage, "fit_attackers", die_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        fit(TARGET, learner)
    assert [file_hash(path) for path in outputs] == before, "what was there stays until all is done"
    fit(TARGET, learner)
    assert seeds == [0, 1, 2, 2, 3, 4], "two were done, the third begins again"
    assert [file_hash(path) for path in outputs] == before
    assert not list(Path(".partial").glob("fit@*/*"))


def test_a_run_that_was_killed_while_it_wrote_an_attacker_writes_it_again(audit, monkeypatch):
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    before, places = file_hash(bag_folder("gbm")), []

    def die_at_the_second(made, destination):
        places.append(destination)
        if len(places) == 2:
            raise KeyboardInterrupt
        place_folder(made, destination)

    place_folder = stage.place_folder
    monkeypatch.setattr(stage, "place_folder", die_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        fit(TARGET, "gbm")
    fit(TARGET, "gbm")
    assert file_hash(bag_folder("gbm")) == before


def test_work_on_other_options_is_not_gone_on_with(audit, monkeypatch):
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    numbers = []

    def die_once(inputs, log_scores, options, seeds, drawn):
        numbers.extend((options.trees, seed) for seed in seeds)
        if len(numbers) == 2:
            raise KeyboardInterrupt
        return fit_attackers(inputs, log_scores, options, seeds, drawn)

    monkeypatch.setattr(stage, "fit_attackers", die_once)
    with pytest.raises(KeyboardInterrupt):
        fit(TARGET, "gbm")
    change({"gbm": {"trees": 6}})
    fit(TARGET, "gbm")
    assert numbers[2:] == [(6, seed) for seed in range(5)]


@pytest.mark.parametrize("learner", CONDITIONAL)
def test_the_number_of_processes_changes_no_byte(audit, learner, monkeypatch):
    before = file_hash(bag_folder(learner)), file_hash(z_file(learner))
    for processes in ("1", "2"):
        monkeypatch.setenv("LOKY_MAX_CPU_COUNT", processes)
        fit(TARGET, learner)
        predict(TARGET, learner)
        assert (file_hash(bag_folder(learner)), file_hash(z_file(learner))) == before


def test_a_larger_bag_has_the_smaller_ones_attackers(audit):
    before = [file_hash(bag_folder("gbm") / f"attacker_{number:03d}") for number in range(5)]
    change(bag_size=7)
    fit(TARGET, "gbm")
    assert [file_hash(bag_folder("gbm") / f"attacker_{number:03d}") for number in range(5)] == before
    assert len(list(bag_folder("gbm").glob("attacker_*"))) == 7


@pytest.mark.parametrize("learner", TINY_LEARNERS)
def test_images_that_attackers_stopped_by_calibrate_none_of_their_verdicts(audit, learner):
    before = list_values(read_table(bag_folder(learner) / "out_of_bag.parquet"), "out_of_bag")
    change(patience=1)
    fit(TARGET, learner)
    predict(TARGET, learner)
    after = list_values(read_table(bag_folder(learner) / "out_of_bag.parquet"), "out_of_bag")
    assert not (after & ~before).any()
    left = after.sum(0) / before.sum(0)
    assert ((left > 0.6) & (left < 0.8)).all(), "about a quarter of each attacker's is gone"
    rows = z_scores(learner)
    np.testing.assert_array_equal(np.stack(rows.loc[rows["role"] == "auxiliary", "out_of_bag"]), after)
    assert description(learner)["patience"] == 1


@pytest.mark.parametrize("learner", ["mlp", "resnet"])
def test_groups_trained_at_once_are_the_same_bag_and_a_killed_run_keeps_the_groups_it_finished(
    audit, learner, monkeypatch
):
    monkeypatch.setattr(stage, "fitted_at_once", lambda options: 2)  # as on a GPU
    one_by_one, groups = z_scores(learner), []

    def die_at_the_second(inputs, log_scores, options, seeds, drawn):
        groups.append(seeds)
        if len(groups) == 2:
            raise KeyboardInterrupt
        return fit_attackers(inputs, log_scores, options, seeds, drawn)

    monkeypatch.setattr(stage, "fit_attackers", die_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        fit(TARGET, learner)
    fit(TARGET, learner)
    assert groups == [[0, 1], [2, 3], [2, 3], [4]]
    predict(TARGET, learner)
    for name in one_by_one.columns[4:]:
        np.testing.assert_allclose(np.stack(z_scores(learner)[name]), np.stack(one_by_one[name]), atol=1e-4)


def test_a_gpu_trains_networks_at_once_and_a_cpu_each_in_its_own_process(monkeypatch):
    chosen = {name: Learner.model_validate(tiny_params()["learners"][name]).root for name in TINY_LEARNERS}
    assert {name: fitted_at_once(options) for name, options in chosen.items()} == dict.fromkeys(TINY_LEARNERS, 1)
    monkeypatch.setattr(bag, "best_device", lambda: torch.device("cuda"))
    several = {name for name, options in chosen.items() if fitted_at_once(options) > 1}
    assert several == {"mlp", "resnet"}
