"""score: every attack's score of every image of one role, under the target.  Lower means more member-like.

The images are read shard by shard, and each shard is on disk as soon as it is scored; a run that was killed goes on
after its last one.  Where a target is no more than scores from elsewhere, these are taken as they are.

models/target/<target>/, data/tuning/<target>.json, data/roles/<target>/<role>.parquet
-> data/scores/<target>/<role>.parquet
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from tqdm import tqdm

from leakgauge.attacks.registry import Score
from leakgauge.cli import run
from leakgauge.cluster import score_on_cluster
from leakgauge.compute import best_device, computed_on
from leakgauge.config import PARAMS, section, target_entry
from leakgauge.diffusion.denoiser import Shortcuts
from leakgauge.errors import InputError
from leakgauge.files import file_hash, resumable
from leakgauge.scoring import Job, Scorer, Shards, score_here
from leakgauge.tables import read_table, write_table

Columns = dict[str, dict[str, str | int]]  # name -> definition and network calls an image


def score(target: str, role: str) -> None:
    """Write data/scores/<target>/<role>.parquet."""
    options = section("score", Score, target)
    if "engine" in target_entry(target).score:
        raise InputError(
            f"{PARAMS}: targets.{target}.score.engine: set it in section `score`: DVC watches a target's entry, and "
            "would compute its scores again for another engine"
        )
    model, images = Path(f"models/target/{target}"), Path(f"data/roles/{target}/{role}.parquet")
    if target_entry(target).source == "scores":
        given = model / ("suspects.parquet" if role == "suspect" else "scores.parquet")
        _write(target, role, *_as_given(given, images))
        return
    tuning = Path(f"data/tuning/{target}.json")
    job = Job(target, model, images, options, _shortcuts(tuning))
    device = best_device() if options.engine == "local" else torch.device("cpu")  # the GPUs are the cluster's
    scorer, columns = Scorer(job, device), options.attacks.columns()
    config = options.model_dump(exclude={"engine"})
    config |= {"batch_size": scorer.batch_size, "computed_on": computed_on(device)}
    with resumable(f"score@{target}-{role}", config, [model, images, tuning]) as folder:
        shards = Shards(folder, scorer.starts)
        scores = _score(scorer, role, shards)
        ids = read_table(images, ["image_id"]).column("image_id").to_pylist()
        _write(target, role, _table(model, ids, scores, list(columns)), columns, job.shortcuts, shards.computed_on)


def _shortcuts(tuning: Path) -> Shortcuts:
    """What `tune` decided.  Raises InputError."""
    try:
        return Shortcuts.model_validate_json(tuning.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        raise InputError(f"{tuning}: not there, or not what `tune` wrote: run `dvc repro` to make it") from None


def _score(scorer: Scorer, role: str, shards: Shards) -> np.ndarray:
    """The scores of all images, (N, columns) float64; shards that are there are read back."""
    options = scorer.job.options
    if missing := shards.missing:
        left = sum(min(options.shard, len(scorer) - start) for start in missing)
        done = {"total": len(scorer), "initial": len(scorer) - left}
        with tqdm(desc=f"score {role}", unit="image", disable=None, **done) as bar:
            if options.engine == "ray":
                score_on_cluster(scorer.job, missing, shards.save, bar)
            else:
                score_here(scorer, missing, shards.save, bar)
    return np.concatenate([np.empty((0, len(options.attacks.columns()))), *shards.read()])


def _as_given(given: Path, images: Path) -> tuple[pa.Table, Columns]:
    """The rows of a file of scores for the images of a role, in their order, and what its columns are."""
    table, ids = read_table(given), read_table(images, ["image_id"]).column("image_id")
    rows = pc.index_in(ids, value_set=table.column("image_id").combine_chunks())
    if rows.null_count:
        raise InputError(f"{given}: has no scores of {rows.null_count} images of {images}: run `dvc repro`")
    columns: Columns = {name: {"definition": "as given", "network_calls": 0} for name in table.column_names[1:]}
    return table.take(rows), columns


def _write(
    target: str,
    role: str,
    scores: pa.Table,
    columns: Columns,
    shortcuts: Shortcuts | None = None,
    place: dict[str, str] | None = None,
) -> None:
    """place : what they were computed on; None for scores from elsewhere, and where there are no images."""
    model = Path(f"models/target/{target}")
    known = model / "scores.parquet"  # of a target that is no more than scores: new suspects do not make it another
    target_sha256 = file_hash(known if known.exists() else model)
    taken = shortcuts.model_dump() if shortcuts else None
    metadata = {
        "target": target,
        "role": role,
        "target_sha256": target_sha256,
        "columns": columns,
        "shortcuts": taken,
        "computed_on": place,
    }
    write_table(Path(f"data/scores/{target}/{role}.parquet"), scores, metadata)


def _table(model: Path, ids: list[str], scores: np.ndarray, columns: list[str]) -> pa.Table:
    """One row an image.  Raises InputError if a score is not finite."""
    bad = np.argwhere(~np.isfinite(scores))
    if len(bad):
        row, column = bad[0]
        raise InputError(
            f"{model}: {len(bad)} scores are NaN or inf, the first is {columns[column]} of image {ids[row]}: "
            "the network overflows on it"
        )
    return pa.table({"image_id": ids, **{name: scores[:, i] for i, name in enumerate(columns)}})


if __name__ == "__main__":
    run(score, target="a name in the `targets` registry of params.yaml", role="member, auxiliary, holdout or suspect")
