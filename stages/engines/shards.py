"""Shards on disk, each whole or not there: a run that was killed goes on after its last one."""

import io
from pathlib import Path

import numpy as np

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

    def save(self, start: int, scores: bytes) -> None:
        """scores : the bytes of a .npy file."""
        write_bytes(self._path(start), scores)

    def read(self) -> list[np.ndarray]:
        """The scores of every shard, (B, columns) float64."""
        return [np.load(self._path(start), allow_pickle=False) for start in self.starts]

    def _path(self, start: int) -> Path:
        return self.folder / f"{start:09d}.npy"
