"""A target at work on the images of one role, shard by shard: the same on every engine."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from stages.command import InputError, warn
from stages.diffusion.conditions import Told
from stages.diffusion.denoiser import Denoiser
from stages.diffusion.shortcuts import Shortcuts
from stages.engines.batch import fitting_batch, out_of_memory
from stages.params import PARAMS, key_name
from stages.scores.columns import score_batch
from stages.scores.options import Score
from stages.tables import RowReader, captions_of, decode_images, read_table


@dataclass(frozen=True)
class Job:
    """All that decides the scores of one role's images."""

    target: str
    model: Path  # a diffusers pipeline folder
    images: Path  # a table of images
    options: Score
    shortcuts: Shortcuts


@dataclass(frozen=True)
class Shard:
    """Some images of a role.  pixels : (N, C, H, W) uint8."""

    ids: list[str]
    pixels: Tensor
    told: Told

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, rows: slice) -> "Shard":
        return Shard(self.ids[rows], self.pixels[rows], None if self.told is None else self.told[rows])


class Scorer:
    """Opens the target once; then reads and scores shards in any order.

    Raises InputError, when it is made, for a target or images that do not go with the options.
    """

    def __init__(self, job: Job, device: torch.device) -> None:
        self.job = job
        self.denoiser = Denoiser.from_pipeline(job.model, device, job.shortcuts)
        if problem := job.options.attacks.problem(self.denoiser.process.num_train_timesteps):
            raise InputError(f"{PARAMS}: {key_name('score', 'attacks', job.target)}.{problem}")
        self.reader = RowReader(job.images, ["image_id", "image"])
        self.told = self._told()
        self.batch_size = 1
        if len(self):
            self.denoiser.check_images(job.model, *self.read(0, 1).pixels.shape[1:])
            self.batch_size = self._batch_size()

    def __len__(self) -> int:
        return len(self.reader)

    @property
    def starts(self) -> range:
        """Where the shards start."""
        return range(0, len(self), self.job.options.shard)

    def read(self, start: int, count: int | None = None) -> Shard:
        """The shard that starts there, decoded; or only its first `count` images."""
        stop = min(start + (count or self.job.options.shard), len(self))
        rows = self.reader.rows(start, stop)
        told = None if self.told is None else self.told[start:stop]
        return Shard(rows.column("image_id").to_pylist(), torch.from_numpy(decode_images(rows)), told)

    @torch.inference_mode()
    def score(self, shard: Shard, progress: Callable[[int], object] = lambda images: None) -> np.ndarray:
        """(N, columns) float64.  progress : told how many images more are done.

        Where memory runs out, the images of a network call are halved from then on, with a warning.
        """
        parts: list[np.ndarray] = []
        done = 0
        while done < len(shard):
            batch = shard[done : done + self.batch_size]
            scores = self._score(batch)
            if scores is None:
                self._take_fewer(len(batch))
                continue
            parts.append(scores)
            done += len(batch)
            progress(len(batch))
        return np.concatenate(parts)

    def _score(self, batch: Shard) -> np.ndarray | None:
        """(B, columns) float64; None where the memory does not suffice."""
        bound, attacks = self.denoiser.given(batch.told), self.job.options.attacks
        try:
            return score_batch(bound, bound.encode(batch.pixels), batch.ids, attacks).cpu().numpy()
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            return None  # what the error held on to is let go of here

    def _take_fewer(self, failed: int) -> None:
        if failed == 1:
            raise MemoryError(f"{self.job.model}: the memory does not suffice for one image")
        self.batch_size = failed // 2
        torch.cuda.empty_cache()
        warn(f"{self.job.model}: {failed} images a network call do not fit the memory: on with {self.batch_size}")

    def _batch_size(self) -> int:
        asked, most = self.job.options.batch_size, min(self.job.options.shard, len(self))
        if asked != "auto":
            return min(asked, most)
        first = self.read(0, 1)
        return min(fitting_batch(self.denoiser.given(first.told), first.pixels, self.job.options.shard), most)

    def told_of(self, images: pa.Table, called: str = "") -> Told:
        """What the network is told of each image of a table, by its labels and captions.

        Raises InputError, which names the option, and the images if they are `called` something.
        """
        try:
            labels, captions = images.column("label").to_pylist(), captions_of(images)
            return self.denoiser.told_of(labels, captions, self.job.options.condition)
        except InputError as error:
            key = key_name("score", "condition", self.job.target)
            raise InputError(f"{PARAMS}: {key}: {called and f'{called}: '}{error}") from None

    def _told(self) -> Told:
        known = {"label", "caption"} & set(pq.read_schema(self.job.images).names)
        return self.told_of(read_table(self.job.images, sorted(known)))
