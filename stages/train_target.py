"""train_target: make the model under audit, as a diffusers pipeline folder.

`source: train` trains a DDPM on the members and on nothing else; a run that was killed goes on from its last
checkpoint.  `source: path` takes a pipeline folder as it is, safetensors only.

data/roles/<target>/member.parquet -> models/target/<target>/, metrics/training/<target>/loss.csv,
metrics/samples/<target>.png (beside members, so for DVC's cache, not git)
"""

import io
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from diffusers import DDIMPipeline, DDIMScheduler
from diffusers.utils import logging
from torch import Tensor

from stages.command import InputError, run
from stages.diffusion.denoiser import Denoiser
from stages.diffusion.samples import sample_sheet
from stages.diffusion.training import TrainingOptions, train
from stages.files import place_folder, write_bytes
from stages.params import section, target_entry
from stages.resume import resumable
from stages.tables import decode_images, read_table

LOSS_ROWS = 200  # rows of the loss curve: each the mean over equally many steps
PICKLES = ("*.bin", "*.ckpt", "*.pt", "*.pth", "*.pkl")


def train_target(target: str) -> None:
    """Write models/target/<target> and, as metrics, what its training looked like."""
    logging.disable_progress_bar()
    entry = target_entry(target)
    options = section("train_target", TrainingOptions, target)
    members = Path(f"data/roles/{target}/member.parquet")
    pixels = decode_images(read_table(members))  # (N, C, H, W)
    with resumable(f"train_target@{target}", {**entry.model_dump(), **options.model_dump()}, [members]) as folder:
        made = folder / f"pipeline-{target}"
        shutil.rmtree(made, ignore_errors=True)
        if entry.source == "train":
            pipeline, losses = train(torch.from_numpy(pixels), options, folder)
            pipeline.save_pretrained(made)
        else:
            losses = torch.empty(0)
            _copy_pipeline(Path(entry.path), made)
        denoiser = Denoiser.from_pipeline(made, torch.device("cpu"))
        denoiser.check_images(Path(entry.path), *pixels.shape[1:])
        _describe(target, denoiser, made, losses, pixels, options.seed)
        place_folder(made, Path(f"models/target/{target}"))


def _copy_pipeline(source: Path, destination: Path) -> None:
    if not (source / "model_index.json").is_file():
        raise InputError(f"{source}: not a diffusers pipeline folder: it has no model_index.json")
    shutil.copytree(source, destination, ignore=shutil.ignore_patterns(*PICKLES))


def _describe(target: str, denoiser: Denoiser, made: Path, losses: Tensor, pixels: np.ndarray, seed: int) -> None:
    """The loss curve (none for a target that was not trained here) and the sheet of samples."""
    chunks = np.array_split(losses.numpy(), min(LOSS_ROWS, len(losses)) or 1)
    ends = np.cumsum([len(chunk) for chunk in chunks])
    rows = [(end, chunk.mean()) for end, chunk in zip(ends, chunks, strict=True) if len(chunk)]
    curve = pd.DataFrame(rows, columns=["step", "loss"])
    write_bytes(Path(f"metrics/training/{target}/loss.csv"), curve.to_csv(index=False, float_format="%.6g").encode())
    stream = io.BytesIO()
    scheduler = DDIMScheduler.from_pretrained(made, subfolder="scheduler", local_files_only=True)
    sample_sheet(DDIMPipeline(denoiser.unet, scheduler), pixels, seed).save(stream, format="PNG")
    write_bytes(Path(f"metrics/samples/{target}.png"), stream.getvalue())


if __name__ == "__main__":
    run(train_target, target="a name in the `targets` registry of params.yaml")
