"""Shards on disk, each whole or not there: a run that was killed goes on after its last one."""

import io
import json
from pathlib import Path

import numpy as np

from stages.command import InputError
from stages.files import write_bytes


def npy(scores: np.ndarray) -> bytes:
    """Scores as the bytes of a .npy file; np.save on a path would not notice a full disk."""
    stream = io.BytesIO()
    np.save(stream, scores, allow_pickle=False)
    return stream.getvalue()


class Shards:
    """The scores of a role's shards in a folder.  starts : of the shards, in order."""

    def __init__(self, folder: Path, starts: range) -> None:
        self.folder, self.starts = folder, starts

    @property
    def missing(self) -> list[int]:
        """Where the shards start that are not there yet."""
        return [start for start in self.starts if not self._path(start).exists()]

    @property
    def computed_on(self) -> dict[str, str] | None:
        """What all shards were computed on, see `stages.device`; None if there is none yet."""
        known = self.folder / "computed_on.json"
        return json.loads(known.read_text(encoding="utf-8")) if known.exists() else None

    def save(self, start: int, scores: bytes, computed_on: dict[str, str]) -> None:
        """scores : the bytes of a .npy file.  Raises InputError where other shards were computed on something else."""
        known = self.computed_on
        if known is None:
            write_bytes(self.folder / "computed_on.json", json.dumps(computed_on).encode())
        elif known != computed_on:
            raise InputError(
                f"{self.folder}: images scored with {_said(known)} and with {_said(computed_on)}: a cluster needs "
                "nodes of one kind; remove the folder to start afresh"
            )
        write_bytes(self._path(start), scores)

    def read(self) -> list[np.ndarray]:
        """The scores of every shard, (B, columns) float64."""
        return [np.load(self._path(start), allow_pickle=False) for start in self.starts]

    def _path(self, start: int) -> Path:
        return self.folder / f"{start:09d}.npy"


def _said(computed_on: dict[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in computed_on.items())
