"""What a bag's predictions say of the scores that were observed: z-scores, and who may speak for non-members."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from leakgauge.errors import InputError
from leakgauge.inference.conformal import AttackResult, gaussian_z_scores, judge, quantile_z_scores
from leakgauge.tables import (
    check_computed_on,
    column_names,
    list_values,
    log_scores,
    read_ids,
    read_metadata,
    read_rows,
    read_table,
)

Combine = Callable[[np.ndarray], np.ndarray]  # K scores to one: (n, B, K) -> (n, B)


@dataclass(frozen=True)
class ZScores:
    """One bag of B attackers that learnt K score columns, on one target."""

    bag: dict[str, Any]  # bag.json: `scores` are the columns, the first of them the main one
    z: Mapping[str, Iterable[np.ndarray]]  # role -> z-scores in pieces, each (n, B, K); gone over more than once
    out_of_bag: np.ndarray  # (n, B) bool: the attackers that never saw each auxiliary image
    calibrates: np.ndarray  # (n,) bool: the auxiliary images that p-values come from

    def judge(self, combine: Combine) -> AttackResult:
        """The bag's result of the other roles' images by one number an attacker."""
        empty = np.empty((0, self.out_of_bag.shape[1]))
        others = {role: pieces for role, pieces in self.z.items() if role != "auxiliary"}
        z = {role: np.concatenate([empty, *map(combine, pieces)]) for role, pieces in others.items()}
        return judge(z, map(combine, self.z["auxiliary"]), self.out_of_bag, self.calibrates)


def main_score(z: np.ndarray) -> np.ndarray:
    """The first of K columns.  (n, B, K) -> (n, B)."""
    return z[..., 0]


@dataclass(frozen=True)
class Predicted:
    """The z-scores of one role's images, (n, B, K), a row group of the predictions at a time."""

    predictions: Path
    rows: np.ndarray  # (P,) bool: the images' among all that are predicted for
    observed: dict[str, np.ndarray]  # column -> (N,) log scores
    levels: np.ndarray  # of its quantiles

    def __iter__(self) -> Iterator[np.ndarray]:
        return (np.stack(z, axis=-1) for z in zip(*map(self._of, self.observed), strict=True))

    def _of(self, column: str) -> Iterator[np.ndarray]:
        """(n, B) of one column: only one is in memory as it was predicted, with its quantiles."""
        names = [name for name in column_names(self.predictions) if name.rpartition(".")[0] == column]
        end = 0
        for rows in read_rows(self.predictions, names, self.rows):
            z = _of_column(rows, column, self.observed[column][end : end + len(rows)], self.levels)
            end += len(rows)
            del rows
            yield z


def kept_rows(selection: Path, scores: dict[str, Path]) -> dict[str, np.ndarray]:
    """Role -> (N,) bool: the scored images that `select` did not set apart.  scores : role -> table."""
    apart = read_ids(selection)
    return {role: ~pc.is_in(read_ids(path), apart.combine_chunks()).to_numpy() for role, path in scores.items()}


def read_z_scores(
    path: Path, scores: dict[str, Path], kept: dict[str, np.ndarray], columns: int | None = None
) -> ZScores:
    """Hold the scores of every role against what a bag predicts for its images.

    path : a table of predictions.  scores : role -> table.  kept : role -> (N,) bool, the rows that count.
    columns : how many of the learnt scores, from the main one on; by default all.
    Raises InputError if the tables are not of the same target and images, if scores were not computed alike, or if one
    has no logarithm.
    """
    facts = read_metadata(path)
    bag, levels, ids = facts["bag"], np.array(facts["levels"]), read_ids(path)
    roles = read_table(path, ["role"]).column("role")
    z = {}
    for role, scored in scores.items():
        if read_metadata(scored)["target_sha256"] != bag["target_sha256"]:
            raise InputError(f"{path}: its bag was fitted on scores of another target than {scored}: run `dvc repro`")
        check_computed_on(scored, bag, path)
        rows = pc.equal(roles, role).to_numpy()
        if not ids.filter(rows).equals(read_ids(scored)):
            raise InputError(f"{path}: predicts for other {role} images than are scored: run `dvc repro`")
        observed = {column: log_scores(scored, column)[kept[role]] for column in bag["scores"][:columns]}
        rows[rows] = kept[role]  # the images that count
        z[role] = Predicted(path, rows, observed, levels)
    auxiliary = pa.concat_tables(read_rows(path, ["out_of_bag", "calibrates"], pc.equal(roles, "auxiliary").to_numpy()))
    return ZScores(bag, z, list_values(auxiliary, "out_of_bag"), auxiliary.column("calibrates").to_numpy())


def z_scores_of(rows: pa.Table, values: dict[str, np.ndarray], levels: np.ndarray) -> np.ndarray:
    """z of each image under each attacker in each column, (N, B, K).

    rows : what a bag predicts for N images.  values : column -> (N,) log scores.  levels : those of its quantiles.
    """
    return np.stack([_of_column(rows, column, observed, levels) for column, observed in values.items()], axis=-1)


def _of_column(rows: pa.Table, column: str, observed: np.ndarray, levels: np.ndarray) -> np.ndarray:
    if f"{column}.quantiles" in rows.column_names:
        quantiles = list_values(rows, f"{column}.quantiles")  # (N, B levels)
        of_each = quantiles.reshape(len(observed), quantiles.shape[1] // len(levels), len(levels))
        return quantile_z_scores(observed, levels, of_each)
    return gaussian_z_scores(observed, list_values(rows, f"{column}.location"), list_values(rows, f"{column}.scale"))
