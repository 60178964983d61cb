"""What evaluate refuses: one line that names the culprit, and the old results stay."""

import json
import re
from pathlib import Path

import pytest
from conftest import dump_params, tiny_params

from leakgauge.tables import list_column, list_values, read_metadata, read_table, write_table
from stages.config import config
from stages.evaluate import evaluate
from stages.split import split

TARGET = "digits_ddpm"
FEATURES = Path(f"data/features/{TARGET}/holdout.parquet")
VERDICTS, Z = Path(f"data/verdicts/{TARGET}.parquet"), Path(f"data/z/{TARGET}/mlp.parquet")


def change(**options: object) -> None:
    params = tiny_params()
    params["evaluate"] |= options
    dump_params(params)
    config(TARGET)


@pytest.fixture
def refused(audit, refusal):
    """Evaluate with these options and return the line it was refused with."""

    def refuse(**options) -> str:
        change(**options)
        before = VERDICTS.read_bytes()
        line = refusal(evaluate, target=TARGET)
        assert VERDICTS.read_bytes() == before
        return line

    return refuse


@pytest.mark.parametrize("options", [{"alphas": [0.1, 0.0085]}, {"curve_fpr": 0.0085}])
def test_an_alpha_that_the_images_out_of_bag_cannot_support_is_refused_with_the_smallest_they_do(options, refused):
    table = read_table(Z)
    auxiliary = table.column("role").to_numpy() == "auxiliary"
    calibrating = int(list_values(table, "out_of_bag")[auxiliary].any(axis=1).sum())
    assert calibrating < 117 < auxiliary.sum(), "0.0085 takes 117 images, and `config` counts all that there are"
    line = refused(**options)
    said = f"0.0085 asked for, but {calibrating} auxiliary images calibrate: the smallest alpha they support is "
    assert f"params.yaml: evaluate.{next(iter(options))}: {said}" in line
    named = float(line.split()[-1])
    change(alphas=[named], curve_fpr=named)
    evaluate(TARGET)
    judges = json.loads(Path(f"metrics/details/{TARGET}.json").read_text())["judges"].values()
    assert all(0.99 * named < figures["p_value_resolution"] <= named for figures in judges), "one image can be flagged"


def test_an_alpha_that_a_share_of_the_images_cannot_support_is_refused_by_split(audit, refusal):
    params = tiny_params()
    params["split"]["auxiliary"] = 0.05
    dump_params(params)
    config(TARGET)
    line = refusal(split, target=TARGET)
    assert re.search(r"params.yaml: evaluate.alphas: 0.01 asked for, but 8\d auxiliary images calibrate", line)


def test_an_unknown_feature_is_refused_with_those_that_come_close(refused):
    line = refused(complexity="compresed_bits")
    assert "params.yaml: evaluate.complexity: no image feature 'compresed_bits'; there are compressed_bits" in line


def test_features_of_other_images_are_refused(refused):
    write_table(FEATURES, read_table(FEATURES).slice(1), read_metadata(FEATURES))
    assert f"{FEATURES}: its image_ids do not match data/scores/{TARGET}/holdout.parquet: run `dvc repro`" in refused()


def test_missing_features_are_named_with_what_to_do(refused):
    FEATURES.unlink()
    assert f"{FEATURES}: not found: run `dvc repro` to make it" in refused()


def test_z_scores_of_another_bags_scores_are_refused(refused):
    facts = read_metadata(Z)
    facts["bag"]["scores"] = ["pia_t20"]
    write_table(Z, read_table(Z), facts)
    assert f"{Z}: its bag learnt other scores than another learner's: run `dvc repro`" in refused()


def test_a_stack_of_bags_that_saw_other_images_is_refused(refused):
    table = read_table(Z)
    mask = list_column(~list_values(table, "out_of_bag"))
    write_table(Z, table.set_column(table.column_names.index("out_of_bag"), "out_of_bag", mask), read_metadata(Z))
    assert f"{Z}: another bag's images than data/z/{TARGET}/gbm.parquet: run `dvc repro`" in refused()
