"""fit: learn from auxiliary non-members how their score depends on their image, as a bag of bootstrap attackers.

The stage is handed auxiliary images and scores only: it cannot look at members or holdout.

data/roles/<target>/auxiliary.parquet, data/scores/<target>/auxiliary.parquet -> models/quantile/<target>/<learner>/
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import NonNegativeInt, PositiveInt

from stages.command import InputError, run
from stages.files import file_hash, place_folder
from stages.params import PARAMS, Options, entry, key_name, section
from stages.quantile.bag import Bag, Learner, fit_bag, out_of_bag, save_bag
from stages.resume import resumable
from stages.tables import decode_images, log_scores, read_metadata, read_table, write_table

FEWEST = 50  # auxiliary images that a bag can be fitted on


class Fit(Options):
    """Section `fit`: what all learners share."""

    score: str  # the score column that the attackers learn
    bag_size: PositiveInt
    seed: NonNegativeInt


def fit(target: str, learner: str) -> None:
    """Write models/quantile/<target>/<learner>: bag.json, out_of_bag.parquet and the attackers' weights."""
    options = section("fit", Fit, target)
    learner_options = entry("learners", learner, Learner).root
    images, scores = (Path(f"data/{folder}/{target}/auxiliary.parquet") for folder in ("roles", "scores"))
    rows, values = _read_auxiliary(images, scores, options.score, key_name("fit", "score", target))
    ids = rows.column("image_id").to_pylist()
    config = [options.model_dump(), learner_options.model_dump()]
    with resumable(f"fit@{target}-{learner}", config, [images, scores]) as folder:
        made = folder / "bag"
        made.mkdir(exist_ok=True)
        attackers = fit_bag(decode_images(rows), values, learner_options, options.bag_size, options.seed)
        unseen = out_of_bag(rows.column("sha256").to_pylist(), options.seed, options.bag_size)  # (N, B)
        write_table(made / "out_of_bag.parquet", pa.table({"image_id": ids, "out_of_bag": list(unseen)}), {})
        description = {
            "learner": learner,
            "options": learner_options.model_dump(),
            **options.model_dump(),
            "scores": [options.score],
            "auxiliary": len(ids),
            "out_of_bag_sha256": file_hash(made / "out_of_bag.parquet"),
            "target_sha256": read_metadata(scores)["target_sha256"],
        }
        save_bag(Bag(made, description, attackers))
        place_folder(made, Path(f"models/quantile/{target}/{learner}"))


def _read_auxiliary(images: Path, scores: Path, column: str, key: str) -> tuple[pa.Table, np.ndarray]:
    """The auxiliary images, and their log scores (N,) float64.  key : where `column` stands in params.yaml.

    Raises InputError for an unknown column, too few images, tables of different images, or scores without a log.
    """
    known = list(read_metadata(scores)["columns"])
    if column not in known:
        raise InputError(f"{PARAMS}: {key}: no score column '{column}'; there are {', '.join(known)}")
    rows, scored = read_table(images), read_table(scores, ["image_id"])
    distinct = pc.count_distinct(rows.column("sha256")).as_py()
    if distinct < FEWEST:
        raise InputError(
            f"{images}: {distinct} distinct auxiliary images; a bag needs at least {FEWEST} (split.auxiliary)"
        )
    if rows.column("image_id") != scored.column("image_id"):
        raise InputError(f"{scores}: scores other images than {images} holds: run `dvc repro`")
    return rows, log_scores(scores, column)


if __name__ == "__main__":
    run(
        fit,
        target="a name in the `targets` registry of params.yaml",
        learner="a name in the `learners` registry of params.yaml",
    )
