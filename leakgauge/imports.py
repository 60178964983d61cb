"""Scores and index files from elsewhere: other projects' files, read and checked.

A file of scores from elsewhere, one row an image: any attack on any model, known here by its numbers alone.

Columns, in any order: `image_id` (strings or integers); `role` (member, auxiliary, holdout) or `is_member` (1 or 0).
A suspect has the role `suspect`, or no `is_member`, and the id that it has in the pipeline, `suspect/<name>`. Every
other column must be named as a score in the target's entry (`target.scores`): a positive number per image,
lower where the image is more member-like. Neither the order of rows nor a column that is not named decides anything.
"""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import pyarrow as pa
from pyarrow import csv

from leakgauge.errors import InputError
from leakgauge.files import file_hash
from leakgauge.tables import ROLES, image_ids, read_parquet


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


ABOUT_IMAGES = ("image_id", "role", "is_member")
WORDS = {"image_id": pa.string(), "role": pa.string()}  # of a CSV, where "007" could be a number


@dataclass(frozen=True)
class Scores:
    """The rows of a file, in its order.

    ids : unique.  columns : name -> (N,) float64, positive and finite; empty where only the roles are read.
    is_member, suspect : (N,) bool.
    role : (N,) words of `ROLES` and `suspect`; None where the file has `is_member` alone.
    """

    path: Path
    ids: list[str]
    columns: dict[str, np.ndarray]
    is_member: np.ndarray
    suspect: np.ndarray
    role: np.ndarray | None

    def of(self, rows: np.ndarray) -> "Scores":
        """Some of the rows.  rows : (N,) bool."""
        ids = [image_id for image_id, taken in zip(self.ids, rows, strict=True) if taken]
        columns = {name: values[rows] for name, values in self.columns.items()}
        role = None if self.role is None else self.role[rows]
        return Scores(self.path, ids, columns, self.is_member[rows], self.suspect[rows], role)

    def rows_among(self, images: list[str]) -> np.ndarray:
        """(N,) int, where each row's image stands among image_ids.  Raises InputError for a row without an image."""
        places = {image_id: place for place, image_id in enumerate(images)}
        unknown = [image_id for image_id in self.ids if image_id not in places]
        if unknown:
            there = f"the first there is '{images[0]}'" if images else "there are none"
            raise InputError(
                f"{self.path}: {len(unknown)} of {len(self.ids)} rows are of no image of the dataset, the first is "
                f"image_id '{unknown[0]}'; {there}"
            )
        return np.array([places[image_id] for image_id in self.ids])


def read_roles(path: Path) -> Scores:
    """Read the roles alone from a .parquet or .csv file of scores.  Raises InputError naming the file and the image."""
    return _of_table(path, _read(path))


def read_scores(path: Path, patterns: list[str]) -> Scores:
    """Read a .parquet or .csv file of scores.

    patterns : names of the columns that are scores, or patterns of them like "t_error_t*".  Raises InputError naming
    the file and the column or image at fault: a column that is neither named nor known is refused, not left out.
    """
    table = _read(path)
    rows = _of_table(path, table)
    names = _score_columns(path, table.column_names, patterns)
    columns = {name: _numbers(path, table, name, rows) for name in names}
    return Scores(path, rows.ids, columns, rows.is_member, rows.suspect, rows.role)


def _of_table(path: Path, table: pa.Table) -> Scores:
    try:
        _ = table.column_names
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: the name of a column is no text in UTF-8: {error}") from None
    ids = image_ids(path, table)
    if twice := [name for name in table.column_names if table.column_names.count(name) > 1]:
        raise InputError(f"{path}: duplicate column '{twice[0]}'")
    if not ids:
        raise InputError(f"{path}: has no rows")
    role = _roles(path, table, ids) if "role" in table.column_names else None
    is_member, suspect = _memberships(path, table, ids, role)
    return Scores(path, ids, {}, is_member, suspect, role)


def _score_columns(path: Path, columns: list[str], patterns: list[str]) -> list[str]:
    """The columns that `patterns` name, in the file's order.  Raises InputError for any other column."""
    others = [name for name in columns if name not in ABOUT_IMAGES]
    if not others:
        raise InputError(f"{path}: has no column of scores beside {', '.join(columns)}")
    for pattern in patterns:
        if not any(_named(name, pattern) for name in others) and not set(pattern) & set("*?["):
            raise InputError(
                f"{path}: has no column '{pattern}', which target.scores names; there are {', '.join(others)}"
            )
    for name in others:
        if not any(_named(name, pattern) for pattern in patterns):
            raise InputError(
                f"{path}: column '{name}' is not named in target.scores of the target's entry: "
                "name it there if it is a score, else remove it from the file"
            )
    return others


def _named(column: str, pattern: str) -> bool:
    return column == pattern or fnmatchcase(column, pattern)


def _read(path: Path) -> pa.Table:
    if path.suffix == ".parquet":
        return read_parquet(path)
    if path.suffix != ".csv":
        raise InputError(f"{path}: a file of scores ends in .parquet or .csv")
    if not path.is_file():
        raise InputError(f"{path}: not found, or not a file")
    whole = csv.ReadOptions(block_size=min(path.stat().st_size + 1, 2**31 - 1))  # types are inferred from one block
    try:
        return csv.read_csv(path, read_options=whole, convert_options=csv.ConvertOptions(column_types=WORDS))
    except pa.ArrowException as error:
        raise InputError(f"{path}: not a readable CSV file: {error}") from None


def _roles(path: Path, table: pa.Table, ids: list[str]) -> np.ndarray:
    """(N,) words."""
    roles = table.column("role").to_pylist()
    for image_id, role in zip(ids, roles, strict=True):
        if role not in (*ROLES, "suspect"):
            raise InputError(f"{path}: image_id '{image_id}' has role '{role}': must be {', '.join(ROLES)} or suspect")
    for role in ROLES:
        if role not in roles:
            raise InputError(f"{path}: no row has role '{role}': there must be some of each ({', '.join(ROLES)})")
    return np.array(roles)


def _memberships(path: Path, table: pa.Table, ids: list[str], role: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """is_member and suspect, (N,) bool each, as `is_member` or the roles tell it; they must not contradict."""
    if "is_member" not in table.column_names:
        if role is None:
            raise InputError(f"{path}: needs a column 'role' ({', '.join(ROLES)}) or 'is_member' (1 or 0)")
        return role == "member", role == "suspect"
    values = table.column("is_member").to_pylist()
    for image_id, value in zip(ids, values, strict=True):
        if value not in (0, 1, None):  # True and False are, too
            raise InputError(
                f"{path}: image_id '{image_id}' has is_member '{value}': must be 1 or 0, true or false, or nothing"
            )
    if len(known := {value for value in values if value is not None}) < 2:
        value = int(known.pop()) if known else "empty"
        raise InputError(f"{path}: is_member is {value} in every row: there must be members and others")
    is_member, suspect = np.array([value == 1 for value in values]), np.array([value is None for value in values])
    if role is None:
        return is_member, suspect
    contradicted = (is_member != (role == "member")) | (suspect != (role == "suspect"))
    if contradicted.any():
        row = int(np.argmax(contradicted))
        raise InputError(f"{path}: image_id '{ids[row]}' has role '{role[row]}', but is_member is {values[row]}")
    return is_member, suspect


def _numbers(path: Path, table: pa.Table, name: str, rows: Scores) -> np.ndarray:
    """A column of scores, (N,) float64.  Raises InputError for values that no score has."""
    column = table.column(name)
    if not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
        raise InputError(f"{path}: column '{name}' is {column.type}: a score is a number; remove other columns")
    values = column.to_numpy().astype(np.float64)  # missing ones become NaN
    bad = np.flatnonzero(~(np.isfinite(values) & (values > 0)))
    if len(bad):
        raise InputError(
            f"{path}: column '{name}' is {values[bad[0]]} for image_id '{rows.ids[bad[0]]}' ({len(bad)} such in all): "
            "scores must be positive and finite, since their logarithms are learnt"
        )
    if values.min() == values.max():
        raise InputError(f"{path}: column '{name}' is {values[0]} for every image: a constant is no score")
    if problem := _tells_no_image(values, rows):
        raise InputError(f"{path}: column '{name}' {problem}: it is no score of an image: remove it")
    return values


def _tells_no_image(values: np.ndarray, rows: Scores) -> str | None:
    """What shows that a column, (N,) float64, was not measured on images, in whatever order its rows are."""
    groups = rows.is_member.astype(int) - rows.suspect if rows.role is None else rows.role
    kinds = [values[groups == group] for group in np.unique(groups[~rows.suspect])]
    if all(len(kind) > 1 and kind.min() == kind.max() for kind in kinds):
        return "has one value per role: it says the role"
    steps = np.diff(np.sort(values))
    if len(values) >= 10 and steps.min() > 0 and np.ptp(steps) <= 1e-9 * values.max():
        return f"runs in even steps of {steps[0]:g}: row numbers, or ranks in the place of scores"
    return None
