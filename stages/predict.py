"""predict: apply a bag to the images of every role.

What comes out depends on the images alone; `evaluate` holds it against the scores.  Auxiliary images carry the mask
of the attackers that never saw them, and whether they calibrate; no attacker saw the others.

models/quantile/<target>/<learner>/, data/{roles,features}/<target>/*.parquet
-> data/predictions/<target>/<learner>.parquet
"""

from pathlib import Path

import numpy as np
import pyarrow as pa

from leakgauge.cli import run
from leakgauge.errors import InputError
from leakgauge.files import resumable
from leakgauge.quantile.bag import ATTACKERS, Bag, predict_all
from leakgauge.quantile.base import LEVELS
from leakgauge.quantile.inputs import read_inputs
from leakgauge.tables import ROLES, list_column, list_values, read_table, write_table


def predict(target: str, learner: str) -> None:
    """Write data/predictions/<target>/<learner>.parquet."""
    bag = Bag.open(Path(f"models/quantile/{target}/{learner}"))
    roles = [role for role in ROLES if _some(target, role)]
    inputs = [Path(f"data/{folder}/{target}/{role}.parquet") for folder in ("roles", "features") for role in roles]
    with resumable(f"predict@{target}-{learner}", [], [bag.folder, *inputs]) as folder:
        tables = [_predict_role(bag, target, role, folder) for role in roles]
    metadata = {"target": target, "learner": learner, "levels": LEVELS, "bag": bag.description}
    write_table(Path(f"data/predictions/{target}/{learner}.parquet"), pa.concat_tables(tables), metadata)


def _some(target: str, role: str) -> bool:
    """Whether there are images of the role; perhaps no member is known."""
    return read_table(Path(f"data/roles/{target}/{role}.parquet"), ["image_id"]).num_rows > 0


def _predict_role(bag: Bag, target: str, role: str, folder: Path) -> pa.Table:
    """One row an image of the role; for each learnt score a list over the attackers of what they predict."""
    images, features = (Path(f"data/{folder}/{target}/{role}.parquet") for folder in ("roles", "features"))
    ids = read_table(images, ["image_id"]).column("image_id").to_pylist()
    if read_table(features, ["image_id"]).column("image_id").to_pylist() != ids:
        raise InputError(f"{features}: its image_ids do not match {images}: run `dvc repro`")
    inputs = read_inputs(images, features, ATTACKERS[bag.options.kind].needs_pixels, folder)
    columns = predict_all(bag, inputs, role)
    out_of_bag, calibrates = _masks(bag, ids, images) if role == "auxiliary" else _never_seen(bag, len(ids))
    named = {name: list_column(values) for name, values in columns.items()}
    facts = {"image_id": pa.array(ids), "role": pa.array([role] * len(ids))}
    return pa.table(facts | {"out_of_bag": list_column(out_of_bag), "calibrates": pa.array(calibrates)} | named)


def _masks(bag: Bag, ids: list[str], images: Path) -> tuple[np.ndarray, np.ndarray]:
    """out_of_bag (N, B) and calibrates (N,) of the auxiliary images."""
    mask = read_table(bag.folder / "out_of_bag.parquet")
    if mask.column("image_id").to_pylist() != ids:
        raise InputError(f"{bag.folder}: was fitted on other images than {images} holds: run `dvc repro`")
    return list_values(mask, "out_of_bag"), mask.column("calibrates").to_numpy()


def _never_seen(bag: Bag, count: int) -> tuple[np.ndarray, np.ndarray]:
    return np.ones((count, bag.description["bag_size"]), dtype=bool), np.zeros(count, dtype=bool)


if __name__ == "__main__":
    run(
        predict,
        target="a name in the `targets` registry of params.yaml",
        learner="a name in the `learners` registry of params.yaml",
    )
