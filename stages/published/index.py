"""A published split: an .npz of row numbers, members in `mia_train_idxs` and non-members in `mia_eval_idxs`."""

from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from stages.command import InputError
from stages.files import file_hash


def read_index(path: Path, sha256: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows of members and of non-members, sorted, of a dataset of `count` images.

    Raises InputError for a file of another hash, without these arrays, or whose rows overlap or go beyond the dataset.
    """
    found = file_hash(path)
    if found != sha256:
        raise InputError(f"{path}: its sha256 is {found}, params.yaml pins split.index.sha256: {sha256}")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            members, others = (np.unique(arrays[key]) for key in ("mia_train_idxs", "mia_eval_idxs"))
    except (KeyError, ValueError, OSError, TypeError, EOFError, BadZipFile) as error:
        raise InputError(f"{path}: needs arrays mia_train_idxs and mia_eval_idxs: {error}") from None
    if not all(len(rows) and rows.dtype.kind in "iu" for rows in (members, others)):
        raise InputError(f"{path}: mia_train_idxs and mia_eval_idxs must be integers, and some of each")
    shared = np.intersect1d(members, others)
    if len(shared):
        raise InputError(f"{path}: {len(shared)} rows are both member and non-member, the first is {shared[0]}")
    both = np.concatenate([members, others])
    if both.min() < 0 or both.max() >= count:
        raise InputError(f"{path}: rows run from {both.min()} to {both.max()}, the dataset has {count} images")
    return members, others
