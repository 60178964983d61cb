"""score: every attack's score of every image of one role, under the target.  Lower means more member-like.

Each batch is a shard on disk as soon as it is done; a run that was killed goes on after its last shard.  Where a
target is no more than scores from elsewhere, these are taken as they are.

models/target/<target>/, data/roles/<target>/<role>.parquet -> data/scores/<target>/<role>.parquet
"""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from pydantic import PositiveInt
from tqdm import tqdm

from stages.command import InputError, run
from stages.device import best_device
from stages.diffusion.conditions import Told, Use
from stages.diffusion.denoiser import Denoiser
from stages.files import file_hash, write_bytes
from stages.params import PARAMS, Options, key_name, section, target_entry
from stages.resume import resumable
from stages.scores.columns import Attacks, score_batch
from stages.tables import captions_of, decode_images, read_table, write_table

Columns = dict[str, dict[str, str | int]]  # name -> definition and network calls an image


class Score(Options):
    """Section `score`."""

    batch_size: PositiveInt
    condition: Use  # of a conditional target
    attacks: Attacks


def score(target: str, role: str) -> None:
    """Write data/scores/<target>/<role>.parquet."""
    options = section("score", Score, target)
    model, images = Path(f"models/target/{target}"), Path(f"data/roles/{target}/{role}.parquet")
    if target_entry(target).source == "scores":
        given = model / ("suspects.parquet" if role == "suspect" else "scores.parquet")
        _write(target, role, *_as_given(given, images))
        return
    denoiser = Denoiser.from_pipeline(model, best_device())
    if problem := options.attacks.problem(denoiser.process.num_train_timesteps):
        raise InputError(f"{PARAMS}: {key_name('score', 'attacks', target)}.{problem}")
    table = read_table(images)
    pixels = torch.from_numpy(decode_images(table))  # (N, C, H, W) uint8
    if len(pixels):
        denoiser.check_images(model, *pixels.shape[1:])
    ids = table.column("image_id").to_pylist()
    try:
        labels, captions = table.column("label").to_pylist(), captions_of(table)
        told = denoiser.told_of(labels, captions, options.condition)
    except InputError as error:
        raise InputError(f"{PARAMS}: {key_name('score', 'condition', target)}: {error}") from None
    with resumable(f"score@{target}-{role}", options.model_dump(), [model, images]) as folder:
        columns = options.attacks.columns()
        shards = [np.empty((0, len(columns))), *_score_shards(denoiser, pixels, told, ids, options, folder)]
        _write(target, role, _table(model, ids, np.concatenate(shards), list(columns)), columns)


def _as_given(given: Path, images: Path) -> tuple[pa.Table, Columns]:
    """The rows of a file of scores for the images of a role, in their order, and what its columns are."""
    table, ids = read_table(given), read_table(images, ["image_id"]).column("image_id")
    rows = pc.index_in(ids, value_set=table.column("image_id").combine_chunks())
    if rows.null_count:
        raise InputError(f"{given}: has no scores of {rows.null_count} images of {images}: run `dvc repro`")
    columns: Columns = {name: {"definition": "as given", "network_calls": 0} for name in table.column_names[1:]}
    return table.take(rows), columns


def _write(target: str, role: str, scores: pa.Table, columns: Columns) -> None:
    model = Path(f"models/target/{target}")
    known = model / "scores.parquet"  # of a target that is no more than scores: new suspects do not make it another
    target_sha256 = file_hash(known if known.exists() else model)
    metadata = {"target": target, "role": role, "target_sha256": target_sha256, "columns": columns}
    write_table(Path(f"data/scores/{target}/{role}.parquet"), scores, metadata)


@torch.inference_mode()
def _score_shards(
    denoiser: Denoiser,
    pixels: torch.Tensor,
    told: Told,
    ids: list[str],
    options: Score,
    folder: Path,
) -> list[np.ndarray]:
    """The scores batch by batch, each (B, columns) float64; finished batches are read back from `folder`."""
    shards = []
    for start in tqdm(range(0, len(ids), options.batch_size), desc="score", unit="batch", disable=None):
        path = folder / f"{start:09d}.npy"
        if not path.exists():
            batch = slice(start, start + options.batch_size)
            bound = denoiser.given(None if told is None else told[batch])
            x0 = denoiser.encode(pixels[batch])
            scores = score_batch(bound, x0, ids[batch], options.attacks).cpu().numpy()
            _save(path, scores)
        shards.append(np.load(path, allow_pickle=False))
    return shards


def _save(path: Path, scores: np.ndarray) -> None:
    stream = io.BytesIO()  # np.save itself does not notice a full disk
    np.save(stream, scores, allow_pickle=False)
    write_bytes(path, stream.getbuffer())


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
