"""What changes while a stage runs is never recorded as if it had been used: DVC hashes inputs after the run."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import REPOSITORY, ask_about, dump_params
from pipeline import environment, git, repro, run
from ruamel.yaml import YAML

from leakgauge import cli as command
from leakgauge.cli import inputs
from leakgauge.errors import InputError

PIPELINE = """
stages:
  test_changed_while_running:
    foreach: ${datasets}
    do:
      cmd: exec python -m test_changed_while_running
      deps:
        - ${item.path}
        - code
      params:
        - split.seed
        - datasets.${key}
      outs:
        - data/${key}.txt
  both:
    matrix:
      target: ${targets}
      role: [member, holdout]
    cmd: exec python -m both
    deps:
      - data/${item.target}/${item.role}.txt
    params:
      - targets.${item.target}.score
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of such a dvc.yaml, with two photos, as DVC starts its stage in it."""
    monkeypatch.chdir(tmp_path)
    for name in ("photos/a.png", "photos/more/b.png", "code/__init__.py"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text("1")
    Path("dvc.yaml").write_text(PIPELINE)
    parameters(seed=0)
    monkeypatch.setenv("DVC_STAGE", "test_changed_while_running@mine")
    monkeypatch.setattr(sys, "argv", ["stage"])
    monkeypatch.setattr(command, "_started", time.time)
    return tmp_path


def parameters(seed: int, path: str = "photos", shard: int = 1) -> None:
    split = {"seed": seed, "member": seed + 1}
    dump_params(
        {"datasets": {"mine": {"path": path}}, "targets": {"theirs": {"score": {"shard": shard}}}, "split": split}
    )


def started(change: Callable[[], object], capsys: pytest.CaptureFixture) -> str:
    """What a stage says on stderr that DVC starts, and in whose course something happens."""
    seen = []

    def stage(dataset: str) -> None:
        seen.append(dataset)
        change()

    try:
        command.run(stage, dataset="an argument")
    except SystemExit as stop:
        assert stop.code == 1
    assert seen == ["mine"], "the argument is read from DVC's name of the run"
    return capsys.readouterr().err


CHANGES = {
    "photos/c.png": lambda: Path("photos/c.png").write_text("1"),
    "photos/a.png": lambda: Path("photos/a.png").unlink(),
    "photos/more/b.png": lambda: Path("photos/more/b.png").write_text("2"),
    "params.yaml: split.seed": lambda: parameters(seed=1),
    "params.yaml: datasets.mine (and 2 more)": lambda: parameters(seed=0, path="other"),
    "code/__init__.py": lambda: Path("code/__init__.py").write_text("2"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_changed_input_is_told_in_one_line_and_the_stage_fails(what, folder, capsys):
    Path("other").mkdir()
    line = started(CHANGES[what], capsys)
    name = what.partition(" (")[0]
    assert f"{name} changed while" in line or f"{name} (and" in line or "more) changed while" in line
    assert line.endswith("changed while test_changed_while_running@mine was running: run `dvc repro` again\n")
    assert len(line.splitlines()) == 1


def test_code_that_changed_since_the_process_began_is_told_though_it_had_changed_before_the_stage_began(folder, capsys):
    command._started = lambda: time.time() - 60
    Path("code/__init__.py").write_text("2")
    assert "code/__init__.py changed while" in started(lambda: None, capsys)


def test_a_run_that_is_gone_from_dvc_yaml_is_told(folder, capsys):
    assert "changed while" in started(lambda: Path("dvc.yaml").unlink(), capsys)


NO_CHANGES = {
    "nothing": lambda: None,
    "byte code": lambda: (Path("code/__pycache__").mkdir(), Path("code/__pycache__/x.pyc").touch()),
    "unfinished work": lambda: Path("photos/.a.png.tmp").touch(),
    "its output": lambda: (Path("data").mkdir(), Path("data/mine.txt").write_text("1")),
    "another option": lambda: dump_params(
        {"datasets": {"mine": {"path": "photos"}, "other": {}}, "split": {"seed": 0, "member": 9}}
    ),
    "a second name for the file, as of DVC's cache": lambda: os.link("photos/a.png", "cached"),
    "its mode, as of DVC's cache": lambda: Path("photos/a.png").chmod(0o444),
}


@pytest.mark.parametrize("what", NO_CHANGES)
def test_what_is_no_input_may_change(what, folder, capsys):
    assert started(NO_CHANGES[what], capsys) == ""


def test_by_hand_nothing_is_compared(folder, capsys, monkeypatch):
    monkeypatch.delenv("DVC_STAGE")
    monkeypatch.setattr(sys, "argv", ["stage", "mine"])
    assert started(CHANGES["photos/a.png"], capsys) == ""


@pytest.mark.parametrize("key", ["-x", "a;b", "a b", "../x", "2024"])
def test_a_run_whose_name_holds_what_is_no_name_is_refused_in_one_line(key, folder, capsys, monkeypatch):
    monkeypatch.setenv("DVC_STAGE", f"test_changed_while_running@{key}")
    with pytest.raises(SystemExit) as stop:
        command.run(lambda dataset: None, dataset="an argument")
    assert stop.value.code == 1
    told = capsys.readouterr().err
    assert len(told.splitlines()) == 1
    assert "a name is letters, digits and '_' and begins with a letter" in told


def test_an_option_beside_dvcs_name_of_the_run_is_read(folder, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["stage", "--debug"])
    with pytest.raises(InputError, match="changed while"):
        started(CHANGES["photos/a.png"], capsys)


def test_a_run_of_a_matrix_depends_on_what_dvc_fills_in(folder):
    place = Path("data/theirs/holdout.txt")
    place.parent.mkdir(parents=True)
    place.write_text("1")
    facts = place.stat()
    assert inputs("both@theirs-holdout") == {
        str(place): (facts.st_mtime_ns, 1, facts.st_ino),
        "params.yaml: targets.theirs.score": {"shard": 1},
    }


@pytest.mark.parametrize("name", ["both@theirs", "both@a-theirs-holdout", "neither", "both"])
def test_a_run_that_dvc_yaml_does_not_have_is_refused(name, folder):
    with pytest.raises(InputError, match=r"^dvc\.yaml: "):
        inputs(name)


@pytest.mark.parametrize("pipeline", ["", "studies"])
def test_inputs_are_those_that_dvc_knows(pipeline, tmp_path, monkeypatch):
    """For every run of both pipelines, with a set of suspects: the paths and options, as DVC itself fills them in."""
    from dvc.repo import Repo

    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(REPOSITORY / pipeline / name, tmp_path)
    if not pipeline:
        params = YAML(typ="safe").load(Path(REPOSITORY / "params.yaml").read_text())
        dump_params(ask_about("asked", {"source": "folder", "path": "asked"}, params), tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "_signatures", lambda path: [(str(path.resolve()), ())])
    with Repo.init(tmp_path, no_scm=True) as repo:
        stages = [stage for stage in repo.index.stages if stage.name]
        assert stages
        assert bool(pipeline) != any(stage.name == "suspects@asked" for stage in stages)
        for stage in stages:
            paths = {dep.fs_path for dep in stage.deps if not hasattr(dep, "params")}
            options = {f"params.yaml: {name}" for dep in stage.deps for name in getattr(dep, "params", [])}
            assert set(inputs(stage.name)) == paths | options, stage.name


def test_the_moment_a_process_began_is_known():
    line = "import time; began = time.time(); from leakgauge.cli import _started; print(_started() - began)"
    done = subprocess.run([sys.executable, "-c", line], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert -5 < float(done.stdout) <= 0.02, "before its first line, by no more than an interpreter takes"


SLOWLY = """
import time
from pathlib import Path
from leakgauge.cli import run
from leakgauge.config import read_params

def slowly(dataset):
    seed = read_params(("datasets", "split", "targets"), "here")["split"]["seed"]
    seen = sorted(path.name for path in Path("photos").iterdir())
    Path("in").touch()
    while not Path("go").exists():
        time.sleep(0.01)
    Path("data").mkdir(exist_ok=True)
    Path(f"data/{dataset}.txt").write_text(f"{seed} {seen}")

run(slowly, dataset="a name")
"""


@pytest.mark.parametrize("what", ["an image", "a parameter"])
def test_dvc_records_nothing_of_a_run_whose_inputs_changed_and_the_next_is_right(what, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{REPOSITORY}{os.pathsep}{tmp_path}")
    Path("dvc.yaml").write_text(PIPELINE.partition("  both:")[0].replace("test_changed_while_running", "slowly"))
    Path("slowly.py").write_text(SLOWLY)
    for name in ("code", "photos"):
        Path(name).mkdir()
        Path(name, "a").touch()
    parameters(seed=0)
    git(tmp_path, "init", "--quiet")
    run(tmp_path, "dvc", "init", "--quiet")

    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(["dvc", "repro"], env=environment(), **pipes) as dvc:
        while not Path("in").exists():
            assert dvc.poll() is None, dvc.stderr.read()
            time.sleep(0.01)
        Path("photos/b").touch() if what == "an image" else parameters(seed=1)
        Path("go").touch()
        told = dvc.stderr.read()
    assert dvc.returncode != 0
    changed = "photos/b" if what == "an image" else "params.yaml: split.seed"
    assert f"slowly: {changed} changed while slowly@mine was running: run `dvc repro` again\n" in told
    assert "Traceback" not in told
    assert not Path("dvc.lock").exists()
    assert not Path(".dvc/cache/runs").exists()

    assert repro(tmp_path) == ["slowly@mine"]
    assert Path("data/mine.txt").read_text() == ("0 ['a', 'b']" if what == "an image" else "1 ['a']")
    shutil.rmtree(".dvc/tmp", ignore_errors=True)
    assert repro(tmp_path) == []
