"""train_target: make the model under audit, as a diffusers pipeline folder, or take its scores in its stead.

`source: train` trains a DDPM on the members and on nothing else; a run that was killed goes on from its last
checkpoint.  `source: path` takes a pipeline folder as it is, safetensors only.  `source: scores` takes a file of scores
that were computed elsewhere: all that is known of such a target.

data/roles/<target>/member.parquet -> models/target/<target>/, metrics/training/<target>/loss.csv,
metrics/samples/<target>.png (beside members, so for DVC's cache, not git)
"""

import io
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from diffusers.utils import logging
from PIL import Image
from torch import Tensor

from stages.command import InputError, run
from stages.device import best_device
from stages.diffusion.denoiser import Denoiser
from stages.diffusion.samples import sample_sheet
from stages.diffusion.training import TrainingOptions, train
from stages.files import place_folder, write_bytes
from stages.params import section, target_entry
from stages.published.scores import read_scores
from stages.resume import resumable
from stages.tables import decode_images, read_table, write_table

LOSS_ROWS = 200  # rows of the loss curve: each the mean over equally many steps
PICKLES = ("*.bin", "*.ckpt", "*.pt", "*.pth", "*.pkl")


def train_target(target: str) -> None:
    """Write models/target/<target> and, as metrics, what its training looked like."""
    logging.disable_progress_bar()
    entry = target_entry(target)
    options = section("train_target", TrainingOptions, target)
    source, members = Path(entry.path), Path(f"data/roles/{target}/member.parquet")
    pixels = decode_images(read_table(members))  # (N, C, H, W)
    with resumable(f"train_target@{target}", {**entry.model_dump(), **options.model_dump()}, [members]) as folder:
        made = folder / f"pipeline-{target}"
        shutil.rmtree(made, ignore_errors=True)
        losses = torch.empty(0)
        if entry.source == "train":
            pipeline, losses = train(torch.from_numpy(pixels), options, folder)
            pipeline.save_pretrained(made)
        elif entry.source == "path":
            _copy_pipeline(source, made)
        else:
            _write_scores(source, made)
        sampler = None if entry.source == "scores" else _sampler(source, made, pixels)
        _describe(target, losses, sample_sheet(sampler, pixels, options.seed))
        place_folder(made, Path(f"models/target/{target}"))


def _write_scores(source: Path, destination: Path) -> None:
    """A file of scores, checked, as <destination>/scores.parquet: sorted by image_id, whatever order it had."""
    scores = read_scores(source)
    table = pa.table({"image_id": scores.ids, **scores.columns}).sort_by("image_id")
    write_table(destination / "scores.parquet", table, {"columns": list(scores.columns)})


def _copy_pipeline(source: Path, destination: Path) -> None:
    if not (source / "model_index.json").is_file():
        raise InputError(f"{source}: not a diffusers pipeline folder: it has no model_index.json")
    shutil.copytree(source, destination, ignore=shutil.ignore_patterns(*PICKLES))


def _sampler(source: Path, made: Path, pixels: np.ndarray) -> Denoiser:
    """The target in `made`, once it is clear that it can be scored and takes these images."""
    denoiser = Denoiser.from_pipeline(made, best_device())
    denoiser.check_images(source, *pixels.shape[1:])
    return denoiser


def _describe(target: str, losses: Tensor, samples: Image.Image) -> None:
    """The loss curve (none for a target that was not trained here) and the sheet of samples."""
    chunks = np.array_split(losses.numpy(), min(LOSS_ROWS, len(losses)) or 1)
    ends = np.cumsum([len(chunk) for chunk in chunks])
    rows = [(end, chunk.mean()) for end, chunk in zip(ends, chunks, strict=True) if len(chunk)]
    curve = pd.DataFrame(rows, columns=["step", "loss"])
    write_bytes(Path(f"metrics/training/{target}/loss.csv"), curve.to_csv(index=False, float_format="%.6g").encode())
    stream = io.BytesIO()
    samples.save(stream, format="PNG")
    write_bytes(Path(f"metrics/samples/{target}.png"), stream.getvalue())


if __name__ == "__main__":
    run(train_target, target="a name in the `targets` registry of params.yaml")
