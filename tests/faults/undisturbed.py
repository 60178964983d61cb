"""A finished audit in a clone of its own, how long each of its stages took, and copies of it to be damaged."""

import json
import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import made_once, quick_params
from pipeline import clone, environment, git

from leakgauge.files import file_hash

SECONDS = ".git/seconds.json"  # a place that no result is in
RESULTS = ("data", "models", "metrics", "dvc.lock")


@dataclass(frozen=True)
class Undisturbed:
    """A clone in which every stage was run once and the results committed."""

    folder: Path
    seconds: dict[str, float]  # stage -> how long it and what DVC does for it took
    results: dict[str, str]


def results(folder: Path) -> dict[str, str]:
    """Path -> hash of everything an audit leaves.  DVC ignores *.tmp, all that a killed writer may leave."""
    files = [file for name in RESULTS for file in [folder / name, *(folder / name).rglob("*")]]
    whole = [file for file in files if file.is_file() and file.suffix != ".tmp"]
    return {file.relative_to(folder).as_posix(): file_hash(file) for file in whole}


def undisturbed(factory: pytest.TempPathFactory) -> Undisturbed:
    """Made once for all test processes, in about a minute; to be copied."""
    folder = made_once(factory, "undisturbed", _run)
    return Undisturbed(folder, json.loads((folder / SECONDS).read_text()), results(folder))


def _run(folder: Path) -> None:
    """Run every stage in a clone there, commit, and write down how long each took."""
    params = quick_params()
    params["target"] |= {"steps": 40, "checkpoint_every": 2}  # work to be killed in
    params["score"] |= {"batch_size": 5, "shard": 5}
    clone(folder, params)
    started: dict[str, float] = {}
    command = {"args": ["dvc", "repro"], "cwd": folder, "env": environment(), "text": True}
    with subprocess.Popen(**command, stdout=subprocess.PIPE) as process:
        for line in process.stdout:
            if found := re.match(r"Running stage '(.+)':", line):
                started[found[1]] = time.monotonic()
    assert process.returncode == 0
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "audit")
    ends = [*list(started.values())[1:], time.monotonic()]
    seconds = {stage: end - start for (stage, start), end in zip(started.items(), ends, strict=True)}
    (folder / SECONDS).write_text(json.dumps(seconds))


def another(whole: Undisturbed, destination: Path) -> Path:
    """A copy, where DVC has hashed nothing yet."""
    return Path(shutil.copytree(whole.folder, destination, symlinks=True))
