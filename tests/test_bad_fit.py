"""Bad input to fit and predict: one line that names the culprit, and what was there stays."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from conftest import tiny_params, write_params

from leakgauge.files import file_hash
from leakgauge.tables import read_metadata, read_table, write_table
from stages.fit import fit
from stages.predict import predict

TARGET = "digits_ddpm"
CHOICE = Path(f"data/selection/{TARGET}.json")
BAG = Path(f"models/quantile/{TARGET}/gbm")
FEATURES = Path(f"data/features/{TARGET}/auxiliary.parquet")


def change(**values: object) -> None:
    params = tiny_params()
    params["fit"] |= values
    write_params(params)


def rewrite(path: Path, table: pa.Table) -> None:
    write_table(path, table, read_metadata(path))


def test_an_unknown_column_beside_the_main_one_is_named_with_those_there_are(audit, refusal):
    change(fusion=["pia_t20", "pia_t21"])
    line = refusal(fit, target=TARGET, learner="gbm")
    assert "params.yaml: fit.fusion: no score column 'pia_t21'; there are t_error_t0, " in line


def test_a_fault_in_a_targets_override_is_named_where_it_stands(audit, refusal):
    params = tiny_params()
    params["targets"][TARGET]["fit"] = {"fusion": ["pia_t21"]}
    write_params(params)
    line = refusal(fit, target=TARGET, learner="gbm")
    assert f"targets.{TARGET}.fit.fusion: no score column 'pia_t21'" in line


def test_the_selected_score_where_nothing_was_selected_is_refused(audit, refusal):
    change(score="selected")
    line = refusal(fit, target=TARGET, learner="gbm")
    assert "params.yaml: fit.score: nothing was selected: select.share must be above 0" in line


@pytest.mark.parametrize("content", ["", "{}", "[1]", "not JSON", '{"score": '])
def test_a_choice_that_is_not_whole_is_refused(content, audit, refusal):
    change(score="selected")
    CHOICE.write_text(content)
    assert f"{CHOICE}: not what `select` wrote: run `dvc repro`" in refusal(fit, target=TARGET, learner="gbm")


def test_a_choice_that_is_not_there_is_refused_where_it_is_asked_for(audit, refusal):
    CHOICE.unlink()
    fit(TARGET, "marginal")
    change(score="selected")
    assert f"{CHOICE}: not found: run `dvc repro` to make it" in refusal(fit, target=TARGET, learner="gbm")


def test_a_chosen_score_that_is_not_there_is_refused(audit, refusal):
    CHOICE.write_text(json.dumps({"score": "pia_t21"}))
    change(score="selected")
    assert "fit.score: no score column 'pia_t21'" in refusal(fit, target=TARGET, learner="gbm")


@pytest.mark.parametrize("calibration", [71, 120, 5000])
def test_too_few_images_beside_those_kept_apart_are_refused(calibration, audit, refusal):
    change(calibration=calibration)
    before = file_hash(BAG)
    line = refusal(fit, target=TARGET, learner="gbm")
    kept = min(calibration, 120)
    assert (
        f"{120 - kept} distinct auxiliary images beside the {kept} of the calibration split (fit.calibration)" in line
    )
    assert "a bag needs at least 50 (split.auxiliary)" in line
    assert file_hash(BAG) == before


def test_images_just_enough_beside_those_kept_apart_will_do(audit):
    change(calibration=70)
    fit(TARGET, "marginal")


def test_a_negative_calibration_is_refused(audit, refusal):
    change(calibration=-1)
    assert "params.yaml: fit.calibration: Input should be greater than or equal to 0, found -1" in refusal(
        fit, target=TARGET, learner="gbm"
    )


@pytest.mark.parametrize("table", ["features", "scores"])
def test_tables_of_other_images_are_refused(table, audit, refusal):
    path = Path(f"data/{table}/{TARGET}/auxiliary.parquet")
    rewrite(path, read_table(path)[::-1])
    line = refusal(fit, target=TARGET, learner="gbm")
    assert f"{path}: its image_ids do not match data/roles/{TARGET}/auxiliary.parquet: run `dvc repro`" in line


@pytest.mark.parametrize("role", ["auxiliary", "holdout"])
def test_predict_refuses_features_of_other_images(role, audit, refusal):
    path = Path(f"data/features/{TARGET}/{role}.parquet")
    before = file_hash(Path(f"data/predictions/{TARGET}/gbm.parquet"))
    rewrite(path, read_table(path)[:-1])
    line = refusal(predict, target=TARGET, learner="gbm")
    assert f"{path}: its image_ids do not match data/roles/{TARGET}/{role}.parquet: run `dvc repro`" in line
    assert file_hash(Path(f"data/predictions/{TARGET}/gbm.parquet")) == before


def test_predict_refuses_a_bag_of_other_images(audit, refusal):
    path = BAG / "out_of_bag.parquet"
    rewrite(path, read_table(path)[::-1])
    line = refusal(predict, target=TARGET, learner="gbm")
    assert f"{BAG}: was fitted on other images than data/roles/{TARGET}/auxiliary.parquet holds" in line


def spoil(path: Path, value: float) -> str:
    """Put `value` into one statistic of the fourth image, whose id is returned."""
    table = read_table(path)
    values = table.column("mean_luma").to_numpy().copy()
    values[3] = value
    rewrite(path, table.set_column(table.column_names.index("mean_luma"), "mean_luma", pa.array(values)))
    return table.column("image_id")[3].as_py()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("learner", ["gbm", "mlp"])
def test_features_that_are_not_finite_are_refused(learner, value, audit, refusal):
    image_id = spoil(FEATURES, value)
    line = refusal(fit, target=TARGET, learner=learner)
    assert f"{FEATURES}: mean_luma of image {image_id} is {value}: run `dvc repro`" in line
    assert f"{FEATURES}: mean_luma of image {image_id}" in refusal(predict, target=TARGET, learner=learner)


def test_a_bag_without_a_description_is_refused(audit, refusal):
    (BAG / "bag.json").unlink()
    assert f"{BAG}: not a whole bag: " in refusal(predict, target=TARGET, learner="gbm")
