"""Work that is spread over processes: in order, with its own errors, and the same by any number of processes."""

import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from leakgauge import compute as parallel
from leakgauge.compute import spread
from leakgauge.errors import InputError

PROCESSES = pytest.mark.parametrize("processes", ["1", "2"])


def slow_square(number: int) -> int:
    time.sleep(0.02 * (3 - number))  # the first ends last
    return number**2


def refuse_third(number: int) -> int:
    if number == 2:
        raise InputError("photos: number 2 is refused")
    return number


def surroundings(path: Path) -> tuple[int, str, int]:
    """The process, its working directory and its threads; `path` is relative."""
    path.touch()
    return os.getpid(), str(Path.cwd()), torch.get_num_threads()


def where(number: int) -> tuple[int, int]:
    """The job and its process."""
    time.sleep(0.01)
    return number, os.getpid()


def product(seed: int) -> np.ndarray:
    a = torch.randn(200, 200, generator=torch.Generator().manual_seed(seed))
    return (a @ a @ a).numpy()


@PROCESSES
def test_results_come_in_the_order_of_the_jobs(processes, monkeypatch):
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", processes)
    assert spread(slow_square, ((number,) for number in range(4)), "square") == [0, 1, 4, 9]


@pytest.mark.parametrize(
    ("done", "jobs", "processes", "seconds", "here"),
    [
        (3, 10, 1, 900.0, True),  # one core, or a GPU
        (0, 2, 2, 0.0, False),  # a job for each process
        (0, 10, 2, 0.0, True),  # the first of many is timed
        (1, 10, 2, 1.0, True),  # 9 s here, 6 + 4.5 s there
        (1, 10, 2, 2.0, False),  # 18 s here, 6 + 9 s there
        (5, 10, 2, 10.0, True),  # 10 s here, 6 + 5 s there
    ],
)
def test_work_stays_in_this_process_where_it_ends_sooner(done, jobs, processes, seconds, here):
    assert parallel.START == 6.0
    assert parallel._stay_here(done, jobs, processes, seconds) is here


@pytest.mark.parametrize("start", [0.0, 60.0])
def test_many_jobs_come_in_order_wherever_they_are_done(start, monkeypatch):
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "2")
    monkeypatch.setattr(parallel, "START", start)
    told = spread(where, [(number,) for number in range(12)], "look")
    assert [number for number, _ in told] == list(range(12))
    assert ({process for _, process in told} == {os.getpid()}) == (start == 60.0)


@PROCESSES
def test_no_jobs_give_no_results(processes, monkeypatch):
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", processes)
    assert spread(slow_square, [], "nothing") == []


@PROCESSES
def test_an_error_comes_through_as_itself(processes, monkeypatch):
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", processes)
    with pytest.raises(InputError) as error:
        spread(refuse_third, [(number,) for number in range(4)], "refuse")
    assert str(error.value) == "photos: number 2 is refused"


def refuse() -> None:
    spread(refuse_third, [(number,) for number in range(4)], "refuse")


def test_an_error_is_one_line_on_the_command_line(monkeypatch, refusal):
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "2")
    assert refusal(refuse).endswith(": photos: number 2 is refused")


@PROCESSES
def test_work_runs_where_it_was_asked_for_on_one_thread(processes, monkeypatch, tmp_path):
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", processes)
    before = torch.get_num_threads()
    for name in ("first", "second"):  # the processes of the first are used again
        folder = tmp_path / name
        folder.mkdir()
        monkeypatch.chdir(folder)
        told = spread(surroundings, [(Path(f"{number}"),) for number in range(4)], "look")
        assert {threads for _, _, threads in told} == {1}
        assert {place for _, place, _ in told} == {str(folder)}
        assert sorted(path.name for path in folder.iterdir()) == ["0", "1", "2", "3"]
        assert ({process for process, _, _ in told} == {os.getpid()}) == (processes == "1")
    assert torch.get_num_threads() == before


def test_one_process_and_two_give_the_same(monkeypatch):
    results = []
    for processes in ("1", "2"):
        monkeypatch.setenv("LOKY_MAX_CPU_COUNT", processes)
        results.append(spread(product, [(seed,) for seed in range(4)], "multiply"))
    np.testing.assert_array_equal(*results)


def test_a_gpu_is_one_worker(monkeypatch, tmp_path):
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "2")
    monkeypatch.setattr(parallel, "best_device", lambda: torch.device("cuda"))
    monkeypatch.chdir(tmp_path)
    assert {told[0] for told in spread(surroundings, [(Path("a"),), (Path("b"),)], "look")} == {os.getpid()}


def test_no_progress_is_shown_where_nobody_watches(capsys):
    spread(slow_square, [(3,)], "square")
    assert capsys.readouterr().err == ""
