"""What evaluate refuses: one line that names the culprit, and the old results stay."""

from pathlib import Path

import pytest
from conftest import tiny_params, write_params

from leakgauge.tables import read_metadata, read_table, write_table
from stages.evaluate import evaluate

TARGET = "digits_ddpm"
FEATURES = Path(f"data/features/{TARGET}/holdout.parquet")


@pytest.fixture
def refused(audit, refusal):
    """Evaluate with these options and return the line it was refused with."""

    def refuse(**options) -> str:
        params = tiny_params()
        params["evaluate"] |= options
        write_params(params)
        before = Path(f"data/verdicts/{TARGET}.parquet").read_bytes()
        line = refusal(evaluate, target=TARGET)
        assert Path(f"data/verdicts/{TARGET}.parquet").read_bytes() == before
        return line

    return refuse


def test_an_alpha_that_the_auxiliary_images_cannot_support_is_refused_with_the_smallest_they_do(refused):
    line = refused(alphas=[0.1, 0.001])
    assert "params.yaml: evaluate.alphas: 0.001 asked for, but 105 auxiliary images calibrate" in line
    assert "the smallest alpha they support is 0.00944" in line


def test_the_smallest_alpha_named_is_one_that_stands(refused):
    named = float(refused(alphas=[0.1, 0.001]).split()[-1])
    params = tiny_params()
    params["evaluate"]["alphas"] = [named]
    write_params(params)
    evaluate(TARGET)
    assert (read_table(Path(f"data/verdicts/{TARGET}.parquet")).to_pandas()["p_value"] <= named).any()


def test_a_curves_fpr_that_the_auxiliary_images_cannot_support_is_refused(refused):
    assert "params.yaml: evaluate.curve_fpr: 0.002 asked for" in refused(curve_fpr=0.002)


def test_an_unknown_image_statistic_is_refused_with_those_that_come_close(refused):
    line = refused(complexity="compresed_bits")
    assert "params.yaml: evaluate.complexity: no image statistic 'compresed_bits'; there are compressed_bits" in line


def test_a_rule_of_fusion_that_no_longer_exists_is_refused(refused):
    assert "params.yaml: evaluate.fusion: unknown key" in refused(fusion="covariance")


def test_features_of_other_images_are_refused(refused):
    write_table(FEATURES, read_table(FEATURES).slice(1), read_metadata(FEATURES))
    assert f"{FEATURES}: describes other images than" in refused()


def test_missing_features_are_named_with_what_to_do(refused):
    FEATURES.unlink()
    assert f"{FEATURES}: not found: run `dvc repro` to make it" in refused()
