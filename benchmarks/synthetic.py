"""An audit's tables of any size, drawn at random: what `evaluate` reads, without a model behind it.

Images differ in how hard they are, members' scores are lower by `SHIFT`, and each attacker knows an image's difficulty
up to an error of its own.  Tables are written a row group at a time: this never needs more memory than one.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
from ruamel.yaml import YAML
from scipy.stats import norm

from leakgauge.quantile.base import LEVELS
from leakgauge.tables import ROLES, ROW_GROUP, list_column, write_pieces, write_table

REPOSITORY = Path(__file__).parent.parent
TARGET = "synthetic"
SHIFT, NOISE, ERROR = 0.7, 0.5, 0.2  # in log scores
SCORES = ("t_error_t10", "t_error_t20", "t_error_t30")


@dataclass(frozen=True)
class Bag:
    """A learner's bag: B attackers, what they predict, and how many of `SCORES` they learnt."""

    head: Literal["location_scale", "quantiles"]
    size: int
    scores: int


def write_audit(folder: Path, images: int, learners: dict[str, Bag], seed: int = 0) -> None:
    """Write params.yaml and the tables that `evaluate` reads, for the target `TARGET`.

    images : of all roles together; members and holdout a quarter each, auxiliary images the rest.
    """
    counts = {"member": images // 4, "auxiliary": images - 2 * (images // 4), "holdout": images // 4}
    _write_params(folder, list(learners))
    data = folder / "data"
    for role, count in counts.items():
        facts = {"target": TARGET, "role": role, "target_sha256": "synthetic", "columns": dict.fromkeys(SCORES)}
        write_pieces(data / f"scores/{TARGET}/{role}.parquet", _scores(role, count, seed), facts)
    write_pieces(data / f"features/{TARGET}/holdout.parquet", _features(counts["holdout"], seed), {})
    nothing = {name: pa.array([], pa.string()) for name in ("image_id", "role")}
    write_table(data / f"selection/{TARGET}.parquet", pa.table(nothing), {})
    write_table(data / f"stacks/{TARGET}.parquet", pa.table(nothing), {"bag": None})
    for name, bag in learners.items():
        scores = list(SCORES[: bag.scores])
        described = {"target_sha256": "synthetic", "bag_size": bag.size, "score": scores[0], "scores": scores}
        described |= {"options": {"kind": name}}
        facts = {"target": TARGET, "learner": name, "levels": LEVELS, "bag": described}
        pieces = (piece for role, count in counts.items() for piece in _predictions(role, count, bag, seed))
        write_pieces(data / f"predictions/{TARGET}/{name}.parquet", pieces, facts)


def _write_params(folder: Path, learners: list[str]) -> None:
    params = YAML(typ="safe").load((REPOSITORY / "params.yaml").read_text(encoding="utf-8"))
    params["targets"] = {TARGET: next(iter(params["targets"].values()))}
    params["learners"] = {name: {} for name in learners}
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "params.yaml").open("w", encoding="utf-8") as stream:
        YAML().dump(params, stream)


def _pieces(role: str, count: int, seed: int) -> Iterator[tuple[list[str], np.ndarray, np.random.Generator]]:
    """Of each row group its image_ids, how hard its images are, and a generator of its own."""
    for start in range(0, count, ROW_GROUP):
        rng = np.random.default_rng([seed, ROLES.index(role), start])
        rows = range(start, min(start + ROW_GROUP, count))
        yield [f"{role}-{row:07d}" for row in rows], rng.standard_normal(len(rows)), rng


def _scores(role: str, count: int, seed: int) -> Iterator[pa.Table]:
    for ids, difficulty, rng in _pieces(role, count, seed):
        level = difficulty - SHIFT * (role == "member")
        values = np.exp(level[:, None] + NOISE * rng.standard_normal((len(ids), len(SCORES))))
        yield pa.table({"image_id": ids} | {name: values[:, i] for i, name in enumerate(SCORES)})


def _features(count: int, seed: int) -> Iterator[pa.Table]:
    for ids, difficulty, rng in _pieces("holdout", count, seed):
        labels = pa.array(rng.integers(0, 10, len(ids)))
        yield pa.table({"image_id": ids, "label": labels, "compressed_bits": difficulty.astype(np.float32)})


def _predictions(role: str, count: int, bag: Bag, seed: int) -> Iterator[pa.Table]:
    for ids, difficulty, rng in _pieces(role, count, seed):
        shape = (len(ids), bag.size)
        out_of_bag = rng.random(shape) < 0.37 if role == "auxiliary" else np.ones(shape, dtype=bool)
        calibrates = np.full(len(ids), role == "auxiliary")
        facts = {"image_id": ids, "role": [role] * len(ids)}
        columns = {"out_of_bag": list_column(out_of_bag), "calibrates": pa.array(calibrates)}
        for score in SCORES[: bag.scores]:
            location = difficulty[:, None] + ERROR * rng.standard_normal(shape)
            if bag.head == "quantiles":
                quantiles = location[..., None] + NOISE * norm.ppf(LEVELS)
                columns[f"{score}.quantiles"] = list_column(quantiles.reshape(len(ids), -1))
            else:
                columns[f"{score}.location"] = list_column(location)
                columns[f"{score}.scale"] = list_column(np.full(shape, NOISE))
        yield pa.table(facts | columns)
