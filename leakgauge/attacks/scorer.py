"""The scorer: a target, opened once, that scores images in batches which fit the memory."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor, nn

from leakgauge.attacks.columns import NETWORKS, problem, score_columns
from leakgauge.attacks.registry import score_batch
from leakgauge.config import PARAMS, key_name
from leakgauge.diffusion.conditioning import Conditioning
from leakgauge.diffusion.denoiser import Denoiser, plain, untrained
from leakgauge.errors import InputError, warn
from leakgauge.options import Attacks, ReDiffuse, Score, TErrorGrid
from leakgauge.tables import RowReader, captions_of, decode_images, read_table

CPU_BYTES = 2**30  # of activations: more would fit, but is no faster, and slower at last
GPU_SHARE = 0.5  # of its memory, for activations
TRIED_ON = 32  # images that a precision is tried on


@torch.inference_mode()
def fitting_batch(target: Denoiser, pixels: Tensor, most: int) -> int:
    """The largest power of two, up to `most`, whose activations fit.  The same on every run on one machine.

    target : bound to the image's conditioning.  pixels : (1, C, H, W) uint8, the image that is tried.
    """
    needed = max(_activations(target.eager(), pixels), 1)
    fitting = max(int(_budget(target.device) // needed), 1)
    return min(2 ** (fitting.bit_length() - 1), most)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory has run out: torch has a class for that on a GPU, but none on a CPU."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    said = str(error)  # by torch's allocator, or by oneDNN, whose "primitive descriptor" is another matter
    return "allocate memory" in said or said.strip().endswith("could not create a primitive")


def _activations(target: Denoiser, pixels: Tensor) -> int:
    """Bytes that all layers together put out for one image: about the most that can be alive at any one time."""
    sizes: list[int] = []

    def count(module: nn.Module, inputs: object, output: object) -> None:
        if isinstance(output, Tensor):
            sizes.append(output.numel() * output.element_size())

    networks = [target.network, *([target.autoencoder.model] if target.autoencoder else [])]
    leaves = [module for network in networks for module in network.modules() if not list(module.children())]
    hooks = [leaf.register_forward_hook(count) for leaf in leaves]
    try:
        target.epsilon(target.encode(pixels), 0)
    finally:
        for hook in hooks:
            hook.remove()
    return sum(sizes)


def _budget(device: torch.device) -> float:
    if device.type == "cuda":
        return GPU_SHARE * torch.cuda.get_device_properties(device).total_memory
    return CPU_BYTES


@dataclass(frozen=True)
class Job:
    """All that decides the scores of one role's images."""

    target: str
    model: Path  # a diffusers pipeline folder, or with run_code a folder with model.py
    images: Path  # a table of images
    options: Score
    base: Path | None = None  # another, whose scores stand beside the target's
    run_code: bool = False  # the model is one's own, whose code is run

    @property
    def models(self) -> list[Path]:
        """All whose scores are asked for."""
        return [self.model, *([self.base] if self.base else [])]

    def under_base(self) -> "Job":
        """The job of the base alone."""
        assert self.base
        return replace(self, model=self.base, base=None, run_code=False)


@dataclass(frozen=True)
class Shard:
    """Some images of a role.  pixels : (N, C, H, W) uint8."""

    ids: list[str]
    pixels: Tensor
    conditioning: Conditioning

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, rows: slice) -> "Shard":
        return Shard(self.ids[rows], self.pixels[rows], None if self.conditioning is None else self.conditioning[rows])


class Scorer:
    """Opens the target once; then reads and scores shards in any order.

    Raises InputError, when it is made, for a target or images that do not go with the options.
    """

    def __init__(self, job: Job, device: torch.device) -> None:
        self.job = job
        opened = Denoiser.from_code if job.run_code else Denoiser.from_pipeline
        self.denoiser = opened(job.model, device, job.options)
        if wrong := problem(job.options.attacks, self.denoiser.process.num_train_timesteps):
            raise InputError(f"{PARAMS}: {key_name('score', 'attacks', job.target)}.{wrong}")
        self.reader = RowReader(job.images, ["image_id", "image"])
        self.conditioning = self._conditioning()
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
        conditioning = None if self.conditioning is None else self.conditioning[start:stop]
        return Shard(rows.column("image_id").to_pylist(), torch.from_numpy(decode_images(rows)), conditioning)

    @torch.inference_mode()
    def score(self, shard: Shard, progress: Callable[[int], object] = lambda images: None) -> np.ndarray:
        """(N, columns) float64.  progress : called with how many images more are done.

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
        bound, attacks = self.denoiser.with_condition(batch.conditioning), self.job.options.attacks
        try:
            return score_batch(bound, bound.encode(batch.pixels), batch.ids, attacks).cpu().numpy()
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            return None  # what the error held on to is let go of here

    def _take_fewer(self, failed: int) -> None:
        if failed == 1:
            raise MemoryError(f"{self.job.model}: out of memory at batch size 1")
        self.batch_size = failed // 2
        torch.cuda.empty_cache()
        warn(f"{self.job.model}: {failed} images a network call do not fit the memory: on with {self.batch_size}")

    def _batch_size(self) -> int:
        asked, most = self.job.options.batch_size, min(self.job.options.shard, len(self))
        if asked != "auto":
            return min(asked, most)
        first = self.read(0, 1)
        return min(
            fitting_batch(self.denoiser.with_condition(first.conditioning), first.pixels, self.job.options.shard), most
        )

    def null_scores(self, rows: np.ndarray, seed: int) -> np.ndarray:
        """One cheap score of some images under each of `NETWORKS` networks that have learnt nothing, (n, NETWORKS).

        rows : (n,) int, sorted.
        """
        table = pa.concat_tables([self.reader.rows(row, row + 1) for row in rows.tolist()])
        given = self.conditioning
        conditioning: Conditioning = [given[row] for row in rows.tolist()] if isinstance(given, list) else None
        if isinstance(given, Tensor):
            conditioning = given[torch.from_numpy(rows)]
        ids, pixels = table.column("image_id").to_pylist(), torch.from_numpy(decode_images(table))
        trained, job, columns = self.denoiser, self.job, []
        cheap = _cheap(job.options.attacks)
        wanted = list(score_columns(cheap)).index(null_column(cheap))
        self.job = replace(job, options=job.options.model_copy(update={"attacks": cheap}))
        for number in range(NETWORKS):
            self.denoiser = untrained(trained, NETWORKS * seed + number)
            columns.append(self.score(Shard(ids, pixels, conditioning))[:, wanted])
        self.denoiser, self.job = trained, job
        return np.stack(columns, axis=1)

    def _conditioning(self) -> Conditioning:
        """The conditioning of each image.  Raises InputError, which names the option, and the images."""
        job = self.job
        known = {"label", "caption"} & set(pq.read_schema(job.images).names)
        table = read_table(job.images, sorted(known))
        try:
            labels, captions = table.column("label").to_pylist(), captions_of(table)
            return self.denoiser.conditioning_of(labels, captions, job.options.condition)
        except InputError as error:
            key = key_name("score", "condition", job.target)
            raise InputError(f"{PARAMS}: {key}: {error} ({job.images})") from None


def null_column(attacks: Attacks) -> str:
    """The score of the null check: the second t-error of the walk, or the only one."""
    return f"t_error_t{min(attacks.t_error.interval, attacks.t_error.last)}"


def _cheap(attacks: Attacks) -> Attacks:
    """The first t-errors of the walk and no other attack: three network calls an image."""
    interval = attacks.t_error.interval
    grid = TErrorGrid(interval=interval, last=min(interval, attacks.t_error.last))
    others: dict[str, Any] = {name: [] for name, asked in attacks if isinstance(asked, list)}
    return attacks.model_copy(update={**others, "rediffuse": ReDiffuse(timesteps=[]), "t_error": grid})


def precision_asked(job: Job) -> str:
    """What a job asks for other than plain float32, by the keys of params.yaml."""
    wanted, exact = job.options.model_dump(), plain(job.options).model_dump()
    asked = {name: wanted[name] for name in exact if wanted[name] != exact[name] and name != "offload"}
    return " and ".join(f"{key_name('score', name, job.target)}: {value}" for name, value in asked.items())


def moved_by_precision(scorer: Scorer) -> float:
    """The largest relative difference to plain float32 that a job's precision makes, in any score of `TRIED_ON` images.

    Infinite where only one of the two is finite.  Raises InputError where the precision does not work here.
    """
    options = scorer.job.options
    if options.precision == "tf32" and scorer.denoiser.device.type == "cpu":
        key = key_name("score", "precision", scorer.job.target)
        raise InputError(f"{PARAMS}: {key}: tf32 does nothing on a CPU, and cannot be measured on it")
    if not len(scorer) or not precision_asked(scorer.job):
        return 0.0
    shard = scorer.read(0, TRIED_ON)
    try:
        found = scorer.score(shard)
    except RuntimeError as error:  # no compiler, an operation without that precision
        why = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise InputError(f"{PARAMS}: {precision_asked(scorer.job)}: does not work here: {why}") from None
    exact = replace(scorer.job, options=options.model_copy(update=plain(options).model_dump()))
    expected = Scorer(exact, scorer.denoiser.device).score(shard)
    with np.errstate(divide="ignore", invalid="ignore"):
        alike = (found == expected) | ~(np.isfinite(found) | np.isfinite(expected))
        moved = np.where(alike, 0.0, np.abs(found - expected) / np.abs(expected))
    return float(np.nan_to_num(moved, nan=np.inf).max())
