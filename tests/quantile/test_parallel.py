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
    time.sleep(0.02 * (5 - number))  # the first ends last
    return number**2


def refuse_third(number: int) -> int:
    if number == 2:
        raise InputError("photos: number 2 is refused")
    return number


def surroundings(path: Path) -> tuple[int, str, int]:
    """The process, its working directory and its threads; `path` is relative."""
    path.touch()
    return os.getpid(), str(Path.cwd()), torch.get_num_threads()


def product(seed: int) -> np.ndarray:
    a = torch.randn(200, 200, generator=torch.Generator().manual_seed(seed))
    return (a @ a @ a).numpy()


@PROCESSES
def test_results_come_in_the_order_of_the_jobs(processes, monkeypatch):
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", processes)
    assert spread(slow_square, ((number,) for number in range(6)), "square") == [0, 1, 4, 9, 16, 25]


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
    spread(slow_square, [(5,)], "square")
    assert capsys.readouterr().err == ""
