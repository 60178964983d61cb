"""fit: learn from auxiliary non-members how their score depends on their image, as a bag of bootstrap attackers.

The stage is handed auxiliary images and scores only: it cannot look at members or holdout.

data/roles/<target>/auxiliary.parquet, data/scores/<target>/auxiliary.parquet -> models/quantile/<target>/<learner>/
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
from pydantic import NonNegativeInt, PositiveInt

from stages.command import InputError, run
from stages.files import file_hash, place_folder
from stages.params import PARAMS, Options, entry, section
from stages.quantile.bag import Bag, Learner, fit_bag, out_of_bag, save_bag
from stages.resume import resumable
from stages.tables import decode_images, read_metadata, read_table, write_table

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
    ids, pixels, log_scores = read_auxiliary(images, scores, options.score)
    config = [options.model_dump(), learner_options.model_dump()]
    with resumable(f"fit@{target}-{learner}", config, [images, scores]) as folder:
        made = folder / "bag"
        made.mkdir(exist_ok=True)
        attackers = fit_bag(pixels, log_scores, learner_options, options.bag_size, options.seed)
        unseen = out_of_bag(len(ids), options.seed, options.bag_size)  # (N, B)
        write_table(made / "out_of_bag.parquet", pa.table({"image_id": ids, "out_of_bag": list(unseen)}), {})
        description = {
            "learner": learner,
            "options": learner_options.model_dump(),
            **options.model_dump(),
            "auxiliary": len(ids),
            "out_of_bag_sha256": file_hash(made / "out_of_bag.parquet"),
            "target_sha256": read_metadata(scores)["target_sha256"],
        }
        save_bag(Bag(made, description, attackers))
        place_folder(made, Path(f"models/quantile/{target}/{learner}"))


def read_auxiliary(images: Path, scores: Path, column: str) -> tuple[list[str], np.ndarray, np.ndarray]:
    """ids, pixels (N, C, H, W) uint8 and log scores (N,) float64 of the auxiliary images.

    Raises InputError for an unknown column, too few images, tables of different images, or scores without a log.
    """
    known = list(read_metadata(scores)["columns"])
    if column not in known:
        raise InputError(f"{PARAMS}: fit.score: no score column '{column}'; there are {', '.join(known)}")
    rows, scored = read_table(images), read_table(scores, ["image_id", column])
    ids = rows.column("image_id").to_pylist()
    if len(ids) < FEWEST:
        raise InputError(f"{images}: {len(ids)} auxiliary images; a bag needs at least {FEWEST} (split.auxiliary)")
    if ids != scored.column("image_id").to_pylist():
        raise InputError(f"{scores}: scores other images than {images} holds: run `dvc repro`")
    values = scored.column(column).to_numpy()
    if not (np.isfinite(values) & (values > 0)).all():
        raise InputError(f"{scores}: column {column} has scores that are not positive and finite")
    return ids, decode_images(rows), np.log(values)


if __name__ == "__main__":
    run(
        fit,
        target="a name in the `targets` registry of params.yaml",
        learner="a name in the `learners` registry of params.yaml",
    )
