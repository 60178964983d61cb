"""Resumable work: an untracked folder that belongs to exactly one configuration, its inputs and this code.

A killed stage leaves its finished shards under `.partial/<stage>/<key>/`; the next run with the same key goes
on from them, any other run starts afresh.  DVC's own `persist: true` would survive a changed parameter.
"""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from stages.command import InputError

PARTIAL = Path(".partial")
CODE = Path(__file__).parent
LIBRARIES = ("torch", "diffusers", "numpy")  # another version may give other bytes


@contextmanager
def resumable(stage: str, config: Any, inputs: list[Path]) -> Iterator[Path]:
    """The work folder of one stage run; removed when the block ends well, kept when it doesn't.

    stage : the stage's DVC name, e.g. `score@digits_ddpm-member`.
    config : whatever else decides the result, as JSON-able data.
    inputs : files and folders that the stage reads.

    Raises InputError if another process still works on the same stage.
    """
    PARTIAL.mkdir(exist_ok=True)
    with (PARTIAL / f"{stage}.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise InputError(
                f"{stage}: process {lock.read().strip()} is still working on it: stop it or let it end"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        folder = PARTIAL / stage / _key(config, inputs)
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        shutil.rmtree(PARTIAL / stage)


def place_folder(made: Path, destination: Path) -> None:
    """Move a finished folder to its destination, replacing what stood there."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    if destination.exists():
        shutil.rmtree(destination)
    os.replace(made, destination)


def file_hash(path: Path) -> str:
    """SHA-256 of a file, or of a folder's file names and contents in sorted order."""
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
        lines = [f"{file.relative_to(path).as_posix()} {file_hash(file)}" for file in files]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except FileNotFoundError:
        raise InputError(f"{path}: not found") from None


def _key(config: Any, inputs: list[Path]) -> str:
    parts = {
        "config": config,
        "inputs": [file_hash(path) for path in inputs],
        "code": file_hash(CODE),
        "libraries": [version(library) for library in LIBRARIES],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
