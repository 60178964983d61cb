"""Score all variants of a record under a model, and go on where a killed run stopped."""

import hashlib
import io
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from leakgauge.attacks.scorer import Job, Scorer
from leakgauge.canaries.record import Opened
from leakgauge.canaries.variants import features
from leakgauge.compute import best_device
from leakgauge.config import PARAMS, kind_of
from leakgauge.datasets.images import Entry, decode, preprocess
from leakgauge.diffusion.taking import take_model
from leakgauge.errors import InputError
from leakgauge.files import resumable
from leakgauge.options import Attacks, Score, Target, TargetOptions, TErrorGrid
from leakgauge.scoring import Shards, score_here
from leakgauge.tables import image_table, write_pieces

LOSSES = [t + draw for t in (5, 20, 50) for draw in range(4)]  # neighbours in time have a noise each
ATTACKS = Attacks(t_error=TErrorGrid(last=20), pia=[20], pian=[], sima=[0, 20], naive_loss=LOSSES)
SHARD = 64  # images: what a killed run loses at most


@dataclass(frozen=True)
class Asked:
    """A model, how it is taken, how images are brought to it, and what they are conditioned on: all the same for all.

    label, caption : None where the model is called without.
    """

    target: Target
    options: TargetOptions
    entry: Entry
    label: int | None = None
    caption: str | None = None


def score(opened: Opened, asked: Asked) -> tuple[np.ndarray, np.ndarray]:
    """The log scores of all variants, (N, K, S) float64, and their features, (N, K, F).

    What a killed run has scored lies in .partial of the working directory, not beside the record: that may come from
    somebody who would rather have other scores.  Raises InputError.
    """
    given = asked.label is not None or asked.caption is not None
    options = Score(condition="given" if given else "none", attacks=ATTACKS, shard=SHARD)
    config: dict[str, Any] = {"record": opened.sha256, "label": asked.label, "caption": asked.caption}
    parts = {"target": asked.target, "taken": asked.options, "score": options, "images": asked.entry}
    config |= {name: part.model_dump(exclude={"path"}) for name, part in parts.items()}
    name = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:16]
    model = [] if asked.options.hub else [Path(asked.target.model)]
    with resumable(f"canaries@{name}", config, model) as work:
        images = work / "images.parquet"
        described = _table(opened, asked, images)
        with _taken(asked, work / "taken") as (made, run_code):
            scorer = Scorer(Job("", made, images, options, run_code=run_code), best_device())
            shards = Shards(work, scorer.starts)
            left = sum(min(SHARD, len(scorer) - start) for start in shards.missing)
            with tqdm(desc="score variants", unit="image", total=len(scorer), disable=None) as bar:
                bar.update(len(scorer) - left)
                score_here(scorer, shards.missing, shards.save, bar)
        scores = np.concatenate(shards.read())
    if not (np.isfinite(scores) & (scores > 0)).all():
        raise InputError(f"{asked.target.model}: a score is not a positive number: the network overflows on an image")
    return np.log(scores).reshape(*described.shape[:2], -1), described


@contextmanager
def _taken(asked: Asked, work: Path) -> Iterator[tuple[Path, bool]]:
    """The model as a pipeline folder, as stage `target` takes it; or a folder of its own code, and True.

    It is removed in the end.  Errors within are raised in the words of this command.
    """
    source, options, made = Path(asked.target.model), asked.options, work / "model"
    kind = asked.target.source or kind_of(source) or "path"
    shutil.rmtree(work, ignore_errors=True)  # of a run that was killed
    try:
        take_model(kind, source, options, work, made, lambda option: f"--{option.replace('_', '-')}")
        yield made, kind == "python"
    except InputError as error:
        said = str(error).replace(f"{PARAMS}: ", "").replace(str(made), str(source))
        said = said if str(source) in said else f"{source}: {said}"
        size = "; --size N resizes all variants" if "the dataset has" in said and not asked.entry.size else ""
        raise InputError(said + size) from None
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _table(opened: Opened, asked: Asked, path: Path) -> np.ndarray:
    """Write all variants as a table of images for the scorer; returns their features, (N, K, F).

    Variants of an image have one id, so that attacks that draw noise by it draw the same for all of them.
    """
    found: list[np.ndarray] = []

    def tables() -> Iterator[pa.Table]:
        shape: tuple[int, ...] = ()
        for number, image in enumerate(tqdm(opened.record.images, desc="read variants", unit="image", disable=None)):
            pixels = np.stack([_pixels(opened, asked, number, k) for k in range(opened.record.variants)])
            shape = shape or pixels.shape[1:]
            if pixels.shape[1:] != shape:
                raise InputError(
                    f"{opened.variant(number, 0)}: is {_sides(pixels.shape[1:])}, the first image {_sides(shape)}: "
                    "--size N makes them one size, --colour one number of channels"
                )
            found.append(features(pixels))
            rows = len(pixels)
            captions: list[str | None] | None = None if asked.caption is None else [asked.caption] * rows
            yield image_table([image.name] * rows, pixels, [asked.label] * rows, [None] * rows, captions)

    write_pieces(path, tables(), {})
    return np.stack(found)


def _pixels(opened: Opened, asked: Asked, image: int, number: int) -> np.ndarray:
    """A variant as the model takes it, (H, W, C) uint8."""
    name = str(opened.variant(image, number))
    picture = decode(io.BytesIO(opened.read(image, number)), name)
    try:
        return preprocess(picture, asked.entry, name)
    except InputError as error:
        raise InputError(str(error).replace(f"dataset's entry of {PARAMS}", "options of this command")) from None


def _sides(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]} with {shape[2]} channel{'s' if shape[2] > 1 else ''}"
