"""No two processes work on one stage, nobody works on for a process that is gone, and a folder is placed whole."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
import pytest
from conftest import REPOSITORY

from leakgauge.cli import STARTED_BY, read_yaml
from leakgauge.files import place_folder

MODULES = {
    "stage": """
import os, sys
import stages  # ends with DVC
from leakgauge.cli import run

def stage(target):
    print("in", os.getpid(), flush=True)
    sys.stdin.readline()

run(stage, target="a name")
""",
    "parent": """
import subprocess, sys, time
subprocess.Popen([*sys.argv[2:], "-c", sys.argv[1]])
time.sleep(60)
""",
    "killed": """
import os, signal
from leakgauge.cli import run
from leakgauge.compute import spread

def work(number):
    os.kill(os.getpid(), signal.SIGKILL)

def stage(target):
    spread(work, [(1,), (2,)], "work")

run(stage, target="a name")
""",
    "many": """
import os, time
from pathlib import Path
from leakgauge.compute import spread

def work(number):
    Path(f"{os.getpid()}.worker").touch()
    time.sleep(60)

spread(work, [(1,), (2,)], "work")
""",
}


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., subprocess.Popen]]:
    """Start one of the modules above, with arguments; it is killed when the test ends."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{REPOSITORY}{os.pathsep}{tmp_path}")
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "2")
    for name in ("DVC_STAGE", STARTED_BY):
        monkeypatch.delenv(name, raising=False)
    for name, text in MODULES.items():
        Path(f"{name}.py").write_text(text)
    with ExitStack() as stack:

        def begin(*words: str) -> subprocess.Popen:
            pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
            process = stack.enter_context(subprocess.Popen([sys.executable, "-m", *words], text=True, **pipes))
            stack.callback(process.kill)
            return process

        yield begin


def ends(pid: int, seconds: float) -> bool:
    """Whether a process that is not ours is gone within a few seconds."""
    deadline = time.monotonic() + seconds
    while alive := psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        if time.monotonic() > deadline:
            break
        time.sleep(0.05)
    return not alive


def test_a_second_process_says_that_it_waits_for_the_first_and_then_does_its_work(start):
    first = start("stage", "x")
    assert first.stdout.readline() == f"in {first.pid}\n"
    second = start("stage", "x")
    second.stdin.write("\n")  # it could go on at once
    second.stdin.flush()
    line = second.stderr.readline()
    assert f"stage@x: process {first.pid} is still working on it: waiting for it to end" in line
    first.kill()
    assert second.communicate(timeout=30) == (f"in {second.pid}\n", "")
    assert second.returncode == 0


def test_processes_of_other_targets_do_not_wait(start):
    first, second = start("stage", "x"), start("stage", "y")
    assert first.stdout.readline() and second.stdout.readline(), "both are in"


def test_a_name_that_is_a_path_locks_nothing_elsewhere(start):
    start("stage", "../../x").communicate("\n", timeout=30)
    assert [path.name for path in Path(".partial").iterdir()] == ["stage@..%2F..%2Fx.lock"]


@pytest.mark.parametrize("shell", [("sh",), ("bash", "--noprofile", "--norc")])
@pytest.mark.parametrize("by_dvc", [True, False])
def test_a_stage_ends_with_the_dvc_that_started_it_and_by_hand_it_outlives_it(by_dvc, shell, start, monkeypatch):
    command = read_yaml(REPOSITORY / "dvc.yaml", "")["stages"]["report"]["cmd"].replace("stages.report", "stage x")
    if by_dvc:
        monkeypatch.setenv("DVC_STAGE", "stage@x")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    parent = start("parent", command, *shell)
    stage = int(parent.stdout.readline().removeprefix("in "))
    parent.kill()
    gone = ends(stage, 10 if by_dvc else 1)
    if not gone:
        os.kill(stage, signal.SIGKILL)
    assert gone == by_dvc


def test_a_stage_ends_whose_dvc_was_gone_before_it_could_look(start, monkeypatch):
    gone = subprocess.Popen(["true"])
    gone.wait()
    monkeypatch.setenv("DVC_STAGE", "stage@x")
    monkeypatch.setenv(STARTED_BY, str(gone.pid))
    assert start("stage", "x").wait(timeout=30) == 1


def test_workers_end_with_a_stage_that_is_killed(start):
    stage = start("many")
    deadline = time.monotonic() + 60
    while len(workers := list(Path().glob("*.worker"))) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    stage.kill()
    assert all(ends(int(worker.stem), 10) for worker in workers)


def test_a_stage_whose_worker_is_killed_says_one_line(start):
    stage = start("killed", "x")
    told = [line for line in stage.communicate(timeout=60)[1].splitlines() if not line.startswith("work:")]
    assert (stage.returncode, len(told)) == (1, 1), told
    assert told[0].startswith("killed: a worker process was killed, perhaps because memory ran out")


@pytest.mark.parametrize("again", [False, True])
def test_a_folder_is_whole_wherever_its_placing_is_killed(again, tmp_path, monkeypatch):
    def removed_half(folder: Path, **_: object) -> None:
        for file in sorted(folder.glob("*"))[:1]:
            file.unlink()
            raise KeyboardInterrupt

    made, destination = tmp_path / "made", tmp_path / "place/folder"
    for content in ("old", "new"):
        made.mkdir()
        for name in ("a", "b"):
            (made / name).write_text(content)
        with monkeypatch.context() as patch, suppress(KeyboardInterrupt):
            patch.setattr(shutil, "rmtree", removed_half)
            place_folder(made, destination)
    if again:
        made.mkdir()
        (made / "a").write_text("new")
        (made / "b").write_text("new")
        place_folder(made, destination)
        assert [path.name for path in destination.parent.iterdir()] == ["folder"], "and nothing else stays"
    assert {file.name: file.read_text() for file in destination.iterdir()} == {"a": "new", "b": "new"}
