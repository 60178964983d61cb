"""The real pipeline: `dvc repro` in a clone, changed in every way that must not cost too much."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import ask_about, dump_params, quick_params
from PIL import Image
from pipeline import TARGET, environment, git, repro, run

pytestmark = pytest.mark.slow
MEASURE = {f"config@{TARGET}", f"evaluate@{TARGET}", "report"}  # the stages that measure bags, and validate options


@pytest.fixture
def pipeline(finished_clone: Path) -> Iterator[Path]:
    """The clone as it was committed, and so it is left: also without runs that DVC could restore in other tests."""
    runs = finished_clone / ".dvc/cache/runs"
    before = set(runs.rglob("*"))
    yield finished_clone
    for path in sorted(set(runs.rglob("*")) - before, reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    git(finished_clone, "checkout", "--quiet", ".")
    run(finished_clone, "dvc", "checkout", "--quiet", "--force")


def change(folder: Path, section: str, **values) -> None:
    params = quick_params()
    params[section] |= values
    dump_params(params, folder)


def test_a_second_run_does_nothing(pipeline):
    assert repro(pipeline) == []
    assert git(pipeline, "status", "--porcelain") == ""


def test_an_evaluate_option_is_validated_and_reruns_what_measures_and_nothing_else(pipeline):
    change(pipeline, "evaluate", confidence=0.9)
    assert repro(pipeline) == [f"config@{TARGET}", f"evaluate@{TARGET}", "report"]


def test_a_report_option_reruns_the_report_only(pipeline):
    change(pipeline, "report", exposed=3)
    assert repro(pipeline) == ["report"]


def test_a_ceiling_in_an_entry_reruns_the_report_only(pipeline):
    params = quick_params()
    params["targets"][TARGET]["fail_above"] = ["auc=0.6"]
    dump_params(params, pipeline)
    assert set(repro(pipeline)) == {f"config@{TARGET}", "report"}, "and does not fail"


def test_an_option_left_out_is_its_default_and_reruns_what_it_decides_when_that_changes(pipeline):
    params = quick_params()
    del params["evaluate"]["confidence"]
    dump_params(params, pipeline)
    assert set(repro(pipeline)) == {f"config@{TARGET}", "report"}, "the value is the same"
    options = pipeline / "leakgauge/options.py"
    options.write_text(options.read_text().replace("confidence: Rate = _(0.95,", "confidence: Rate = _(0.9,"))
    assert set(repro(pipeline)) == MEASURE


def test_a_misspelt_key_ends_the_run_before_anything_else_of_the_target_ran(pipeline):
    params = quick_params()
    params["split"]["holdout"] = 200  # split and all after it are called for
    params["evaluate"]["confidense"] = 0.9
    dump_params(params, pipeline)
    done = subprocess.run(["dvc", "repro"], cwd=pipeline, env=environment(), capture_output=True, text=True)
    assert done.returncode != 0
    assert re.findall(r"Running stage '(.+)':", done.stdout) == [f"config@{TARGET}"]
    assert "params.yaml: evaluate.confidense: unknown key (did you mean 'confidence'?)" in done.stderr


def test_a_changed_learner_refits_only_itself(pipeline):
    params = quick_params()
    params["learners"]["gbm"]["trees"] = 6
    dump_params(params, pipeline)
    assert set(repro(pipeline)) == {f"fit@{TARGET}-gbm", f"predict@{TARGET}-gbm", *MEASURE}


def test_a_larger_holdout_trains_and_fits_nothing(pipeline):
    change(pipeline, "split", holdout=200)
    executed = repro(pipeline)
    stages = {name.split("@")[0] for name in executed}
    assert stages == {"config", "split", "check", "score", "predict", "evaluate", "copies", "report"}
    assert [name for name in executed if name.startswith("score")] == [f"score@{TARGET}-holdout"]


def test_another_learner_adds_its_own_stages_and_leaving_it_out_takes_it_from_the_results(pipeline):
    params = quick_params()
    params["learners"]["gbm2"] = params["learners"]["gbm"] | {"leaves": 4}
    dump_params(params, pipeline)
    assert set(repro(pipeline)) == {f"fit@{TARGET}-gbm2", f"predict@{TARGET}-gbm2", *MEASURE}
    dump_params(quick_params(), pipeline)
    assert {f"evaluate@{TARGET}", "report"} <= set(repro(pipeline)) <= MEASURE
    assert "gbm2" not in json.loads((pipeline / f"metrics/details/{TARGET}.json").read_text())["judges"]


def test_suspects_cost_their_images_scores_and_a_verdict_and_nothing_else(pipeline):
    found = pipeline / "found"
    found.mkdir()
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(found / "mine.png")
    dump_params(ask_about("asked", {"source": "folder", "path": "found"}, quick_params()), pipeline)
    executed = repro(pipeline)
    shutil.rmtree(found)
    validated = {"images@asked_images", f"config@{TARGET}"}
    assert set(executed) == {*validated, "score_suspects@asked", "suspects@asked", "report"}
    assert json.loads((pipeline / "metrics/suspects/asked.json").read_text())["suspects"] == 1


def test_a_clone_knows_that_nothing_has_to_run(pipeline, tmp_path):
    git(tmp_path, "clone", "--quiet", str(pipeline), "clone")
    assert repro(tmp_path / "clone", "--dry", "--allow-missing") == []


def test_metrics_parameters_and_plots_compare_between_commits(pipeline):
    params = quick_params()
    params["learners"]["gbm"]["leaves"] = 4
    dump_params(params, pipeline)
    repro(pipeline)
    metrics = json.loads(run(pipeline, "dvc", "metrics", "diff", "--json"))
    assert "auc" in metrics[f"metrics/{TARGET}.json"]
    assert "learners.gbm.leaves" in run(pipeline, "dvc", "params", "diff")
    run(pipeline, "dvc", "plots", "diff", "HEAD")
    page = (pipeline / "dvc_plots/index.html").read_text()
    axes = ("True-positive rate (members)", "FPR (holdout)", "Attackers in the bag", "Timestep of the t-error")
    assert [axis for axis in axes if axis not in page] == []
    shutil.rmtree(pipeline / "dvc_plots")


def test_an_experiment_changes_a_parameter_from_the_command_line(pipeline):
    told = run(pipeline, "dvc", "exp", "run", "-S", "evaluate.confidence=0.8")
    assert f"Running stage 'evaluate@{TARGET}'" in told
    shown = run(pipeline, "dvc", "exp", "show", "--csv")
    assert "evaluate.confidence" in shown
    assert "0.8" in shown
    run(pipeline, "dvc", "exp", "remove", "--all-commits")
