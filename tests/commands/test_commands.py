"""The command `leakgauge`: its help, a new project, progress, and an audit from a new project to the verdict."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import REPOSITORY, dump_params, quick_params
from PIL import Image
from pipeline import TARGET, environment, git
from ruamel.yaml import YAML

from leakgauge.cli import read_yaml
from leakgauge.commands import COMMANDS
from leakgauge.commands.audit import named_after
from leakgauge.commands.graph import changed_runs, graph
from leakgauge.commands.init import empty_params
from leakgauge.commands.models import constant
from leakgauge.commands.pipeline import Progress, minutes
from leakgauge.diffusion import loading
from leakgauge.errors import InputError

DATASET = "digits"


def leakgauge(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "leakgauge", *words]
    names = {f"GIT_{who}_{what}": "test" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    return subprocess.run(command, cwd=folder, env=environment() | names, capture_output=True, text=True)


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_teaches_by_an_example(command):
    done = leakgauge(REPOSITORY, *([command] if command else []), "--help")
    assert done.returncode == 0
    assert re.search(rf"^    leakgauge {command}", done.stdout, flags=re.MULTILINE)


def test_help_needs_no_torch_and_no_pandas():
    code = "import sys; from leakgauge.commands import parser; parser(); print({*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert not re.search(r"'(torch|pandas|dvc)'", done.stdout)


@pytest.mark.parametrize("words", [("report",), ("check",), ("audit", "pipeline", "photos")])
def test_elsewhere_than_in_a_project_a_command_is_refused_in_one_line(words, tmp_path):
    done = leakgauge(tmp_path, *words)
    assert done.returncode == 1
    assert "no audit project" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("model", "name"),
    [("my_pipeline", "my_pipeline"), ("a/b-c.d/", "b_c_d"), (f"owner/na-me@{'0' * 40}", "na_me")],
)
def test_an_audit_is_named_after_its_model(model, name):
    assert named_after(model) == name


@pytest.mark.parametrize("model", ["2nd", "...", "/"])
def test_of_a_model_without_letters_in_front_no_name_is_made_up(model):
    with pytest.raises(InputError, match="say --name"):
        named_after(model)


def test_a_new_project_has_the_options_of_this_one_and_no_entries():
    text = (REPOSITORY / "params.yaml").read_text()
    params, empty = (YAML(typ="safe").load(one) for one in (text, empty_params(text)))
    for registry in ("datasets", "targets", "suspects"):
        assert empty.pop(registry) == {}
        params.pop(registry)
    assert empty == params


def test_the_runs_are_those_that_dvc_names(monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    listed = subprocess.run(["dvc", "stage", "list", "--name-only"], capture_output=True, text=True, check=True)
    assert sorted(graph().reads) == sorted(listed.stdout.split())


class Clock:
    """A clock that is set."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_progress_counts_the_runs_to_come_and_skips_shorten_what_is_left():
    clock = Clock()
    progress = Progress(["a", "b", "c", "d"], {"a": 60.0, "b": 600.0, "c": 60.0, "d": 60.0}, clock)
    assert progress.start("a") == "[1/4] a, 1 s so far, about 13 min left"
    clock.now = 60.0
    progress.skip("b")
    assert progress.start("c") == "[3/4] c, 60 s so far, about 2 min left"
    progress.skip("elsewhere")
    assert progress.start("new").startswith("[4/5] new"), "one that was not foreseen"
    assert progress.start("d").startswith("[5/5] d")


def test_the_time_left_follows_how_long_stages_take_and_stays_within_bounds():
    clock = Clock()
    runs = [f"fit@{number}" for number in range(10)]
    progress = Progress(runs, dict.fromkeys(runs, 60.0), clock)
    left = []
    for run in runs:
        left.append(progress.start(run).rpartition("about ")[2])
        clock.now += 120.0
    assert left[0] == "10 min left", "as estimated"
    assert left[5] == "10 min left", "five runs, each of twice the time"
    assert left[-1] == "2 min left"
    progress, clock.now = Progress(["a", "b"], {"a": 1.0, "b": 60.0}, clock), 1200.0
    progress.start("a")
    clock.now += 36_000.0
    assert progress.start("b").endswith("about 5 min left"), "never more than five times what was estimated"


def test_without_an_estimate_no_time_left_is_told_until_some_work_is_done():
    clock = Clock()
    progress = Progress([f"evaluate@{number}" for number in range(8)], clock=clock)
    assert "left" not in progress.start("evaluate@0")
    clock.now = 8.0
    progress.start("evaluate@1")
    clock.now = 16.0
    assert progress.start("evaluate@2").endswith("about 48 s left")


def test_a_run_is_stale_where_it_changed_or_follows_one_that_did(monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    known = graph()
    every = known.needed(["report"])
    assert sorted(every) == sorted([*known.reads])
    assert every.index(f"images@{DATASET}") < every.index(f"split@{TARGET}") < every.index(f"score@{TARGET}-member")
    fitted = {f"fit@{TARGET}-gbm", f"predict@{TARGET}-gbm", f"evaluate@{TARGET}", "report"}
    assert set(known.stale(["report"], {f"fit@{TARGET}-gbm"})) == fitted
    assert known.stale(["report"], set()) == []
    assert known.stale(["report"], None) == every, "where DVC cannot tell, all may be"
    first = {f"images@{DATASET}", f"config@{TARGET}", f"split@{TARGET}", f"check@{TARGET}"}
    assert set(known.needed([f"check@{TARGET}"])) == first


def test_what_dvc_says_of_changes_is_read_and_anything_else_is_unknown():
    said = '{"score@mine-member": [{"changed deps": {}}], "dvc.yaml:report": []}'
    assert changed_runs(said) == {"score@mine-member", "report"}
    assert changed_runs("{}") == set()
    assert changed_runs("ERROR: no") is None


@pytest.mark.parametrize("name", ["NETWORKS", "AUTOENCODERS", "SCHEDULERS"])
def test_models_lists_what_loading_opens(name):
    assert constant(name) == list(getattr(loading, name))


@pytest.mark.parametrize(("seconds", "text"), [(0.2, "1 s"), (40, "40 s"), (200, "3 min"), (7800, "2 h 10 min")])
def test_times_are_said_in_words(seconds, text):
    assert minutes(seconds) == text


@pytest.fixture
def clone(tmp_path) -> Path:
    """The repository as it is committed and changed, under git, without data."""
    folder = tmp_path / "tool"
    subprocess.run(["git", "clone", "--quiet", REPOSITORY, folder], check=True)
    for path in git(REPOSITORY, "ls-files", "--modified", "--others", "--exclude-standard").splitlines():
        if (REPOSITORY / path).is_file():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / path, folder / path)
    return folder


def test_init_refuses_a_folder_with_anything_in_it_and_update_what_is_no_project(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    for words, said in ((("full",), "not empty"), (("full", "--update"), "no audit project to update")):
        done = leakgauge(REPOSITORY, "init", str(tmp_path / words[0]), *words[1:])
        assert done.returncode == 1
        assert said in done.stderr
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["file"]


@pytest.mark.slow
def test_from_a_new_project_to_the_verdict_and_on_after_a_kill(clone, tmp_path, finished_clone):
    project = tmp_path / "project"
    done = leakgauge(clone, "init", str(project))
    assert done.returncode == 0, done.stderr
    assert git(project, "status", "--porcelain") == ""
    carried = git(project, "ls-files").splitlines()
    assert not [path for path in carried if path.startswith(("tests", "metrics", "studies"))]
    shutil.copytree(finished_clone / f"models/target/{TARGET}", project / "my_pipeline")
    for folder, count in (("photos/members", 30), ("photos", 300), ("asked", 12)):
        photos(project / folder, count)
    empty = read_yaml(project / "params.yaml", "")
    dump_params(quick_params() | {name: empty[name] for name in ("datasets", "targets", "suspects")}, project)
    words = ("audit", "my_pipeline", "photos", "--members", "members/*", "--suspects", "asked")
    done = leakgauge(project, *words, "--estimate-only")
    assert done.returncode == 0, done.stderr
    assert re.search(r"Estimate, at most: \d+ images to score, [\d,]+ network calls", done.stdout)
    assert not (project / "metrics/summary.json").exists()
    done = leakgauge(project, *words, "--fail-above", "tpr@10%=0%")
    assert done.returncode == 3, done.stdout + done.stderr
    assert "Running stage" not in done.stdout
    assert re.search(r"\[\d+/\d+\] score@my_pipeline-member, .* about .* left", done.stdout)
    verdict = json.loads((project / "metrics/summary.json").read_text())["my_pipeline"]
    assert verdict["sentence"] in done.stdout
    assert verdict["suspects"]["my_pipeline"]["sentence"] in done.stdout
    again = leakgauge(project, *words)
    assert again.returncode == 0
    assert "score@" not in again.stdout, "nothing is computed again"
    done = leakgauge(project, "check", "my_pipeline")
    fails = json.loads((project / "metrics/checks/my_pipeline.json").read_text())["fails"]
    assert done.returncode == (3 if fails else 0)
    (clone / "leakgauge/new.py").touch()
    git(clone, "add", "--all")
    git(project, "add", "--all")
    git(project, "commit", "--quiet", "--message", "audit")
    done = leakgauge(clone, "init", str(project), "--update")
    assert done.returncode == 0, done.stderr
    assert git(project, "status", "--porcelain").split() == ["??", "leakgauge/new.py"]


def photos(folder: Path, count: int) -> None:
    """So many images of noise, others in every folder."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(len(str(folder)))
    for number, pixels in enumerate(rng.integers(0, 256, (count, 8, 8), dtype=np.uint8)):
        Image.fromarray(pixels).save(folder / f"{number:03d}.png")
