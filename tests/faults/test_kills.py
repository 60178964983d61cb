"""SIGKILL at any moment of any stage, whoever it hits: `dvc repro` ends in the bytes of an undisturbed run.

LEAKGAUGE_KILLS sets how many kills there are, LEAKGAUGE_SEED which (the names of the tests tell it);
`make faults` does twenty.
"""

import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path
from urllib.parse import unquote

import psutil
import pytest
from conftest import REPOSITORY
from dvc.repo import Repo
from pipeline import TARGET, environment, git
from ruamel.yaml import YAML
from undisturbed import Undisturbed, another, results, undisturbed

pytestmark = pytest.mark.slow
KILLS = int(os.environ.get("LEAKGAUGE_KILLS", "3"))
RUN = os.environ.get("PYTEST_XDIST_TESTRUNUID", f"{time.time_ns():x}")  # of all processes of a test run the same
SEED = int(os.environ.get("LEAKGAUGE_SEED", int(RUN[-5:], 16)))
TORN = ("dvc.lock", "RWLock-file")  # what DVC itself does not write in one go


def planned() -> list:
    """Each kind of kill in turn, each stage before any twice, at a random share of its time."""
    draw = random.Random(SEED)
    stages = [stage.name for stage in Repo(str(REPOSITORY)).index.stages if stage.name]
    learners = ("fit@", "predict@")
    stages = [name for name in stages if not name.startswith(learners) or name.endswith(("-marginal", "-gbm"))]
    order: list[str] = []
    while len(order) < KILLS:
        order += draw.sample(stages, len(stages))
    kills = [(KINDS[number % len(KINDS)], order[number], draw.random()) for number in range(KILLS)]
    return [pytest.param(*kill, id=f"seed {SEED}: {kill[0].__name__} {kill[1]} at {kill[2]:.0%}") for kill in kills]


def group(dvc: subprocess.Popen) -> None:
    """DVC and all that it started."""
    os.killpg(dvc.pid, signal.SIGKILL)


def dvc_alone(dvc: subprocess.Popen) -> None:
    """The stage that it runs, if it does, is an orphan now."""
    dvc.kill()


def stage_alone(dvc: subprocess.Popen) -> None:
    """The stage that DVC waits for; DVC itself where none runs."""
    for child in psutil.Process(dvc.pid).children() or [dvc]:
        child.kill()


KINDS = (group, dvc_alone, stage_alone)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    return undisturbed(tmp_path_factory)


@pytest.fixture(scope="module")
def clone(whole: Undisturbed, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return another(whole, tmp_path_factory.mktemp("killed") / "clone")


def killed(folder: Path, stage: str, kill, moment: float) -> bool:
    """Run a finished stage once more, and kill somebody `moment` seconds later, unless all is done by then."""
    forget(folder, stage)
    command = ["dvc", "repro", "--force", "--single-item", stage]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, cwd=folder, env=environment(), start_new_session=True, **pipes) as dvc:
        assert any(line.startswith("Running stage") for line in dvc.stdout)
        time.sleep(moment)
        if hit := dvc.poll() is None:
            kill(dvc)
    return hit


def forget(folder: Path, stage: str) -> None:
    """Take what a stage has put out from DVC's cache: it must be computed again, not only looked up."""
    shutil.rmtree(folder / ".dvc/cache/runs", ignore_errors=True)
    for out in YAML(typ="safe").load(folder / "dvc.lock")["stages"][stage]["outs"]:
        (folder / ".dvc/cache/files/md5" / out["md5"][:2] / out["md5"][2:]).unlink(missing_ok=True)


def killed_once_there(folder: Path, pattern: str) -> None:
    """Start `dvc repro`, and kill it and what it started when a file matches `pattern`."""
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(["dvc", "repro"], cwd=folder, env=environment(), start_new_session=True, **pipes) as dvc:
        deadline = time.monotonic() + 120
        while not list(folder.glob(pattern)):
            assert dvc.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.005)
        group(dvc)


def recovered(folder: Path) -> None:
    """`dvc repro`.  Where DVC was killed while it wrote a file of its own, first what the README says."""
    for _ in TORN:
        again = subprocess.run(["dvc", "repro"], cwd=folder, env=environment(), capture_output=True, text=True)
        if again.returncode == 0:
            return
        assert any(name in again.stderr for name in TORN), again.stdout + again.stderr
        print("DVC had to be helped:", again.stderr)
        git(folder, "checkout", "dvc.lock")
        (folder / ".dvc/tmp/rwlock").unlink(missing_ok=True)
    raise AssertionError(again.stderr)


@pytest.mark.parametrize(("kill", "stage", "share"), planned())
def test_whoever_is_killed_dvc_repro_ends_in_the_same_bytes(kill, stage, share, whole, clone):
    moment = share * whole.seconds[stage]
    while not killed(clone, stage, kill, moment):
        moment /= 2  # it was faster this time
    recovered(clone)
    assert results(clone) == whole.results
    assert not list(clone.glob(".partial/*/*")), "no unfinished work is left"
    assert git(clone, "status", "--porcelain") == ""


def test_a_run_killed_in_training_and_then_in_scoring_ends_in_the_same_bytes(whole, tmp_path):
    folder, holdout = another(whole, tmp_path / "clone"), f"score@{TARGET}-holdout"
    for stage in (f"target@{TARGET}", holdout):
        forget(folder, stage)
    shutil.rmtree(folder / f"models/target/{TARGET}")
    (folder / f"data/scores/{TARGET}/holdout.parquet").unlink()
    killed_once_there(folder, ".partial/target@*/*/checkpoint.safetensors")
    assert not (folder / f"models/target/{TARGET}").exists()
    killed_once_there(folder, ".partial/score@*-holdout/*/000000010.npy")
    assert 2 < len(list(folder.glob(".partial/score@*-holdout/*/*.npy"))) < 30
    assert not (folder / f"data/scores/{TARGET}/holdout.parquet").exists()
    recovered(folder)
    assert results(folder) == whole.results
    assert not list(folder.glob(".partial/*/*")), "finished work is cleared away"


def test_each_stage_was_locked_under_the_name_that_dvc_gives_it(whole):
    locked = YAML(typ="safe").load(whole.folder / "dvc.lock")["stages"]
    assert {unquote(lock.stem) for lock in (whole.folder / ".partial").glob("*.lock")} == set(locked)
