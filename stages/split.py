"""split: give every image of a target's dataset its role in the audit.

`member` trained the target, `auxiliary` fits the thresholds, `holdout` only measures error rates, `reference` trains a
reference where one is asked for.  Members are drawn by seed, matched by their names, listed in an index file, or given
by the target's file of scores (`source: scores`), which may tell every role; else non-members are shared out by seed.

A draw is a hash of the seed and the unit, in [0, 1): what is independent, the image unless the dataset names another
(a patient, a shoot).  Neither names nor the order of files decide, and an image more moves no other; only where a count
is asked for, it may take the place of the last one.  No unit has two roles.

A role holds distinct images.  Of exact copies (equal pixels) the first in the dataset's order stands for all, and
column `copies` says how many there are; counts and shares are of distinct images.  Copies are of one unit: copies of a
drawn member are members, those of members that were given are dropped from the non-members and counted, as is all else
of their units, and a file of scores that gives a unit different roles is refused.

data/images/<dataset>.parquet, data/features/<dataset>.parquet -> {member,auxiliary,holdout,reference}.parquet in
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
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from leakgauge.cli import run
from leakgauge.config import PARAMS, check_levels, key_name, section, source_of
from leakgauge.draws import drawn_by_name
from leakgauge.errors import InputError, warn
from leakgauge.imports import read_index, read_roles
from leakgauge.options import Levels, Split
from leakgauge.tables import ROLES, captions_of, read_table, write_table

LEFT_OUT = {  # why an image of the dataset has no role although it could
    "duplicates_dropped": "non-members are exact duplicates of a member and were dropped",
    "units_dropped": "other non-members share a unit with a member and were dropped",
    "unscored": "images have no scores and were left out",
}


@dataclass(frozen=True)
class Population:
    """The images of a dataset, N rows."""

    ids: list[str]
    image: np.ndarray  # (N,) int: copies have the same number
    unit: np.ndarray  # (N,) int: so have images of one unit
    units: list[str]  # the name behind each: the hash of the image, or of named units the least that was joined

    def distinct(self, rows: np.ndarray) -> np.ndarray:
        """Some rows, sorted, without the copies among them: of each image the first in the dataset stays."""
        ordered = np.sort(rows)
        return ordered[np.sort(np.unique(self.image[ordered], return_index=True)[1])]

    def drawn(self, what: str, seed: int) -> np.ndarray:
        """(N,) float64 in [0, 1), by unit: the seed, what is drawn and the unit's name decide."""
        return (drawn_by_name([f"{what} {name}" for name in self.units], seed) / 2**64)[self.unit]

    def first(self, rows: np.ndarray, wanted: int | float, what: str, seed: int) -> np.ndarray:
        """(n,) bool, of some rows: about this share of the units, or units with up to so many distinct images."""
        draw = self.drawn(what, seed)[rows]
        if isinstance(wanted, float):
            return draw < wanted
        one = np.isin(rows, self.distinct(rows))  # one row an image
        order = np.argsort(draw, kind="stable")
        counted = np.cumsum(one[order])  # images up to here
        last = pd.Series(counted).groupby(self.unit[rows][order]).transform("max").to_numpy()  # to the unit's end
        chosen = np.zeros(len(rows), dtype=bool)
        chosen[order] = last <= wanted
        return chosen


def read_population(images: pa.Table) -> Population:
    """The images of a table; copies join units, and where there are none each image is one."""
    hashes = images.column("sha256").to_pylist()
    image = pd.factorize(np.array(hashes, dtype=object))[0]
    if "unit" not in images.column_names:
        return Population(images.column("image_id").to_pylist(), image, image, list(dict.fromkeys(hashes)))
    names = images.column("unit").to_pylist()
    named = pd.factorize(np.array(names, dtype=object))[0]
    both = coo_array((np.ones(len(image)), (image, named)), shape=(image.max() + 1, named.max() + 1))
    size = sum(both.shape)
    graph = coo_array((both.data, (both.coords[0], both.coords[1] + both.shape[0])), shape=(size, size))
    component = connected_components(graph, directed=False)[1]
    unit = pd.factorize(component[image])[0]
    least = pd.Series(names).groupby(unit).min()
    return Population(images.column("image_id").to_pylist(), image, unit, least.tolist())


@dataclass(frozen=True)
class Draw:
    """Which image has which role."""

    rows: dict[str, np.ndarray]  # role -> where its images stand in the dataset, sorted, one row a distinct image
    pool: np.ndarray  # the rows that roles were drawn from, or given of, copies included
    drawn_by: dict[str, Any]  # how, for the record
    left_out: dict[str, int]  # reason -> how many images


def split(target: str) -> None:
    """Write the role files of a target, and the features of their images."""
    options, source = section("split", Split, target), source_of(target)
    images = read_table(Path(f"data/images/{source.images}.parquet"))
    features = _features(source.images, images)
    population = read_population(images)
    from_scores = source.source == "scores"
    drawn = _given(population, options, source.model, target) if from_scores else _drawn(population, options, target)
    check_levels(target, section("levels", Levels, target), len(drawn.rows["auxiliary"]))
    for reason, count in drawn.left_out.items():
        if count:
            warn(f"{target}: {count} {LEFT_OUT[reason]}")
    facts: dict[str, Any] = {"target": target, "dataset": source.images, "drawn_by": drawn.drawn_by}
    copies = _copies(images, population.image, drawn.pool)
    for role, rows in drawn.rows.items():  # a file says nothing of the other roles, lest a larger holdout change it
        left_out = drawn.left_out if role == "holdout" else {}
        of_role = copies.loc[population.image[rows]]
        table = images.take(pa.array(rows)).append_column("copies", pa.array(of_role["rows"].to_numpy(np.int64)))
        if "unit" in table.column_names:  # copies may have joined units
            names = pa.array([population.units[unit] for unit in population.unit[rows]], pa.string())
            table = table.set_column(table.column_names.index("unit"), "unit", names)
        merged = _merged(target, role, of_role)
        write_table(Path(f"data/roles/{target}/{role}.parquet"), table, {**facts, "role": role, **left_out, **merged})
        described = features.take(pa.array(rows))
        write_table(Path(f"data/features/{target}/{role}.parquet"), described, {**facts, "role": role})
    counts = {role: len(rows) for role, rows in drawn.rows.items() if role in ROLES or len(rows)}
    print(f"{target}: " + ", ".join(f"{count} {role}" for role, count in counts.items()))


def _copies(images: pa.Table, image: np.ndarray, pool: np.ndarray) -> pd.DataFrame:
    """By distinct image of the pool: `rows`, how many it has, and `described`, their different labels and captions."""
    columns = {"image": image, "label": images.column("label").to_pylist(), "caption": captions_of(images)}
    described = pd.DataFrame(columns, dtype=object).iloc[pool]
    different = described.drop_duplicates().groupby("image").size()
    return pd.DataFrame({"rows": described.groupby("image").size(), "described": different})


def _merged(target: str, role: str, copies: pd.DataFrame) -> dict[str, int]:
    """How many copies of a role's images count no more, and how many images have copies described otherwise; warns."""
    repeats, differing = int((copies["rows"] - 1).sum()), int((copies["described"] > 1).sum())
    if repeats:
        warn(f"{target}: {role}: {repeats} exact copies of other {role} images: each distinct image counts once")
    if differing:
        warn(f"{target}: {role}: {differing} images have copies with another label or caption: the first one is used")
    return {"exact_copies": repeats, "copies_described_otherwise": differing}


def _features(dataset: str, images: pa.Table) -> pa.Table:
    """The features of the images, row by row.  Raises InputError if they are of others."""
    path = Path(f"data/features/{dataset}.parquet")
    features = read_table(path)
    if features.column("image_id") != images.column("image_id"):
        raise InputError(f"{path}: describes other images than data/images/{dataset}.parquet holds: run `dvc repro`")
    return features


def _drawn(population: Population, options: Split, target: str) -> Draw:
    """Members drawn, matched or listed; the others shared out."""
    everything, key = np.arange(len(population.ids)), f"{PARAMS}: {key_name('split', 'member', target)}"
    if options.index:
        members, others = read_index(Path(options.index.path), options.index.sha256, len(everything))
    elif isinstance(options.member, str):
        matches = np.array([fnmatchcase(name, options.member) for name in population.ids])
        if not matches.any():
            raise InputError(f"{key}: no image_id matches '{options.member}'; the first is '{population.ids[0]}'")
        members, others = everything[matches], everything[~matches]
    else:
        chosen = population.first(everything, options.member, "member", options.seed)
        if options.member and not chosen.any():
            raise InputError(f"{key}: {options.member}: no unit has so few images")
        members, others = everything[chosen], everything[~chosen]
    how = {"index": options.index.path} if options.index else {"member": options.member}
    return _share_out(population, members, others, options, {**how, "seed": options.seed}, {}, target)


def _given(population: Population, options: Split, path: str, target: str) -> Draw:
    """Every role, or who is a member, as a file of scores has it; in the latter case the others are shared out."""
    scores = read_roles(Path(path))
    scores = scores.of(~scores.suspect)
    ids = population.ids
    places = scores.rows_among(ids)
    unscored = np.setdiff1d(np.arange(len(ids)), places)
    if len(unscored) and options.unscored == "refuse":
        raise InputError(
            f"{path}: {len(unscored)} of {len(ids)} images of the dataset have no row, the first is image_id "
            f"'{ids[unscored[0]]}': score them, or set {key_name('split', 'unscored', target)}: leave_out"
        )
    left_out = {"unscored": len(unscored)}
    if scores.role is None:
        members, others = (np.sort(places[rows]) for rows in (scores.is_member, ~scores.is_member))
        how = {"is_member": path, "seed": options.seed}
        return _share_out(population, members, others, options, how, left_out, target)
    given = {role: places[scores.role == role] for role in ROLES}
    _refuse_copies(path, population, given)
    rows = {role: population.distinct(of_role) for role, of_role in given.items()}
    rows["reference"] = np.empty(0, dtype=np.int64)
    return Draw(rows, places, {"role": path}, {"duplicates_dropped": 0, "units_dropped": 0, **left_out})


def _refuse_copies(path: str, population: Population, rows: dict[str, np.ndarray]) -> None:
    """Raise InputError if a unit, exact copies included, has two roles: the file that gave them contradicts itself."""
    for other, role in itertools.combinations(ROLES, 2):
        for group, what in ((population.image, "exact duplicates"), (population.unit, "of the units")):
            places = {group[row]: row for row in rows[other]}
            if copies := [row for row in rows[role] if group[row] in places]:
                first, original = copies[0], places[group[copies[0]]]
                raise InputError(
                    f"{path}: {len(copies)} {role} images are {what} of {other} images, the first is image_id "
                    f"'{population.ids[first]}', of {other} '{population.ids[original]}': correct its role or leave "
                    "its row out"
                )


def _share_out(
    population: Population,
    members: np.ndarray,
    others: np.ndarray,
    options: Split,
    drawn_by: dict[str, Any],
    left_out: dict[str, int],
    target: str,
) -> Draw:
    """Members, and the non-members shared out, but for copies of members and what else shares a unit with one.

    Raises InputError where too few are left.
    """
    copies = np.isin(population.image[others], population.image[members])
    related = np.isin(population.unit[others], population.unit[members]) & ~copies
    others = others[~copies & ~related]
    chosen = population.first(others, options.auxiliary, "auxiliary", options.seed)
    fits, left = population.distinct(others[chosen]), others[~chosen]
    chosen = population.first(left, options.reference, "reference", options.seed)
    reference, holdout = population.distinct(left[chosen]), left[~chosen]
    if options.holdout != "rest":
        holdout = holdout[population.first(holdout, options.holdout, "holdout", options.seed)]
    rows = {"member": population.distinct(members), "auxiliary": fits, "holdout": population.distinct(holdout)}
    rows["reference"] = reference
    wanted = {
        "auxiliary": 1 if isinstance(options.auxiliary, float) else options.auxiliary,
        "holdout": 1 if options.holdout == "rest" else options.holdout,
        "reference": options.reference,
    }
    if any(len(rows[role]) < min(count, 1) for role, count in wanted.items()) or (
        len(population.units) == len(np.unique(population.image))  # with larger units a count is a bound
        and any(len(rows[role]) < count for role, count in wanted.items())
    ):
        distinct = len(population.distinct(others))
        auxiliary = f"{wanted['auxiliary']} auxiliary"
        auxiliary += f", {options.reference} reference" if options.reference else ""
        raise InputError(
            f"{PARAMS}: {key_name('split', 'auxiliary', target)}: {len(rows['member'])} members leave {distinct} "
            f"distinct non-members, too few for {auxiliary} and {wanted['holdout']} holdout images"
        )
    dropped = {"duplicates_dropped": int(copies.sum()), "units_dropped": int(related.sum())}
    return Draw(rows, np.concatenate([members, others]), drawn_by, {**dropped, **left_out})


if __name__ == "__main__":
    run(split, target="a name in the `targets` registry of params.yaml")
