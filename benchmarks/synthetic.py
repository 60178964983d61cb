"""An audit's tables of any size, drawn at random: what `evaluate` reads, without a model behind it.

Images differ in how hard they are, members' scores are lower by `SHIFT`, and each attacker knows an image's difficulty
up to an error of its own.  Large tables are written a row group at a time: this never needs more memory than one.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from ruamel.yaml import YAML

from leakgauge.attacks.columns import NETWORK_COLUMNS
from leakgauge.files import write_json
from leakgauge.options import RoleLeaks
from leakgauge.scoring import NULL_IMAGES
from leakgauge.tables import ROLES, ROW_GROUP, list_column, write_pieces, write_table
from stages.config import config

REPOSITORY = Path(__file__).parent.parent
TARGET = "synthetic"
SHIFT, NOISE, ERROR = 0.7, 0.5, 0.2  # in log scores
SCORES = ("t_error_t10", "t_error_t20", "t_error_t30")


@dataclass(frozen=True)
class Bag:
    """A learner's bag: B attackers, and what they predict."""

    head: Literal["location_scale", "quantiles"]
    size: int


def write_audit(folder: Path, images: int, learners: dict[str, Bag], scores: int = 1, seed: int = 0) -> None:
    """Write params.yaml and the tables that `evaluate` reads, for the target `TARGET`.

    images : of all roles together; members and holdout a quarter each, auxiliary images the rest.
    scores : how many of `SCORES` were learnt.
    """
    learnt = list(SCORES[:scores])
    counts = {"member": images // 4, "auxiliary": images - 2 * (images // 4), "holdout": images // 4}
    _write_options(folder, list(learners))
    data = folder / "data"
    for role, count in counts.items():
        facts = {"target": TARGET, "role": role, "target_sha256": "synthetic", "moved_by_precision": 0.0}
        write_pieces(data / f"scores/{TARGET}/{role}.parquet", _scores(role, count, seed), facts)
        names = (pa.table({"image_id": ids}) for ids, *_ in _pieces(role, count, seed))
        write_pieces(data / f"roles/{TARGET}/{role}.parquet", names, facts)
        write_table(data / f"null/{TARGET}/{role}.parquet", _null_scores(role, min(count, NULL_IMAGES), seed), facts)
    write_pieces(data / f"features/{TARGET}/holdout.parquet", _features(counts["holdout"], seed), {})
    for name, bag in learners.items():
        described = {"target_sha256": "synthetic", "bag_size": bag.size, "scores": learnt}
        described |= {"options": {"kind": name}, "out_of_bag_loss": 0.1}
        pieces = (piece for role, count in counts.items() for piece in _z(role, count, bag, learnt, seed))
        facts = {"target": TARGET, "learner": name, "bag": described}
        write_pieces(data / f"z/{TARGET}/{name}.parquet", pieces, facts)


def _write_options(folder: Path, learners: list[str]) -> None:
    """Those of params.yaml, for some of its learners and no stack of them; and no check that fails."""
    params = YAML(typ="safe").load((REPOSITORY / "params.yaml").read_text(encoding="utf-8"))
    params["targets"] = {TARGET: next(iter(params["targets"].values()))}
    params["learners"] = {name: params["learners"][name] for name in learners}
    params["evaluate"]["stack"] = []
    write_options(folder, params)
    write_json(
        folder / f"metrics/checks/{TARGET}.json", {"checks": 0, "fails": 0, "near_duplicates": 0, "level": 0.001}
    )


def write_options(folder: Path, params: dict[str, Any]) -> None:
    """params.yaml, and of each target what stage `config` writes, and what `check` does where nothing tells roles."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "params.yaml").open("w", encoding="utf-8") as stream:
        YAML().dump(params, stream)
    with contextlib.chdir(folder), contextlib.redirect_stdout(None):
        for target in params["targets"]:
            config(target)
            write_json(Path(f"data/checks/{target}.json"), RoleLeaks(seed=0, leaks={}).model_dump())


def _pieces(role: str, count: int, seed: int) -> Iterator[tuple[list[str], np.ndarray, np.random.Generator]]:
    """Of each row group its image_ids, how hard its images are, and a generator of its own."""
    for start in range(0, count, ROW_GROUP):
        rng = np.random.default_rng([seed, ROLES.index(role), start])
        rows = range(start, min(start + ROW_GROUP, count))
        yield [f"{role}-{row:07d}" for row in rows], rng.standard_normal(len(rows)), rng


def _log_scores(role: str, difficulty: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(n, columns); the first that is drawn of a row group, and so the same wherever it is asked for."""
    level = difficulty - SHIFT * (role == "member")
    return level[:, None] + NOISE * rng.standard_normal((len(difficulty), len(SCORES)))


def _scores(role: str, count: int, seed: int) -> Iterator[pa.Table]:
    for ids, difficulty, rng in _pieces(role, count, seed):
        values = np.exp(_log_scores(role, difficulty, rng))
        yield pa.table({"image_id": ids} | {name: values[:, i] for i, name in enumerate(SCORES)})


def _null_scores(role: str, count: int, seed: int) -> pa.Table:
    ids, _, rng = next(_pieces(role, count, seed))
    return pa.table({"image_id": ids} | {name: rng.lognormal(size=count) for name in NETWORK_COLUMNS})


def _features(count: int, seed: int) -> Iterator[pa.Table]:
    for ids, difficulty, rng in _pieces("holdout", count, seed):
        labels = pa.array(rng.integers(0, 10, len(ids)))
        yield pa.table({"image_id": ids, "label": labels, "compressed_bits": difficulty.astype(np.float32)})


def _z(role: str, count: int, bag: Bag, learnt: list[str], seed: int) -> Iterator[pa.Table]:
    for ids, difficulty, rng in _pieces(role, count, seed):
        observed, shape = _log_scores(role, difficulty, rng), (len(ids), bag.size)
        out_of_bag = rng.random(shape) < 0.37 if role == "auxiliary" else np.ones(shape, dtype=bool)
        calibrates = np.full(len(ids), role == "auxiliary")
        facts = {"image_id": ids, "role": [role] * len(ids)}
        columns = {"out_of_bag": list_column(out_of_bag), "calibrates": pa.array(calibrates)}
        for i, score in enumerate(learnt):
            location = difficulty[:, None] + ERROR * rng.standard_normal(shape)
            columns[f"{score}.z"] = list_column(((observed[:, [i]] - location) / NOISE).astype(np.float32))
            if bag.head == "location_scale":
                columns[f"{score}.log_scale"] = list_column(np.full(shape, np.log(NOISE), dtype=np.float32))
        yield pa.table(facts | columns)
