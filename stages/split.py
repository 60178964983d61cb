"""split: give every image of a target's dataset its role in the audit.

`member` trained the target, `auxiliary` fits the thresholds, `holdout` only measures error rates.  Members are drawn by
seed, told by their names, or listed in an index file; non-members are always shared out by seed.  An image whose exact
pixels are among the members never gets another role: such duplicates are dropped from the non-members, counted and
reported.

data/images/<dataset>.parquet -> data/roles/<target>/{member,auxiliary,holdout}.parquet, each with its images
"""

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal
from zipfile import BadZipFile

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import NonNegativeInt, PositiveInt

from stages.command import InputError, run, warn
from stages.files import file_hash
from stages.params import PARAMS, Options, section, target_entry
from stages.tables import read_table, write_table


class Index(Options):
    """A published split: an .npz of row numbers, pinned by its hash."""

    path: str
    sha256: str


class Split(Options):
    """Section `split`."""

    seed: NonNegativeInt
    member: PositiveInt | str  # how many to draw, or the pattern of their image_ids, like "members/*"
    auxiliary: PositiveInt  # how many non-members fit the thresholds
    holdout: PositiveInt | Literal["rest"]  # how many non-members measure the error rates
    index: Index | None  # rows `mia_train_idxs` (members) and `mia_eval_idxs` (non-members) stand in for `member`


def split(target: str) -> None:
    """Write the three role files of a target."""
    options = section("split", Split, target)
    dataset = target_entry(target).dataset
    images = read_table(Path(f"data/images/{dataset}.parquet"))
    order = np.random.default_rng(options.seed).permutation(images.num_rows)
    if options.index:
        members, others = _from_index(options.index, images.num_rows, order)
    elif isinstance(options.member, str):
        members, others = _by_name(options.member, images.column("image_id").to_pylist(), order)
    else:
        members, others = order[: options.member], order[options.member :]
    others, dropped = _without_duplicates(images, members, others)
    roles = _assign(members, others, options)
    if dropped:
        warn(f"{target}: {dropped} non-members have the very pixels of a member and were dropped")
    how = {"index": options.index.path} if options.index else {"member": options.member}
    facts = {"target": target, "dataset": dataset, "drawn_by": {**how, "seed": options.seed}}
    for role, rows in roles.items():  # a file says nothing of the other roles, lest a larger holdout change it
        table = images.take(pa.array(np.sort(rows)))
        metadata: dict[str, Any] = {**facts, "role": role}
        if role == "holdout":
            metadata["duplicates_dropped"] = dropped
        write_table(Path(f"data/roles/{target}/{role}.parquet"), table, metadata)
    print(f"{target}: " + ", ".join(f"{len(rows)} {role}" for role, rows in roles.items()))


def _from_index(index: Index, count: int, order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Members and non-members of a published split, the latter in the seed's order."""
    path = Path(index.path)
    found = file_hash(path)
    if found != index.sha256:
        raise InputError(f"{path}: its sha256 is {found}, params.yaml pins split.index.sha256: {index.sha256}")
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
    return members, order[np.isin(order, others)]


def _by_name(pattern: str, ids: list[str], order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Members, whose image_id matches the pattern, and the others, in the seed's order."""
    matches = np.array([fnmatchcase(name, pattern) for name in ids])
    if not matches.any():
        raise InputError(f"{PARAMS}: split.member: no image_id matches '{pattern}'; the first is '{ids[0]}'")
    return order[matches[order]], order[~matches[order]]


def _without_duplicates(images: pa.Table, members: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, int]:
    """The non-members whose pixels no member has, and how many were dropped."""
    hashes = images.column("sha256")
    of_members = hashes.take(pa.array(members)).combine_chunks()
    copies = pc.is_in(hashes.take(pa.array(others)), value_set=of_members).to_numpy()
    return others[~copies], int(copies.sum())


def _assign(members: np.ndarray, others: np.ndarray, options: Split) -> dict[str, np.ndarray]:
    auxiliary, holdout = others[: options.auxiliary], others[options.auxiliary :]
    wanted = 1 if options.holdout == "rest" else options.holdout
    if len(auxiliary) < options.auxiliary or len(holdout) < wanted:
        raise InputError(
            f"{PARAMS}: split: {len(members)} members leave {len(others)} distinct non-members, too few for "
            f"{options.auxiliary} auxiliary and {wanted} holdout images"
        )
    if options.holdout != "rest":
        holdout = holdout[: options.holdout]
    return {"member": members, "auxiliary": auxiliary, "holdout": holdout}


if __name__ == "__main__":
    run(split, target="a name in the `targets` registry of params.yaml")
