"""A table of z-scores on disk: what a bag says of the observed scores of members, auxiliary and holdout images."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa

from leakgauge.errors import InputError
from leakgauge.inference.conformal import AttackResult, judge
from leakgauge.tables import column_names, list_values, read_metadata, read_table

MEASURED = ("member", "holdout")  # roles
Roles = dict[str, np.ndarray]  # role -> its images' values, rows in the order of the role's tables


@dataclass(frozen=True)
class ZTable:
    """One bag of B attackers on one target.  A score column is read when it is asked for."""

    path: Path
    bag: dict[str, Any]  # bag.json: `scores` are the columns that it learnt
    rows: dict[str, np.ndarray]  # role -> (N,) where its images stand in the table
    ids: dict[str, pa.ChunkedArray]  # role -> image_ids, in the order of the table
    out_of_bag: np.ndarray  # (n, B) bool: the attackers that never saw each auxiliary image
    calibrates: np.ndarray  # (n,) bool: the auxiliary images that p-values come from

    @classmethod
    def open(cls, path: Path) -> Self:
        """Raises InputError for a missing or damaged table."""
        bag = read_metadata(path)["bag"]
        rows = read_table(path, ["image_id", "role", "out_of_bag", "calibrates"])
        roles = rows.column("role").to_numpy()
        places = {str(role): np.flatnonzero(roles == role) for role in dict.fromkeys(roles)}
        ids = {role: rows.column("image_id").take(pa.array(place)) for role, place in places.items()}
        auxiliary = rows.filter(pa.array(roles == "auxiliary"))
        return cls(
            path, bag, places, ids, list_values(auxiliary, "out_of_bag"), auxiliary.column("calibrates").to_numpy()
        )

    def read(self, score: str, what: str = "z") -> Roles:
        """Role -> (N, B) float64 of one score; no rows for a role without images.  what : or "log_scale".

        Raises InputError where attackers predict no scale.
        """
        name = f"{score}.{what}"
        if name not in column_names(self.path):
            raise InputError(f"{self.path}: has no column {name}: its attackers predict quantiles, not a scale")
        values = list_values(read_table(self.path, [name]), name)
        of_roles = {role: values[place].astype(np.float64) for role, place in self.rows.items()}
        return {"member": np.empty((0, values.shape[1])), **of_roles}

    def judge(self, z: Roles, units: np.ndarray | None = None) -> AttackResult:
        """The result of members and holdout images.

        z : role -> (N, B), one number an image and attacker.  units : (n,) of the auxiliary images.
        """
        others = {role: values for role, values in z.items() if role != "auxiliary"}
        return judge(others, z["auxiliary"], self.out_of_bag, self.calibrates, units)

    def check_images(self, role: str, ids: pa.ChunkedArray, table: Path) -> None:
        """Raises InputError if it is of other images than `table`, whose image_ids these are."""
        if not self.ids.get(role, ids[:0]).cast(pa.string()).equals(ids.cast(pa.string())):
            raise InputError(f"{self.path}: its {role} image_ids do not match {table}: run `dvc repro`")
