"""Bad input to fit and predict: one line that names the culprit, and what was there stays."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from conftest import dump_params, tiny_params

from leakgauge.files import file_hash
from leakgauge.tables import read_metadata, read_table, write_table
from stages.config import config
from stages.fit import fit
from stages.predict import predict
from stages.score import score
from stages.split import split
from stages.target import target as make_target

TARGET = "digits_ddpm"
BAG, Z = Path(f"models/quantile/{TARGET}/gbm"), Path(f"data/z/{TARGET}/gbm.parquet")
FEATURES = Path(f"data/features/{TARGET}/auxiliary.parquet")


def change(**values: object) -> None:
    """Other options of `fit`; alphas that few images support."""
    params = tiny_params()
    params["fit"] |= values
    params["evaluate"] |= {"alphas": [0.1], "curve_fpr": 0.1}
    dump_params(params)
    config(TARGET)


def rewrite(path: Path, table: pa.Table, **facts: object) -> None:
    write_table(path, table, read_metadata(path) | facts)


def test_a_score_that_a_file_of_scores_does_not_have_is_named_with_those_it_has(elsewhere, refusal):
    params = tiny_params()
    params["datasets"]["photos"] = {"source": "parquet", "path": "photos.parquet"}
    theirs = {"target": {"scores": ["loss", "distance"]}, "fit": {"scores": ["dist*", "los"]}}
    params["targets"] = {
        "theirs": {"images": "photos", "model": "scores.csv", "split": {"auxiliary": 110, "holdout": "rest"}, **theirs}
    }
    dump_params(params)
    config("theirs")
    split("theirs")
    make_target("theirs")
    score("theirs", "auxiliary")
    line = refusal(fit, target="theirs", learner="gbm")
    assert "params.yaml: targets.theirs.fit.scores: no score column 'los'; there are loss, distance" in line


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


@pytest.mark.parametrize("table", ["features", "scores"])
def test_tables_of_other_images_are_refused(table, audit, refusal):
    path = Path(f"data/{table}/{TARGET}/auxiliary.parquet")
    rewrite(path, read_table(path)[::-1])
    line = refusal(fit, target=TARGET, learner="gbm")
    assert f"{path}: its image_ids do not match data/roles/{TARGET}/auxiliary.parquet: run `dvc repro`" in line


@pytest.mark.parametrize("table", ["features", "scores"])
@pytest.mark.parametrize("role", ["auxiliary", "holdout"])
def test_predict_refuses_tables_of_other_images(role, table, audit, refusal):
    path, before = Path(f"data/{table}/{TARGET}/{role}.parquet"), Z.read_bytes()
    rewrite(path, read_table(path)[:-1])
    line = refusal(predict, target=TARGET, learner="gbm")
    assert f"{path}: its image_ids do not match data/roles/{TARGET}/{role}.parquet: run `dvc repro`" in line
    assert Z.read_bytes() == before


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"target_sha256": "0" * 64}, f"scores of another target than the one behind {BAG}: run `dvc repro`"),
        ({"computed_on": {"torch": "0.1"}}, "scores computed with torch 0.1, those behind"),
    ],
)
def test_predict_refuses_scores_that_do_not_go_with_the_bag(facts, said, audit, refusal):
    path = Path(f"data/scores/{TARGET}/member.parquet")
    rewrite(path, read_table(path), **facts)
    assert f"{path}: {said}" in refusal(predict, target=TARGET, learner="gbm")


def test_predict_refuses_a_bag_of_other_images(audit, refusal):
    path = BAG / "out_of_bag.parquet"
    rewrite(path, read_table(path)[::-1])
    line = refusal(predict, target=TARGET, learner="gbm")
    assert f"{BAG}: was fitted on other images than data/roles/{TARGET}/auxiliary.parquet holds" in line


def spoil(path: Path, value: float) -> str:
    """Put `value` into one feature of the fourth image, whose id is returned."""
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
