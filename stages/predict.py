"""predict: the scores of every role's images under a bag: z-scores, one an image, attacker and score.

Auxiliary images carry the mask of the attackers that never saw them, and whether they calibrate; no attacker saw the
others.

models/quantile/<target>/<learner>/, data/{roles,features,scores}/<target>/*.parquet
-> data/z/<target>/<learner>.parquet
"""

from pathlib import Path

import numpy as np
import pyarrow as pa

from leakgauge.cli import run
from leakgauge.errors import InputError
from leakgauge.files import resumable
from leakgauge.quantile.bag import Bag, attacker_class, z_columns
from leakgauge.quantile.inputs import read_inputs
from leakgauge.tables import (
    ROLES,
    check_computed_on,
    check_target,
    list_column,
    list_values,
    log_scores,
    read_ids,
    read_table,
    write_table,
)


def predict(target: str, learner: str) -> None:
    """Write data/z/<target>/<learner>.parquet."""
    bag = Bag.open(Path(f"models/quantile/{target}/{learner}"))
    roles = [role for role in ROLES if len(read_ids(Path(f"data/roles/{target}/{role}.parquet")))]  # perhaps no member
    inputs = [
        Path(f"data/{kind}/{target}/{role}.parquet") for kind in ("roles", "features", "scores") for role in roles
    ]
    with resumable(f"predict@{target}-{learner}", [], [bag.folder, *inputs]) as folder:
        tables = [_of_role(bag, target, role, folder) for role in roles]
    metadata = {"target": target, "learner": learner, "bag": bag.description}
    write_table(Path(f"data/z/{target}/{learner}.parquet"), pa.concat_tables(tables), metadata)


def _of_role(bag: Bag, target: str, role: str, folder: Path) -> pa.Table:
    """One row an image of the role; for each learnt score a list over the attackers."""
    images, features, scores = (
        Path(f"data/{kind}/{target}/{role}.parquet") for kind in ("roles", "features", "scores")
    )
    check_target(scores, bag.description["target_sha256"], bag.folder)
    check_computed_on(scores, bag.description, bag.folder)
    ids = read_ids(images).to_pylist()
    for path in (features, scores):
        if read_ids(path).to_pylist() != ids:
            raise InputError(f"{path}: its image_ids do not match {images}: run `dvc repro`")
    learnt, needs_pixels = bag.description["scores"], attacker_class(bag.options.kind).needs_pixels
    inputs = read_inputs(images, features, scores, learnt, needs_pixels, folder)
    observed = np.stack([log_scores(scores, column) for column in learnt], axis=1)  # (N, S)
    columns = {name: list_column(values) for name, values in z_columns(bag, inputs, observed, role).items()}
    out_of_bag, calibrates = _masks(bag, ids, images) if role == "auxiliary" else _never_seen(bag, len(ids))
    facts = {"image_id": pa.array(ids), "role": pa.array([role] * len(ids))}
    return pa.table(facts | {"out_of_bag": list_column(out_of_bag), "calibrates": pa.array(calibrates)} | columns)


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
