"""Generate images with a target, batch by batch; each batch is on disk as soon as it is made.

The noise of a sample is drawn by the seed and the sample's number: another batch size, or more samples, change none of
it.  (A network's last digits may depend on the size of a batch; then a pixel in very many differs by one grey level.)
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from leakgauge.compute import best_device, computed_on
from leakgauge.diffusion.conditioning import ByClass, ByText, Captions, Conditioning
from leakgauge.diffusion.denoiser import Denoiser
from leakgauge.diffusion.training import STEPS, generate
from leakgauge.draws import drawn_by_name
from leakgauge.errors import InputError
from leakgauge.files import npy, resumable, write_bytes
from leakgauge.options import CopiesOptions, Precision


@dataclass(frozen=True)
class Samples:
    """Generated images and what each was conditioned on."""

    pixels: np.ndarray  # (n, H, W, C) uint8
    labels: list[int | None]
    captions: Captions


@dataclass(frozen=True)
class Prompts:
    """Where the prompts of a target conditional on text come from."""

    captions: Captions  # of the images of the audit, whatever their roles
    given: bool  # whether they are used; else the empty prompt is

    def drawn(self, count: int, seed: int) -> Captions:
        """The prompts of `count` samples: each one's number draws a caption.  Raises InputError."""
        if not self.given:
            return [None] * count
        if None in self.captions:
            raise InputError(
                "the target is conditional on text, and images of the audit have no caption: set it to none, the empty "
                "prompt"
            )
        numbers = drawn_by_name([f"prompt {number}" for number in range(count)], seed)
        return [self.captions[number % len(self.captions)] for number in numbers.tolist()]


def open_target(model: Path, run_code: bool, precision: Precision) -> Denoiser:
    """The target, as it is scored but not compiled.  Raises InputError."""
    opened = Denoiser.from_code if run_code else Denoiser.from_pipeline
    return opened(model, best_device(), precision.model_copy(update={"compile": False}))


def sample(
    run: str, target: Denoiser, size: tuple[int, int], options: CopiesOptions, prompts: Prompts, inputs: list[Path]
) -> Samples:
    """`options.samples` images; goes on where a killed run stopped.

    run : DVC's name of the run.  size : height and width of the images of the audit.  inputs : the files and folders
    that decide what is generated.  Raises InputError.
    """
    count, batch = options.samples, options.batch_size
    conditioning, labels, captions = _conditions(target, count, options.seed, prompts)
    shape, starts = target.x0_shape(*size), range(0, count, batch)
    config = {**options.model_dump(), **target.precision.model_dump(), "prompts": prompts.given}
    with resumable(run, config | {"computed_on": computed_on(target.device)}, inputs) as folder:
        paths = {start: folder / f"{start:09d}.npy" for start in starts}
        missing = [start for start, path in paths.items() if not path.exists()]
        done = STEPS * (len(starts) - len(missing))
        with tqdm(desc=run, total=STEPS * len(starts), initial=done, unit="step", disable=None) as bar:
            for start in missing:
                stop = min(start + batch, count)
                bound = target.with_condition(None if conditioning is None else conditioning[start:stop])
                pixels = generate(bound, noise_of(range(start, stop), shape, options.seed), bar.update)
                write_bytes(paths[start], npy(pixels))
        made = [np.load(path, allow_pickle=False) for path in paths.values()]
    return Samples(np.concatenate(made), labels, captions)


def noise_of(numbers: range, shape: tuple[int, int, int], seed: int) -> Tensor:
    """Standard normal noise of the samples of these numbers, (B, *shape) float32."""
    seeds = drawn_by_name([f"sample {number}" for number in numbers], seed).tolist()
    return torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(one)) for one in seeds])


def _conditions(
    target: Denoiser, count: int, seed: int, prompts: Prompts
) -> tuple[Conditioning, list[int | None], Captions]:
    """What the samples are conditioned on, and their labels and captions: classes take turns, prompts are drawn."""
    nothing: list[None] = [None] * count
    if isinstance(target.condition, ByText):
        captions = prompts.drawn(count, seed)
        return (
            target.condition.conditioning([*nothing], captions, "given" if prompts.given else "none"),
            [*nothing],
            captions,
        )
    conditioning = target.condition.sample_conditions(count)
    if isinstance(target.condition, ByClass) and isinstance(conditioning, Tensor):
        return conditioning, conditioning.tolist(), [*nothing]
    return conditioning, [*nothing], [*nothing]
