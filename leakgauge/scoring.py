"""Score the images of one role, shard by shard; each shard is on disk as soon as it is scored."""

import io
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor, nn
from tqdm import tqdm

from leakgauge.attacks.registry import Score, score_batch
from leakgauge.compute import computed_on
from leakgauge.config import PARAMS, key_name
from leakgauge.diffusion.conditioning import Conditioning
from leakgauge.diffusion.denoiser import Denoiser, Shortcuts
from leakgauge.errors import InputError, warn
from leakgauge.files import write_bytes
from leakgauge.tables import RowReader, captions_of, decode_images, read_table

CPU_BYTES = 2**30  # of activations: more would fit, but is no faster, and slower at last
GPU_SHARE = 0.5  # of its memory, for activations


@torch.inference_mode()
def fitting_batch(target: Denoiser, pixels: Tensor, most: int) -> int:
    """The largest power of two, up to `most`, whose activations fit.  The same on every run on one machine.

    target : bound to what it is told of the image.  pixels : (1, C, H, W) uint8, the image that is tried.
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
    model: Path  # a diffusers pipeline folder
    images: Path  # a table of images
    options: Score
    shortcuts: Shortcuts


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
        self.denoiser = Denoiser.from_pipeline(job.model, device, job.shortcuts)
        if problem := job.options.attacks.problem(self.denoiser.process.num_train_timesteps):
            raise InputError(f"{PARAMS}: {key_name('score', 'attacks', job.target)}.{problem}")
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

    def conditioning_of(self, images: pa.Table, called: str = "") -> Conditioning:
        """What the network is told of each image of a table, by its labels and captions.

        Raises InputError, which names the option, and the images if they are `called` something.
        """
        try:
            labels, captions = images.column("label").to_pylist(), captions_of(images)
            return self.denoiser.conditioning_of(labels, captions, self.job.options.condition)
        except InputError as error:
            key = key_name("score", "condition", self.job.target)
            raise InputError(f"{PARAMS}: {key}: {called and f'{called}: '}{error}") from None

    def _conditioning(self) -> Conditioning:
        known = {"label", "caption"} & set(pq.read_schema(self.job.images).names)
        return self.conditioning_of(read_table(self.job.images, sorted(known)))


def npy(scores: np.ndarray) -> bytes:
    """Scores as the bytes of a .npy file; np.save on a path would not notice a full disk."""
    stream = io.BytesIO()
    np.save(stream, scores, allow_pickle=False)
    return stream.getvalue()


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


# the start of a shard, its scores as a .npy file, and what they were computed on
Save = Callable[[int, bytes, dict[str, str]], None]


def score_here(scorer: Scorer, starts: Sequence[int], save: Save, bar: tqdm) -> None:
    """Score the shards that start there, and save each as it is done."""
    with ThreadPoolExecutor(1) as ahead:
        reading = [ahead.submit(scorer.read, start) for start in starts[:1]]
        for start, after in zip(starts, [*starts[1:], None], strict=True):
            shard = reading.pop().result()
            if after is not None:
                reading.append(ahead.submit(scorer.read, after))
            save(start, npy(scorer.score(shard, bar.update)), computed_on(scorer.denoiser.device))
