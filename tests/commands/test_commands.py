"""The command `leakgauge`: its help, a new project, progress, and an audit from a new project to the verdict."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest
from conftest import REPOSITORY, dump_params, quick_params
from PIL import Image
from pipeline import TARGET, environment, git
from ruamel.yaml import YAML

from leakgauge.cli import read_yaml
from leakgauge.commands import COMMANDS
from leakgauge.commands.audit import named_after
from leakgauge.commands.code import differing
from leakgauge.commands.graph import changed_runs, graph
from leakgauge.commands.init import empty_params
from leakgauge.commands.models import constant
from leakgauge.commands.pipeline import Progress, minutes
from leakgauge.diffusion import loading
from leakgauge.errors import InputError

DATASET = "digits"
PROGRAMS = str(Path(sys.executable).parent)


def leakgauge(folder: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command of the folder's own code, or else of this repository, as if no environment were active."""
    command = [sys.executable, "-m", "leakgauge", *words]
    names = {f"GIT_{who}_{what}": "test" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    without = os.pathsep.join(part for part in os.environ["PATH"].split(os.pathsep) if part != PROGRAMS)
    own = os.environ | names | {"PATH": without} | variables
    return subprocess.run(command, cwd=folder, env=own, capture_output=True, text=True)


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


def copied(folder: Path) -> Path:
    """The repository as it is committed and changed, under git, without data."""
    subprocess.run(["git", "clone", "--quiet", REPOSITORY, folder], check=True)
    for path in git(REPOSITORY, "ls-files", "--modified", "--others", "--exclude-standard").splitlines():
        if (REPOSITORY / path).is_file():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / path, folder / path)
    return folder


@pytest.fixture
def clone(tmp_path) -> Path:
    return copied(tmp_path / "tool")


def new_project(clone: Path, folder: Path) -> Path:
    done = leakgauge(clone, "init", str(folder))
    assert done.returncode == 0, done.stderr
    return folder


def test_init_refuses_a_folder_with_anything_in_it_and_update_what_is_no_project(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    for words, said in ((("full",), "not empty"), (("full", "--update"), "no audit project to update")):
        done = leakgauge(REPOSITORY, "init", str(tmp_path / words[0]), *words[1:])
        assert done.returncode == 1
        assert said in done.stderr
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["file"]


@pytest.fixture
def project(clone, tmp_path) -> Path:
    """A new project."""
    return new_project(clone, tmp_path / "project")


def test_a_new_project_is_committed_whole_and_carries_the_code_alone(project):
    assert git(project, "status", "--porcelain") == ""
    assert [path.name for path in project.parent.glob(".project*")] == [], "what it was made in is gone"
    carried = git(project, "ls-files").splitlines()
    assert not [path for path in carried if path.startswith(("tests", "metrics", "studies"))]
    done = leakgauge(project, "report")
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert "no target yet" in done.stderr


def test_an_empty_repository_may_become_a_project_and_without_an_identity_git_is_told_of(clone, tmp_path):
    git(tmp_path, "init", "--quiet", "--initial-branch", "theirs", "project")
    no_name = {f"GIT_{who}_{what}": "" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    done = leakgauge(clone, "init", str(tmp_path / "project"), **no_name)
    assert done.returncode == 0, done.stderr
    assert "git could not commit: tell it your name" in done.stdout
    assert git(tmp_path / "project", "symbolic-ref", "HEAD").strip() == "refs/heads/theirs"
    assert "A  dvc.yaml" in git(tmp_path / "project", "status", "--porcelain")


def test_init_that_fails_leaves_nothing(clone, tmp_path):
    (clone / "params.yaml").write_text("fit: {}\n")
    done = leakgauge(clone, "init", str(tmp_path / "project"))
    assert done.returncode == 1
    assert "has no section learners" in done.stderr
    assert not list(tmp_path.glob("*project*"))


def test_stages_run_the_code_of_the_project_in_whose_folder_they_run(project):
    (project / "stages/where.py").write_text("import leakgauge\n\nprint(leakgauge.__file__)\n")
    done = subprocess.run([sys.executable, "-m", "stages.where"], cwd=project, capture_output=True, text=True)
    assert Path(done.stdout.strip()) == project / "leakgauge/__init__.py", done.stderr


def test_code_that_differs_from_what_is_installed_is_told_in_one_line(project, monkeypatch):
    monkeypatch.chdir(project)
    assert differing(project) == []
    with Path("leakgauge/cli.py").open("a") as stream:
        stream.write("# another\n")
    Path("stages/more.py").touch()
    assert differing(project) == ["leakgauge/cli.py", "stages/more.py"]
    program = "from leakgauge.commands import main; main(['report'])"
    other = {"PYTHONPATH": str(REPOSITORY), "PYTHONSAFEPATH": "1"}  # as the installed program has it
    done = subprocess.run([sys.executable, "-c", program], env=os.environ | other, capture_output=True, text=True)
    warning, refusal = done.stderr.splitlines()
    assert warning.startswith("warning: leakgauge/cli.py and 1 more files differ from the leakgauge that is installed")
    assert "no target yet" in refusal


def test_update_replaces_the_code_alone_and_never_its_own(project, clone):
    (clone / "leakgauge/new.py").touch()
    (clone / "stages/report.py").unlink()
    git(clone, "add", "--all")
    (project / "params.yaml").write_text("# mine\n")
    (project / "dvc.yaml").write_text("# changed\n")
    done = leakgauge(clone, "init", str(project), "--update")
    assert (done.returncode, "dvc.yaml has uncommitted changes" in done.stderr) == (1, True)
    git(project, "checkout", "dvc.yaml")
    done = leakgauge(clone, "init", str(project), "--update")
    assert done.returncode == 0, done.stderr
    changed = {"M params.yaml", "D stages/report.py", "?? leakgauge/new.py"}
    assert {line.strip() for line in git(project, "status", "--porcelain").splitlines()} == changed
    done = leakgauge(project, "init", ".", "--update")
    assert (done.returncode, "is the project's own" in done.stderr) == (1, True)
    assert (project / "leakgauge/new.py").exists()


WORDS = ("audit", "my_pipeline", "photos", "--members", "members/*", "--suspects", "asked")
CEILING = ("--fail-above", "tpr@10%=0%")


@dataclass(frozen=True)
class Audited:
    """One audit of a new project, from its estimate to its verdict, killed on the way; and what each command did."""

    folder: Path
    unknown_rate: subprocess.CompletedProcess[str]
    estimate: subprocess.CompletedProcess[str]
    verdict_after_estimate: bool  # whether it was there
    left_by_killed: int  # processes
    works_on: list[psutil.Process]  # of these, ten seconds after the kill
    finished: subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def audited(finished_audit, tmp_path_factory) -> Audited:
    """In a project with a model, images, suspects, and parameters that make audits small."""
    root = tmp_path_factory.mktemp("audited")
    new_project(copied(root / "tool"), root / "project")
    folder = root / "project"
    shutil.copytree(finished_audit / f"models/target/{TARGET}", folder / "my_pipeline")
    for name, count in (("photos/members", 30), ("photos", 300), ("asked", 12)):
        photos(folder / name, count)
    empty = read_yaml(folder / "params.yaml", "")
    dump_params(quick_params() | {name: empty[name] for name in ("datasets", "targets", "suspects")}, folder)
    unknown_rate = leakgauge(folder, *WORDS, "--fail-above", "tpr@0.2%=5%")
    estimate = leakgauge(folder, *WORDS, "--estimate-only")
    there = (folder / "metrics/summary.json").exists()
    left = killed_while_scoring(folder)
    end = time.monotonic() + 10
    while any(map(works, left)) and time.monotonic() < end:
        time.sleep(0.1)
    works_on = [process for process in left if works(process)]
    return Audited(folder, unknown_rate, estimate, there, len(left), works_on, leakgauge(folder, *WORDS, *CEILING))


def killed_while_scoring(folder: Path) -> list[psutil.Process]:
    """Kill the audit in its second scoring; the processes that it had."""
    command, shell = [sys.executable, "-m", "leakgauge", *WORDS], {"SHELL": "/bin/sh"}  # dash stays beside what it runs
    with subprocess.Popen(command, cwd=folder, env=environment() | shell, stdout=subprocess.PIPE, text=True) as killed:
        for line in killed.stdout or ():
            if "] score@my_pipeline-auxiliary" in line:
                break
        theirs = psutil.Process(killed.pid).children(recursive=True)
        killed.kill()
    return theirs


@pytest.mark.slow
def test_a_ceiling_at_a_rate_that_is_not_asked_for_is_refused(audited):
    done = audited.unknown_rate
    assert (done.returncode, "evaluate.alphas has no rate of 0.2 %" in done.stderr) == (1, True)


@pytest.mark.slow
def test_an_estimate_tells_what_is_to_be_scored_and_computes_what_is_cheap_alone(audited):
    done = audited.estimate
    assert done.returncode == 0, done.stderr
    assert re.search(r"Estimate, at most: \d+ images to score \(30 member, .* 12 suspects my_pipeline\)", done.stdout)
    assert "[1/" in done.stdout, "what is cheap has run"
    assert not audited.verdict_after_estimate


@pytest.mark.slow
def test_dvc_and_its_stage_end_with_a_killed_audit(audited):
    assert audited.left_by_killed, "DVC, and a stage"
    assert not audited.works_on, "neither DVC nor its stage works on"


@pytest.mark.slow
def test_the_same_command_goes_on_after_a_kill_to_the_verdict_and_the_gate(audited):
    done = audited.finished
    assert done.returncode == 3, done.stdout + done.stderr
    assert "my_pipeline: fails: tpr@10%=0%" in done.stderr
    assert "Running stage" not in done.stdout
    assert not re.search(r"\] (split@|score@my_pipeline-member)", done.stdout), "what was done is not done again"
    counted = re.findall(r"\[(\d+)/(\d+)\] .*, about .* left", done.stdout)
    assert counted[0] == ("1", counted[-1][1])
    assert counted[-1][0] == counted[-1][1], "as many as were foreseen"
    verdict = json.loads((audited.folder / "metrics/summary.json").read_text())["my_pipeline"]
    assert verdict["sentence"] in done.stdout
    assert verdict["suspects"]["my_pipeline"]["sentence"] in done.stdout
    assert (audited.folder / "metrics/report.html").exists()


@pytest.mark.slow
def test_a_finished_audit_computes_nothing_again_and_its_checks_are_told(audited):
    again = leakgauge(audited.folder, *WORDS)
    assert again.returncode == 0
    assert "Estimate: everything is up to date." in again.stdout
    assert "[1/" not in again.stdout, "nothing is computed again"
    done = leakgauge(audited.folder, "check", "my_pipeline")
    fails = json.loads((audited.folder / "metrics/checks/my_pipeline.json").read_text())["fails"]
    assert done.returncode == (3 if fails else 0)
    done = leakgauge(audited.folder, *WORDS, "--size", "8")
    assert (done.returncode, "is there already, and differs" in done.stderr) == (1, True)


def works(process: psutil.Process) -> bool:
    """Whether it runs; one that ended and was not yet noticed does not."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def photos(folder: Path, count: int) -> None:
    """So many images of noise, others in every folder."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(len(str(folder)))
    for number, pixels in enumerate(rng.integers(0, 256, (count, 8, 8), dtype=np.uint8)):
        Image.fromarray(pixels).save(folder / f"{number:03d}.png")
