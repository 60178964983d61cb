"""Files: written whole or not at all, hashed, placed; and folders of unfinished work.

Resumable work: an untracked folder that belongs to exactly one configuration, its inputs and this code.

A killed stage leaves its finished shards under `.partial/<stage>/<key>/`; the next run with the same key goes
on from them, any other run starts afresh.  DVC's own `persist: true` would survive a changed parameter.  No
other process works there meanwhile (leakgauge/cli.py).
"""

import hashlib
import io
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from leakgauge.cli import PARTIAL
from leakgauge.errors import InputError


def write_bytes(path: Path, data: bytes | memoryview) -> None:
    """Write a file whole or not at all; see `new_file`."""
    with new_file(path) as stream:
        stream.write(data)


def write_json(path: Path, content: Any) -> None:
    """Write data as indented JSON, whole or not at all."""
    write_bytes(path, (json.dumps(content, indent=2) + "\n").encode())


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, through a private neighbour and one rename: no reader ever sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.tmp")  # .dvcignore knows *.tmp; of a killed run it is written over
    try:
        with partial.open("wb") as stream:
            yield stream
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def place_folder(made: Path, destination: Path) -> None:
    """Move a finished folder to its destination by one rename; what stood there is moved away first, whole."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    replaced = destination.with_name(f".{destination.name}.tmp")
    shutil.rmtree(replaced, ignore_errors=True)  # of a run that was killed here
    if destination.exists():
        destination.replace(replaced)
    made.replace(destination)
    shutil.rmtree(replaced, ignore_errors=True)


def files_below(folder: Path) -> list[Path]:
    """The files below a folder, sorted; hidden ones (.git, .cache) are left out.

    A link may lead to another file of the folder, and to where a cache keeps the folder's bytes under their hash (the
    Hub's for a snapshot of it, DVC's).  Raises InputError, naming it, for any other: its file would be copied along.
    """
    root, found = folder.resolve(), []
    for path in sorted(folder.rglob("*")):
        if any(part.startswith(".") for part in path.relative_to(folder).parts):
            continue
        if path.is_symlink() and not (path.is_file() and _stays(path.resolve(), root)):
            raise InputError(
                f"{path}: is a link to {path.readlink()}, which is no file of {folder}: replace it by the file itself, "
                "or remove it"
            )
        if path.is_file():
            found.append(path)
    return found


def _stays(file: Path, root: Path) -> bool:
    """Whether a link's file is in the folder, or is kept for it in a cache, under a hash."""
    of_hub = root.parent.name == "snapshots" and file.parent == root.parent.parent / "blobs"
    of_dvc = file.parts[-4:-2] == ("files", "md5") and [len(part) for part in file.parts[-2:]] == [2, 30]
    return file.is_relative_to(root) or of_hub or of_dvc


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


def npy(scores: np.ndarray) -> bytes:
    """Scores as the bytes of a .npy file; np.save on a path would not notice a full disk."""
    stream = io.BytesIO()
    np.save(stream, scores, allow_pickle=False)
    return stream.getvalue()


CODE = Path(__file__).parent
LIBRARIES = ("torch", "diffusers", "lightgbm", "numpy")  # another version may give other bytes


@contextmanager
def resumable(stage: str, config: Any, inputs: list[Path]) -> Iterator[Path]:
    """The work folder of one stage run; removed when the block ends well, kept when it doesn't.

    stage : the stage's DVC name, e.g. `score@digits_ddpm-member`.
    config : whatever else decides the result, as JSON-able data.
    inputs : files and folders that the stage reads.
    """
    folder = PARTIAL / stage / _key(config, inputs)
    folder.mkdir(parents=True, exist_ok=True)
    yield folder
    shutil.rmtree(PARTIAL / stage)


def _key(config: Any, inputs: list[Path]) -> str:
    parts = {
        "config": config,
        "inputs": [file_hash(path) for path in inputs],
        "code": file_hash(CODE),
        "libraries": [version(library) for library in LIBRARIES],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
