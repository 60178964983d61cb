"""predict: apply a bag to the images of every role.

What comes out depends on the images alone; `evaluate` holds it against the scores.  Auxiliary images carry the mask
of the attackers that never saw them; no attacker saw the others.

models/quantile/<target>/<learner>/, data/roles/<target>/*.parquet -> data/predictions/<target>/<learner>.parquet
"""

from pathlib import Path

import numpy as np
import pyarrow as pa

from stages.command import InputError, run
from stages.quantile.bag import Bag, load_bag
from stages.quantile.predictions import LEVELS
from stages.tables import ROLES, decode_images, read_table, write_table


def predict(target: str, learner: str) -> None:
    """Write data/predictions/<target>/<learner>.parquet."""
    bag = load_bag(Path(f"models/quantile/{target}/{learner}"))
    tables = [_predict_role(bag, Path(f"data/roles/{target}/{role}.parquet"), role) for role in ROLES]
    metadata = {"target": target, "learner": learner, "levels": LEVELS, "bag": bag.description}
    write_table(Path(f"data/predictions/{target}/{learner}.parquet"), pa.concat_tables(tables), metadata)


def _predict_role(bag: Bag, path: Path, role: str) -> pa.Table:
    """One row an image of the role, with a list over the attackers for each thing they predict."""
    images = read_table(path)
    ids = images.column("image_id").to_pylist()
    pixels = decode_images(images)  # (N, C, H, W)
    unseen = np.ones((len(ids), len(bag.attackers)), dtype=bool)
    if role == "auxiliary":
        mask = read_table(bag.folder / "out_of_bag.parquet")
        if mask.column("image_id").to_pylist() != ids:
            raise InputError(f"{bag.folder}: was fitted on other images than {path} holds: run `dvc repro`")
        unseen = np.stack(mask.column("out_of_bag").to_numpy())
    predicted = [attacker.predict(pixels).columns() for attacker in bag.attackers]
    columns = {name: np.concatenate([of[name] for of in predicted], axis=1) for name in predicted[0]}
    if not all(np.isfinite(values).all() for values in columns.values()):
        raise InputError(f"{bag.folder}: predicts NaN or inf for {path}: its fit diverged; a lower learning_rate helps")
    table = {
        "image_id": pa.array(ids),
        "role": pa.array([role] * len(ids)),
        "out_of_bag": _lists(unseen),
        "calibrates": pa.array([role == "auxiliary"] * len(ids)),
    }
    score = bag.description["score"]
    return pa.table(table | {f"{score}.{name}": _lists(values) for name, values in columns.items()})


def _lists(rows: np.ndarray) -> pa.Array:
    """(N, L) as N lists of fixed size L."""
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows.shape[1])


if __name__ == "__main__":
    run(
        predict,
        target="a name in the `targets` registry of params.yaml",
        learner="a name in the `learners` registry of params.yaml",
    )
