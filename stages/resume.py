"""Resumable work: an untracked folder that belongs to exactly one configuration, its inputs and this code.

A killed stage leaves its finished shards under `.partial/<stage>/<key>/`; the next run with the same key goes
on from them, any other run starts afresh.  DVC's own `persist: true` would survive a changed parameter.  That nobody
else works there meanwhile, stages/command.py sees to.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from stages.command import PARTIAL
from stages.files import file_hash

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
