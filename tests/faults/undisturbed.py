"""A finished audit in a clone of its own, how long each of its stages took, and copies of it to be damaged."""

import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from conftest import quick_params
from pipeline import clone, environment, git

from leakgauge.files import file_hash

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


@cache
def undisturbed(place: Path) -> Undisturbed:
    """Made once a session, in about a minute.  place : the session's folder for temporary files."""
    params = quick_params()
    params["target"] |= {"steps": 40, "checkpoint_every": 2}  # work to be killed in
    params["score"]["batch_size"] = 10
    folder = clone(place / "undisturbed", params)
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
    return Undisturbed(folder, seconds, results(folder))


def another(whole: Undisturbed, destination: Path) -> Path:
    """A copy, where DVC has hashed nothing yet."""
    return Path(shutil.copytree(whole.folder, destination, symlinks=True))
