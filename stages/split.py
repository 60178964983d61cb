"""split: give every image of a target's dataset its role in the audit.

`member` trained the target, `auxiliary` fits the thresholds, `holdout` only measures error rates.  Members are drawn by
seed, told by their names, listed in an index file, or told by the target's file of scores (`source: scores`), which
may tell every role; else non-members are shared out by seed.  An image whose exact pixels are among the members
never gets another role: such duplicates are dropped from the non-members, counted and reported, and refused where the
file gave them their role.

data/images/<dataset>.parquet, data/statistics/<dataset>.parquet -> {member,auxiliary,holdout}.parquet in
data/roles/<target>/, each with its images, and in data/statistics/<target>/, with what was measured on them
"""

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import NonNegativeInt, PositiveInt

from stages.command import InputError, run, warn
from stages.params import PARAMS, Options, key_name, section, target_entry
from stages.published.index import read_index
from stages.published.scores import Scores, read_scores
from stages.tables import ROLES, read_table, write_table

Roles = dict[str, np.ndarray]  # role -> rows of its images in the dataset


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
    unscored: Literal["refuse", "leave_out"]  # images without a row in the file of a target with `source: scores`


def split(target: str) -> None:
    """Write the role files of a target, and the statistics of their images."""
    options, entry = section("split", Split, target), target_entry(target)
    images = read_table(Path(f"data/images/{entry.dataset}.parquet"))
    statistics = _statistics(entry.dataset, images)
    if entry.source == "scores":
        scores = read_scores(Path(entry.path))
        roles, drawn_by, left_out = _by_scores(scores, images, options, target)
    else:
        members, others = _members_and_others(images, options)
        roles, dropped = _share_out(images, members, others, options)
        how = {"index": options.index.path} if options.index else {"member": options.member}
        drawn_by, left_out = {**how, "seed": options.seed}, {"duplicates_dropped": dropped}
    if left_out["duplicates_dropped"]:
        warn(
            f"{target}: {left_out['duplicates_dropped']} non-members have the very pixels of a member and were dropped"
        )
    if left_out.get("unscored"):
        warn(f"{target}: {left_out['unscored']} images have no scores and were left out")
    facts = {"target": target, "dataset": entry.dataset, "drawn_by": drawn_by}
    for role, rows in roles.items():  # a file says nothing of the other roles, lest a larger holdout change it
        chosen = pa.array(np.sort(rows))
        metadata: dict[str, Any] = {**facts, "role": role, **(left_out if role == "holdout" else {})}
        write_table(Path(f"data/roles/{target}/{role}.parquet"), images.take(chosen), metadata)
        metadata = {"target": target, "dataset": entry.dataset, "role": role}
        write_table(Path(f"data/statistics/{target}/{role}.parquet"), statistics.take(chosen), metadata)
    print(f"{target}: " + ", ".join(f"{len(rows)} {role}" for role, rows in roles.items()))


def _statistics(dataset: str, images: pa.Table) -> pa.Table:
    """What `describe` found of the images, row by row.  Raises InputError if it described others."""
    path = Path(f"data/statistics/{dataset}.parquet")
    statistics = read_table(path)
    if statistics.column("image_id") != images.column("image_id"):
        raise InputError(f"{path}: describes other images than data/images/{dataset}.parquet holds: run `dvc repro`")
    return statistics


def _members_and_others(images: pa.Table, options: Split) -> tuple[np.ndarray, np.ndarray]:
    """Rows of members and of non-members, the latter in the seed's order."""
    order = _shuffled(images, options)
    if options.index:
        members, others = read_index(Path(options.index.path), options.index.sha256, images.num_rows)
        return members, order[np.isin(order, others)]
    if isinstance(options.member, str):
        return _by_name(options.member, images.column("image_id").to_pylist(), order)
    return order[: options.member], order[options.member :]


def _shuffled(images: pa.Table, options: Split) -> np.ndarray:
    """All rows, in the seed's order."""
    return np.random.default_rng(options.seed).permutation(images.num_rows)


def _by_name(pattern: str, ids: list[str], order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Members, whose image_id matches the pattern, and the others, in the seed's order."""
    matches = np.array([fnmatchcase(name, pattern) for name in ids])
    if not matches.any():
        raise InputError(f"{PARAMS}: split.member: no image_id matches '{pattern}'; the first is '{ids[0]}'")
    return order[matches[order]], order[~matches[order]]


def _by_scores(
    scores: Scores, images: pa.Table, options: Split, target: str
) -> tuple[Roles, dict[str, Any], dict[str, int]]:
    """Roles as a file of scores tells them, how they were drawn, and how many images got none, by reason."""
    ids = images.column("image_id").to_pylist()
    rows = scores.rows_among(ids)
    left_out = {"duplicates_dropped": 0, "unscored": len(ids) - len(rows)}
    if left_out["unscored"] and options.unscored == "refuse":
        first = ids[int(np.setdiff1d(np.arange(len(ids)), rows)[0])]
        raise InputError(
            f"{scores.path}: {left_out['unscored']} of {len(ids)} images of the dataset have no row, the first is "
            f"image_id '{first}': score them, or set {key_name('split', 'unscored', target)}: leave_out"
        )
    if scores.role is not None:
        roles = {role: rows[scores.role == role] for role in ROLES}
        _refuse_copies(scores.path, images, roles)
        return roles, {"role": str(scores.path)}, left_out
    order = _shuffled(images, options)
    members, others = rows[scores.is_member], order[np.isin(order, rows[~scores.is_member])]
    roles, left_out["duplicates_dropped"] = _share_out(images, members, others, options)
    return roles, {"is_member": str(scores.path), "seed": options.seed}, left_out


def _refuse_copies(path: Path, images: pa.Table, roles: Roles) -> None:
    """Raise InputError if a non-member has a member's pixels: a file that gives it that role contradicts itself."""
    ids, hashes = (images.column(name).to_pylist() for name in ("image_id", "sha256"))
    members = {hashes[row]: ids[row] for row in roles["member"]}
    for role in ("auxiliary", "holdout"):
        if copies := [row for row in roles[role] if hashes[row] in members]:
            first = copies[0]
            raise InputError(
                f"{path}: {len(copies)} {role} images have the very pixels of a member, the first is image_id "
                f"'{ids[first]}' with those of member '{members[hashes[first]]}': correct its role or leave its row out"
            )


def _share_out(images: pa.Table, members: np.ndarray, others: np.ndarray, options: Split) -> tuple[Roles, int]:
    """Roles, the non-members in the order given, and how many of them were dropped as copies of members."""
    hashes = images.column("sha256")
    of_members = hashes.take(pa.array(members)).combine_chunks()
    copies = pc.is_in(hashes.take(pa.array(others)), value_set=of_members).to_numpy()
    others = others[~copies]
    auxiliary, holdout = others[: options.auxiliary], others[options.auxiliary :]
    wanted = 1 if options.holdout == "rest" else options.holdout
    if len(auxiliary) < options.auxiliary or len(holdout) < wanted:
        raise InputError(
            f"{PARAMS}: split: {len(members)} members leave {len(others)} distinct non-members, too few for "
            f"{options.auxiliary} auxiliary and {wanted} holdout images"
        )
    if options.holdout != "rest":
        holdout = holdout[: options.holdout]
    return {"member": members, "auxiliary": auxiliary, "holdout": holdout}, int(copies.sum())


if __name__ == "__main__":
    run(split, target="a name in the `targets` registry of params.yaml")
