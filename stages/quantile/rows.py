"""Arrays in a file, of which only the rows asked for are in memory: what fitting needs does not grow with the data."""

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.lib import format as npy

from stages.command import InputError

PART = 1024  # rows in memory at once, where all are needed


@dataclass(frozen=True)
class RowFile:
    """An array (N, F, ...) in a .npy file.  start : the byte at which its values begin."""

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype
    start: int

    @classmethod
    def open(cls, path: Path) -> Self:
        """Read what the file says of itself."""
        with path.open("rb") as file:
            npy.read_magic(file)
            shape, _, dtype = npy.read_array_header_1_0(file)
            return cls(path, shape, dtype, file.tell())

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: np.ndarray | slice) -> np.ndarray:
        """Some rows, in their order, (n, ...).  Read anew each time: pages of a mapped file would stay in memory."""
        wanted = np.arange(len(self))[rows] if isinstance(rows, slice) or rows.dtype == bool else rows
        values = np.empty((len(wanted), *self.shape[1:]), dtype=self.dtype)
        size = math.prod(self.shape[1:]) * self.dtype.itemsize
        with self.path.open("rb", buffering=0) as file:
            for value, row in zip(values, wanted.tolist(), strict=True):
                if os.preadv(file.fileno(), [value], self.start + row * size) != size:
                    raise InputError(f"{self.path}: ends before row {row}: delete it and run again")
        return values


Rows = np.ndarray | RowFile


def write_rows(path: Path, count: int, parts: Iterable[np.ndarray]) -> RowFile:
    """An array of `count` rows in a file, written part by part; what an earlier run has written is kept."""
    if not path.exists():
        partial = path.with_name(f".{path.name}.tmp")
        with partial.open("wb") as file:
            for number, part in enumerate(parts):
                if number == 0:
                    shape = (count, *part.shape[1:])
                    npy.write_array_header_1_0(file, {"descr": part.dtype.str, "fortran_order": False, "shape": shape})
                file.write(np.ascontiguousarray(part).data)
        partial.replace(path)
    return RowFile.open(path)
