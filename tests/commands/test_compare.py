"""One line on what differs from the figures of the last commit."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY
from pipeline import commit, git

from leakgauge.commands import show


def write(*rates: float) -> None:
    """Metrics of a target with these rates, each with an interval of 0.02 to either side."""
    figures = {f"rate_{n}{end}": rate + by for n, rate in enumerate(rates) for end, by in ENDS}
    Path("metrics/details/mine.json").write_text(json.dumps({"judges": {"gbm": figures}}))


ENDS = (("", 0.0), ("_ci_low", -0.02), ("_ci_high", 0.02))


@pytest.fixture
def committed(tmp_path, monkeypatch) -> Path:
    """A repository with six rates committed."""
    monkeypatch.chdir(tmp_path)
    Path("metrics/details").mkdir(parents=True)
    git(tmp_path, "init", "--quiet")
    write(*[0.5] * 7)
    commit(tmp_path, "audit")
    return tmp_path


def said(capsys) -> str:
    show.changes()
    told = capsys.readouterr()
    assert told.err == ""
    return told.out


def test_rates_within_their_intervals_are_counted(committed, capsys):
    assert said(capsys) == "Beside the last commit: None of 7 rates differs.\n"
    write(0.51, 0.49, *[0.5] * 5)
    assert said(capsys) == "Beside the last commit: 2 of 7 rates differ, all within their intervals.\n"


def test_of_those_outside_the_first_five_are_named(committed, capsys):
    write(*[0.6] * 6, 0.5)
    first, *named = said(capsys).splitlines()
    assert first == "Beside the last commit: 6 of 7 rates differ, all but 6 within their intervals."
    assert len(named) == 5
    assert named[0] == "  mine gbm.rate_0: 0.5000 (0.4800 to 0.5200) before, now 0.6000 (0.5800 to 0.6200)"


def test_where_no_metrics_are_committed_or_there_is_no_commit_or_no_git_nothing_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert said(capsys) == ""
    git(tmp_path, "init", "--quiet")
    assert said(capsys) == ""
    Path("file").touch()
    commit(tmp_path, "start")
    Path("metrics/details").mkdir(parents=True)
    write(0.5)
    assert said(capsys) == ""


def test_comparing_needs_no_more_than_python():
    code = f"import sys; sys.path.insert(0, {str(REPOSITORY)!r}); import leakgauge.report.compare"
    done = subprocess.run([sys.executable, "-S", "-I", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
