"""The real pipeline of the studies: `dvc repro` in a clone, twice, and after a change of one study."""

from pathlib import Path

import pandas as pd
import pytest
from conftest import REPOSITORY, TINY_LEARNERS, dump_params, quick_params
from pipeline import clone, repro, run
from ruamel.yaml import YAML

from leakgauge.files import file_hash

pytestmark = pytest.mark.slow
STUDIES = ["auxiliary_size", "beyond", "cost", "exposure", "mismatch", "uplift", "width"]  # of no more than two models
SHARES = {"member": 60, "auxiliary": 90, "of_auxiliary": None}
TINY = {
    "model": {
        "steps": 12,
        "width": 4,
        "warmup_steps": 2,
        "shares": SHARES,
    },
    "view": {"t_error": {"interval": 10, "last": 20}, "naive_loss": [20]},
    "bag": {"size": 2},
    "mismatch": {"seeds": [1], "shifts": {"blurred": [0, 1.0]}, "permutations": 9},
    "cost": {"timesteps": [100, 500], "fprs": [0.01]},
    "uplift": {"seeds": [1], "also": ["t_error_t0"], "learners": ["marginal", "gbm"]},
    "exposure": {"seeds": [1]},
    "beyond": {"seeds": [1]},
    "auxiliary_size": {"seeds": [1], "counts": [60, "all"]},
    "width": {"seeds": [1], "widths": [2], "bag_size": 2},
}


def tiny_studies() -> dict:
    """studies/params.yaml, small."""
    params = YAML(typ="safe", pure=True).load((REPOSITORY / "studies/params.yaml").read_text())
    for section, values in TINY.items():
        params[section] |= values
    beside_the_clones = ("mlp", "resnet")
    params["learners"] = {name: {"kind": name, **TINY_LEARNERS[name]} for name in beside_the_clones}
    params["models"]["ddpm"] = {"seeds": [0, 1]}
    params["models"]["shadow"] = {"seeds": [0], "shares": SHARES | {"member": 40, "of_auxiliary": 1}}
    tiny = {"samples": 4, "pia": [20], "pian": [20], "sima": [0]}
    params["views"]["ddpm"] |= tiny | {"rediffuse": {"timesteps": [50], "stride": 50, "draws": 2}}
    params["beyond"]["vae"] |= {"steps": 20, "hidden": 16}
    return params


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """The folder studies/ of a clone in which some studies have run."""
    folder = clone(tmp_path_factory.mktemp("studies"), quick_params()) / "studies"
    (folder / "dvc.lock").unlink(missing_ok=True)
    dump_params(tiny_studies(), folder)
    executed = repro(folder, *STUDIES)
    assert sorted(executed) == sorted(["prepare", "train@ddpm", "train@shadow", "score@ddpm", *STUDIES])
    return folder


def test_every_study_leaves_a_table_with_intervals_and_a_figure(finished):
    for study in STUDIES:
        table = pd.read_csv(finished / f"metrics/{study}.csv")
        assert len(table)
        assert any(name.endswith("_ci_low") for name in table), study
        assert (finished / f"metrics/figures/{study}.png").stat().st_size > 5000
    assert (finished / "metrics/exposed/exposure.png").exists()


def test_a_second_run_does_nothing(finished):
    assert repro(finished, *STUDIES) == []


def test_a_change_in_one_study_runs_that_study_alone(finished):
    changes = {"exposure": {"groups": 4}, "mismatch": {"blind_auc": 0.6}}
    params = tiny_studies()
    for study, values in changes.items():
        params[study] |= values
        dump_params(params, finished)
        assert repro(finished, *STUDIES) == [study]
    dump_params(tiny_studies(), finished)


def test_a_change_of_the_main_pipeline_runs_a_study_only_where_it_is_one_of_what_studies_share(finished):
    main = quick_params()
    main["report"]["exposed"] += 1
    dump_params(main, finished.parent)
    assert repro(finished, *STUDIES) == ["prepare"]
    main["evaluate"]["confidence"] = 0.9
    dump_params(main, finished.parent)
    assert sorted(repro(finished, "exposure")) == ["exposure", "prepare"]
    dump_params(quick_params(), finished.parent)


def test_trained_again_a_model_has_the_same_bytes(finished):
    before = file_hash(finished / "models/ddpm")
    run(finished, "dvc", "repro", "--force", "--single-item", "train@ddpm")
    assert file_hash(finished / "models/ddpm") == before


def test_a_misspelt_key_is_one_line_that_names_it(finished):
    params = tiny_studies()
    params["models"]["ddpm"]["sedes"] = [1]
    dump_params(params, finished)
    with pytest.raises(AssertionError) as done:
        run(finished, "python", "-m", "studies.train", "ddpm")
    assert "params.yaml: models.ddpm.sedes: unknown key (did you mean 'seeds'?)" in str(done.value)
    dump_params(tiny_studies(), finished)
