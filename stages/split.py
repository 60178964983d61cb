"""split: give every image of a target's dataset its role in the audit.

`member` trained the target, `auxiliary` fits the thresholds, `holdout` only measures error rates.  Members are drawn by
seed, told by their names, listed in an index file, or told by the target's file of scores (`source: scores`), which
may tell every role; else non-members are shared out by seed.

A role holds distinct images.  Of exact copies (equal pixels) the first in the dataset's order stands for all, and
column `copies` says how many there are; counts and shares are of distinct images.  No image has two roles: copies of a
drawn member are members, copies of members that were told are dropped from the non-members and counted, and a file of
scores that gives copies different roles is refused.

data/images/<dataset>.parquet, data/features/<dataset>.parquet -> {member,auxiliary,holdout}.parquet in
data/roles/<target>/, each with its images, and in data/features/<target>/, with their features
"""

import itertools
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from leakgauge.cli import run
from leakgauge.config import PARAMS, check_levels, key_name, section, source_of
from leakgauge.errors import InputError, warn
from leakgauge.imports import read_index, read_roles
from leakgauge.options import Levels, Split
from leakgauge.tables import ROLES, captions_of, read_table, write_table

LEFT_OUT = {  # why an image of the dataset has no role although it could
    "duplicates_dropped": "non-members are exact duplicates of a member and were dropped",
    "unscored": "images have no scores and were left out",
}


@dataclass(frozen=True)
class Draw:
    """Who is what."""

    rows: dict[str, np.ndarray]  # role -> where its images stand in the dataset, one row a distinct image
    pool: np.ndarray  # the rows that roles were drawn from, or told of, copies included
    drawn_by: dict[str, Any]  # how, for the record
    left_out: dict[str, int]  # reason -> how many images


def split(target: str) -> None:
    """Write the role files of a target, and the features of their images."""
    options, source = section("split", Split, target), source_of(target)
    images = read_table(Path(f"data/images/{source.images}.parquet"))
    features = _features(source.images, images)
    image = pd.factorize(images.column("sha256").to_pandas())[0]  # (N,) int: copies have the same number
    told = source.source == "scores"
    drawn = _told(images, image, options, source.model, target) if told else _drawn(images, image, options)
    check_levels(target, section("levels", Levels, target), len(drawn.rows["auxiliary"]))
    for reason, count in drawn.left_out.items():
        if count:
            warn(f"{target}: {count} {LEFT_OUT[reason]}")
    facts: dict[str, Any] = {"target": target, "dataset": source.images, "drawn_by": drawn.drawn_by}
    copies = _copies(images, image, drawn.pool)
    for role, rows in drawn.rows.items():  # a file says nothing of the other roles, lest a larger holdout change it
        chosen, left_out = np.sort(rows), drawn.left_out if role == "holdout" else {}
        of_role = copies.loc[image[chosen]]
        table = images.take(pa.array(chosen)).append_column("copies", pa.array(of_role["rows"].to_numpy(np.int64)))
        merged = _merged(target, role, of_role)
        write_table(Path(f"data/roles/{target}/{role}.parquet"), table, {**facts, "role": role, **left_out, **merged})
        described = features.take(pa.array(chosen))
        write_table(Path(f"data/features/{target}/{role}.parquet"), described, {**facts, "role": role})
    print(f"{target}: " + ", ".join(f"{len(rows)} {role}" for role, rows in drawn.rows.items()))


def _copies(images: pa.Table, image: np.ndarray, pool: np.ndarray) -> pd.DataFrame:
    """By distinct image of the pool: `rows`, how many it has there, and `told`, their different labels and captions."""
    columns = {"image": image, "label": images.column("label").to_pylist(), "caption": captions_of(images)}
    told = pd.DataFrame(columns, dtype=object).iloc[pool]
    return pd.DataFrame({"rows": told.groupby("image").size(), "told": told.drop_duplicates().groupby("image").size()})


def _merged(target: str, role: str, copies: pd.DataFrame) -> dict[str, int]:
    """How many copies of a role's images count no more, and how many images have copies told of otherwise; warns."""
    repeats, differing = int((copies["rows"] - 1).sum()), int((copies["told"] > 1).sum())
    if repeats:
        warn(f"{target}: {role}: {repeats} exact copies of other {role} images: each distinct image counts once")
    if differing:
        warn(f"{target}: {role}: {differing} images have copies with another label or caption: the first one is used")
    return {"exact_copies": repeats, "copies_told_otherwise": differing}


def _features(dataset: str, images: pa.Table) -> pa.Table:
    """What `describe` found of the images, row by row.  Raises InputError if it described others."""
    path = Path(f"data/features/{dataset}.parquet")
    features = read_table(path)
    if features.column("image_id") != images.column("image_id"):
        raise InputError(f"{path}: describes other images than data/images/{dataset}.parquet holds: run `dvc repro`")
    return features


def _drawn(images: pa.Table, image: np.ndarray, options: Split) -> Draw:
    """Members drawn, matched or listed; the others shared out."""
    order = _shuffled(images, options)
    if options.index:
        members, others = read_index(Path(options.index.path), options.index.sha256, images.num_rows)
        others = order[np.isin(order, others)]
    elif isinstance(options.member, str):
        members, others = _by_name(options.member, images.column("image_id").to_pylist(), order)
    else:
        drawn = np.isin(image[order], image[_distinct(order, image)[: options.member]])
        members, others = order[drawn], order[~drawn]
    rows, pool, dropped = _share_out(image, members, others, options)
    how = {"index": options.index.path} if options.index else {"member": options.member}
    return Draw(rows, pool, {**how, "seed": options.seed}, {"duplicates_dropped": dropped})


def _shuffled(images: pa.Table, options: Split) -> np.ndarray:
    """All rows, in the seed's order."""
    return np.random.default_rng(options.seed).permutation(images.num_rows)


def _distinct(rows: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Some rows without the copies among them: of each image the first in the dataset stays, in the order of `rows`."""
    ordered = np.sort(rows)
    first = np.unique(image[ordered], return_index=True)[1]
    return rows[np.isin(rows, ordered[first])]


def _by_name(pattern: str, ids: list[str], order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Members, whose image_id matches the pattern, and the others, in the seed's order."""
    matches = np.array([fnmatchcase(name, pattern) for name in ids])
    if not matches.any():
        raise InputError(f"{PARAMS}: split.member: no image_id matches '{pattern}'; the first is '{ids[0]}'")
    return order[matches[order]], order[~matches[order]]


def _told(images: pa.Table, image: np.ndarray, options: Split, path: str, target: str) -> Draw:
    """Every role, or who is a member, as a file of scores tells it; in the latter case the others are shared out."""
    scores = read_roles(Path(path))
    scores = scores.of(~scores.suspect)
    ids = images.column("image_id").to_pylist()
    places = scores.rows_among(ids)
    unscored = np.setdiff1d(np.arange(len(ids)), places)
    if len(unscored) and options.unscored == "refuse":
        raise InputError(
            f"{path}: {len(unscored)} of {len(ids)} images of the dataset have no row, the first is image_id "
            f"'{ids[unscored[0]]}': score them, or set {key_name('split', 'unscored', target)}: leave_out"
        )
    if scores.role is None:
        order = _shuffled(images, options)
        members, others = places[scores.is_member], order[np.isin(order, places[~scores.is_member])]
        rows, pool, dropped = _share_out(image, members, others, options)
        how = {"is_member": path, "seed": options.seed}
    else:
        told = {role: places[scores.role == role] for role in ROLES}
        _refuse_copies(path, ids, image, told)
        rows, pool, dropped = {role: _distinct(of_role, image) for role, of_role in told.items()}, places, 0
        how = {"role": path}
    return Draw(rows, pool, how, {"duplicates_dropped": dropped, "unscored": len(unscored)})


def _refuse_copies(path: str, ids: list[str], image: np.ndarray, rows: dict[str, np.ndarray]) -> None:
    """Raise InputError if exact copies have different roles: the file that gave them these contradicts itself."""
    for other, role in itertools.combinations(ROLES, 2):
        places = {image[row]: row for row in rows[other]}
        if copies := [row for row in rows[role] if image[row] in places]:
            first, original = copies[0], places[image[copies[0]]]
            raise InputError(
                f"{path}: {len(copies)} {role} images are exact duplicates of {other} images, the first is image_id "
                f"'{ids[first]}', of {other} '{ids[original]}': correct its role or leave its row out"
            )


def _share_out(
    image: np.ndarray, members: np.ndarray, others: np.ndarray, options: Split
) -> tuple[dict[str, np.ndarray], np.ndarray, int]:
    """The rows of each role, distinct images, non-members in the order given; the rows that these were drawn from; how
    many of the others were dropped as copies of members.

    Raises InputError where too few are left.
    """
    dropped = np.isin(image[others], image[members])
    pool = np.concatenate([members, others[~dropped]])
    members, others = _distinct(members, image), _distinct(others[~dropped], image)
    count = round(options.auxiliary * len(others)) if isinstance(options.auxiliary, float) else options.auxiliary
    auxiliary, holdout = others[:count], others[count:]
    wanted = 1 if options.holdout == "rest" else options.holdout
    if len(auxiliary) < max(count, 1) or len(holdout) < wanted:
        raise InputError(
            f"{PARAMS}: split: {len(members)} members leave {len(others)} distinct non-members, too few for "
            f"{max(count, 1)} auxiliary and {wanted} holdout images"
        )
    if options.holdout != "rest":
        holdout = holdout[: options.holdout]
    return {"member": members, "auxiliary": auxiliary, "holdout": holdout}, pool, int(dropped.sum())


if __name__ == "__main__":
    run(split, target="a name in the `targets` registry of params.yaml")
