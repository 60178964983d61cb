"""The pipeline as a user runs it: git and dvc as programs, in a repository made of the working tree."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from conftest import REPOSITORY, dump_params

TARGET = "digits_ddpm"


def environment() -> dict[str, str]:
    """This interpreter's programs come first on the path."""
    return os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def run(folder: Path, *words: str) -> str:
    done = subprocess.run(words, cwd=folder, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def repro(folder: Path, *words: str) -> list[str]:
    """The names of the stages that `dvc repro` executed."""
    return re.findall(r"Running stage '(.+)':", run(folder, "dvc", "repro", *words))


def git(folder: Path, *words: str) -> str:
    return run(folder, "git", "-c", "user.name=test", "-c", "user.email=test@example.invalid", *words)


def commit(folder: Path, message: str) -> None:
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", message)


def clone(folder: Path, params: dict) -> Path:
    """The working tree as git would commit it, with these parameters, as a repository of its own."""
    names = run(REPOSITORY, "git", "ls-files", "-co", "--exclude-standard").splitlines()
    for name in names:
        if (REPOSITORY / name).is_file() and not name.startswith("metrics/") and name != "dvc.lock":
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, folder / name)
    dump_params(params, folder)
    git(folder, "init", "--quiet", "--initial-branch", "main")
    commit(folder, "start")
    return folder
