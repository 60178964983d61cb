"""What a bag's predictions say of the scores that were observed: normal scores, and who may speak for non-members."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from stages.command import InputError
from stages.statistics.judgement import Judgement, judge
from stages.statistics.vote import bag_margin, normal_scores_of_gaussians, normal_scores_of_quantiles
from stages.tables import list_values, log_scores, read_metadata, read_table


@dataclass(frozen=True)
class Evidence:
    """One bag of B attackers that learnt K score columns, on one target."""

    bag: dict[str, Any]  # bag.json: `scores` are the columns, the first of them the main one
    z: dict[str, np.ndarray]  # role -> (N, B, K) normal scores
    unseen: np.ndarray  # (n, B) bool: the attackers that never saw each auxiliary image
    calibrates: np.ndarray  # (n,) bool: the auxiliary images that p-values come from

    def judge(self, combine: Callable[[np.ndarray], np.ndarray]) -> Judgement:
        """The bag's judgement of the other roles' images by one number an attacker.  combine : (N, B, K) -> (N, B)."""
        z = {role: combine(scores) for role, scores in self.z.items()}
        auxiliary = z.pop("auxiliary")
        return judge(z, auxiliary, self.unseen, self.calibrates)

    def honest_scores(self) -> np.ndarray:
        """(n', K): the vote of those who never saw it on each auxiliary image that a fusion may learn from.

        Where some images are kept apart to calibrate, those are the others.
        """
        taught = self.calibrates if self.calibrates.all() else ~self.calibrates
        rows = taught & self.unseen.any(axis=1)
        z, unseen = self.z["auxiliary"][rows], self.unseen[rows]
        return np.stack([-bag_margin(z[..., k], unseen) for k in range(z.shape[-1])], axis=1)


def kept_rows(selection: Path, scores: dict[str, Path]) -> dict[str, np.ndarray]:
    """Role -> (N,) bool: the scored images that `select` did not set apart.  scores : role -> table."""
    apart = set(read_table(selection).column("image_id").to_pylist())
    ids = {role: read_table(path, ["image_id"]).column("image_id").to_pylist() for role, path in scores.items()}
    return {role: np.array([name not in apart for name in of_role], dtype=bool) for role, of_role in ids.items()}


def read_evidence(path: Path, scores: dict[str, Path], kept: dict[str, np.ndarray]) -> Evidence:
    """Hold the scores of every role against what a bag predicts for its images.

    path : a table of predictions.  scores : role -> table.  kept : role -> (N,) bool, the rows that count.
    Raises InputError if the tables are not of the same target and images, or a score has no logarithm.
    """
    facts, predictions = read_metadata(path), read_table(path)
    bag, levels, roles = facts["bag"], np.array(facts["levels"]), predictions.column("role").to_numpy()
    z = {}
    for role, scored in scores.items():
        if read_metadata(scored)["target_sha256"] != bag["target_sha256"]:
            raise InputError(f"{path}: its bag was fitted on scores of another target than {scored}: run `dvc repro`")
        rows = predictions.filter(roles == role)
        if rows.column("image_id").to_pylist() != read_table(scored, ["image_id"]).column("image_id").to_pylist():
            raise InputError(f"{path}: predicts for other {role} images than are scored: run `dvc repro`")
        values = {column: log_scores(scored, column)[kept[role]] for column in bag["scores"]}
        z[role] = normal_scores(rows.filter(kept[role]), values, levels)
    auxiliary = predictions.filter(roles == "auxiliary")
    return Evidence(bag, z, list_values(auxiliary, "out_of_bag"), auxiliary.column("calibrates").to_numpy())


def normal_scores(rows: pa.Table, values: dict[str, np.ndarray], levels: np.ndarray) -> np.ndarray:
    """z of each image under each attacker in each column, (N, B, K).

    rows : what a bag predicts for N images.  values : column -> (N,) log scores.  levels : those of its quantiles.
    """
    return np.stack([_of_column(rows, column, observed, levels) for column, observed in values.items()], axis=-1)


def _of_column(rows: pa.Table, column: str, observed: np.ndarray, levels: np.ndarray) -> np.ndarray:
    if f"{column}.quantiles" in rows.column_names:
        quantiles = list_values(rows, f"{column}.quantiles")  # (N, B levels)
        of_each = quantiles.reshape(len(observed), quantiles.shape[1] // len(levels), len(levels))
        return normal_scores_of_quantiles(observed, levels, of_each)
    return normal_scores_of_gaussians(
        observed, list_values(rows, f"{column}.location"), list_values(rows, f"{column}.scale")
    )
