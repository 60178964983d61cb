"""Score the images of one table, shard by shard; each shard is on disk as soon as it is scored."""

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from tqdm import tqdm

from leakgauge.attacks.columns import NETWORK_COLUMNS, NETWORKS, beside_base, score_columns, with_base
from leakgauge.attacks.given import Outputs
from leakgauge.attacks.scorer import Job, Scorer, moved_by_precision, null_column, precision_asked
from leakgauge.cluster import Save, score_on_cluster
from leakgauge.compute import best_device, computed_on
from leakgauge.config import PARAMS, asked, key_name, section, source_of
from leakgauge.diffusion.comparable import difference
from leakgauge.diffusion.denoiser import PLAIN
from leakgauge.draws import drawn_by_name
from leakgauge.errors import InputError
from leakgauge.files import file_hash, npy, resumable, write_bytes
from leakgauge.options import RoleLeaks, Score
from leakgauge.tables import read_table, write_table

NULL_IMAGES = 300  # of a table, at most, that are scored under untrained networks too


class Shards:
    """The scores of a role's shards in a folder.  starts : of the shards, in order."""

    def __init__(self, folder: Path, starts: range) -> None:
        self.folder, self.starts = folder, starts

    @property
    def missing(self) -> list[int]:
        """Where the shards start that are not there yet."""
        return [start for start in self.starts if not self._path(start).exists()]

    @property
    def computed_on(self) -> dict[str, str] | None:
        """What all shards were computed on, see `leakgauge.compute`; None if there is none yet."""
        known = self.folder / "computed_on.json"
        return json.loads(known.read_text(encoding="utf-8")) if known.exists() else None

    def save(self, start: int, scores: bytes, computed_on: dict[str, str]) -> None:
        """scores : the bytes of a .npy file.  Raises InputError where other shards were computed on something else."""
        known = self.computed_on
        if known is None:
            write_bytes(self.folder / "computed_on.json", json.dumps(computed_on).encode())
        elif known != computed_on:
            raise InputError(
                f"{self.folder}: images scored with {_said(known)} and with {_said(computed_on)}: a cluster needs "
                "nodes of one kind; remove the folder to start afresh"
            )
        write_bytes(self._path(start), scores)

    def read(self) -> list[np.ndarray]:
        """The scores of every shard, (B, columns) float64."""
        return [np.load(self._path(start), allow_pickle=False) for start in self.starts]

    def _path(self, start: int) -> Path:
        return self.folder / f"{start:09d}.npy"


def _said(computed_on: dict[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in computed_on.items())


def score_here(scorer: Scorer, starts: Sequence[int], save: Save, bar: tqdm) -> None:
    """Score the shards that start there, and save each as it is done."""
    with ThreadPoolExecutor(1) as ahead:
        reading = [ahead.submit(scorer.read, start) for start in starts[:1]]
        for start, after in zip(starts, [*starts[1:], None], strict=True):
            shard = reading.pop().result()
            if after is not None:
                reading.append(ahead.submit(scorer.read, after))
            save(start, npy(scorer.score(shard, bar.update)), computed_on(scorer.denoiser.device))


def score_options(target: str) -> Score:
    """Section `score`, its backend straight from params.yaml: no part of what scores are, so DVC does not watch it."""
    backend = asked("score", Score, target).backend
    return section("score", Score, target).model_copy(update={"backend": backend})


def score_table(run: str, job: Job, out: Outputs, role_leaks: RoleLeaks) -> None:
    """Score every image of `job.images`, and some of them under untrained networks; go on where a killed run stopped.

    run : DVC's name of the run.  Raises InputError, also where labels or captions that the target is conditioned on
    give the role away, or its precision moves a score too far.
    """
    options, local = job.options, job.options.backend == "local"
    device = best_device() if local else torch.device("cpu")  # the GPUs are the cluster's
    scorer, columns, null_seed = Scorer(job, device), score_columns(options.attacks), role_leaks.seed
    under = _under_base(scorer) if job.base else None
    both = [scorer, under] if under else [scorer]
    conditioned_on, *_ = [_conditioned_on(one, role_leaks) for one in both]
    moved = max(moved_by_precision(one) for one in both)
    precision = {name: getattr(options, name) for name in type(PLAIN).model_fields}
    if not moved <= options.tolerance:
        raise InputError(
            f"{PARAMS}: a score moves by {moved:.2g} of itself with {precision_asked(job)}, "
            f"which is more than {key_name('score', 'tolerance', job.target)}: {options.tolerance:g}"
        )
    config = options.model_dump(exclude={"backend"})
    config |= {"batch_size": scorer.batch_size, "computed_on": computed_on(device), "null_seed": null_seed}
    ids = read_table(job.images, ["image_id"]).column("image_id").to_pylist()
    with resumable(run, config, [*job.models, job.images]) as folder:
        shards = Shards(folder, scorer.starts)
        scores = _score_missing(scorer, shards, run)
        drawn = np.sort(np.argsort(drawn_by_name(ids, null_seed), kind="stable")[:NULL_IMAGES])
        by_null = scorer.null_scores(drawn, null_seed) if len(ids) else np.empty((0, NETWORKS))
        null_columns = NETWORK_COLUMNS
        if under:
            of_base = _score_missing(under, Shards(folder / "base", under.starts), f"{run}, base")
            by_null = np.column_stack([by_null, of_base[drawn, list(columns).index(null_column(options.attacks))]])
            null_columns = [*NETWORK_COLUMNS, "base"]
            scores, columns = beside_base(scores, of_base), with_base(columns)
        facts = {**out.facts, "target_sha256": models_hash(job), "columns": columns, "precision": precision}
        facts |= {"moved_by_precision": moved, "conditioned_on": conditioned_on, "computed_on": shards.computed_on}
        write_table(out.null, _table(job.model, [ids[row] for row in drawn], by_null, null_columns), facts)
        write_table(out.scores, _table(job.model, ids, scores, list(columns)), facts)


def _under_base(scorer: Scorer) -> Scorer:
    """The scorer of the base, on the same device.  Raises InputError where it is no base of the target's kind."""
    under = Scorer(scorer.job.under_base(), scorer.denoiser.device)
    if len(scorer):
        pixels = scorer.read(0, 1).pixels
        if unlike := difference(scorer.denoiser, under.denoiser, pixels, scorer.job.options.condition):
            key = key_name("target", "base", scorer.job.target)
            raise InputError(f"{PARAMS}: {key}: its scores cannot stand beside the target's: {unlike}")
    return under


def models_hash(job: Job) -> str:
    """The hash of the target, and of its base where it has one: scores of another are of no use to a bag."""
    hashes = [file_hash(model) for model in job.models]
    return hashes[0] if job.base is None else hashlib.sha256(" ".join(hashes).encode()).hexdigest()


def base_of(target: str) -> Path | None:
    """Where stage `base` left the pipeline of a target's base; None where there is no base."""
    folder = Path(f"models/base/{target}/pipeline")
    return folder if folder.is_dir() else None


def runs_code(target: str) -> bool:
    """Whether the target's entry says that its code is run."""
    return source_of(target).source == "python"


def _conditioned_on(scorer: Scorer, role_leaks: RoleLeaks) -> str | None:
    """label, caption or None.  Raises InputError where that gives the role away."""
    job = scorer.job
    column = scorer.denoiser.condition.column(job.options.condition)
    for sentence in role_leaks.leaks.get(column, {}).values() if column else ():
        raise InputError(
            f"{PARAMS}: {key_name('score', 'condition', job.target)}: given, but the {column} gives the role "
            f"away, and so does a target that is conditioned on it, trained or not: {sentence}; set "
            f"targets.{job.target}.score: {{condition: none}}, or draw roles with the same {column}s"
        )
    return column


def _score_missing(scorer: Scorer, shards: Shards, run: str) -> np.ndarray:
    """The scores of all images, (N, columns) float64; shards that are there are read back."""
    options = scorer.job.options
    if missing := shards.missing:
        left = sum(min(options.shard, len(scorer) - start) for start in missing)
        done = {"total": len(scorer), "initial": len(scorer) - left}
        with tqdm(desc=run, unit="image", disable=None, **done) as bar:
            if options.backend == "ray":
                score_on_cluster(scorer.job, missing, shards.save, bar)
            else:
                score_here(scorer, missing, shards.save, bar)
    return np.concatenate([np.empty((0, len(score_columns(options.attacks)))), *shards.read()])


def _table(model: Path, ids: list[str], scores: np.ndarray, columns: list[str]) -> pa.Table:
    """One row an image.  Raises InputError if a score is not finite."""
    bad = np.argwhere(~np.isfinite(scores))
    if len(bad):
        row, column = bad[0]
        raise InputError(
            f"{model}: {len(bad)} scores are NaN or inf, the first is {columns[column]} of image {ids[row]}: "
            "the network overflows on it"
        )
    return pa.table({"image_id": pa.array(ids, pa.string()), **{name: scores[:, i] for i, name in enumerate(columns)}})
