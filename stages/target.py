"""target: make the model under audit, as a diffusers pipeline folder, or take its scores in its stead.

`source: train` trains a DDPM on the members, with all their copies, and on nothing else; a run that was killed goes on
from its last checkpoint.  `source: path` takes a pipeline folder as it is, safetensors only; `source: hub` one on the
Hugging Face Hub, at one commit.  `source: adapter` fuses a LoRA, or another adapter, into the base that it names.
`source: pytorch_ddpm` converts a checkpoint of the code that most of the literature attacks.  `source: python` runs the
code of a model of one's own.  `source: scores` takes a
file of scores that were computed elsewhere: all that is known of such a target.

data/roles/<target>/member.parquet -> models/target/<target>/, metrics/training/<target>/loss.csv,
data/taken/<target>.json (the files that were not taken, and the values that diffusers filled in),
metrics/samples/<target>.png (beside members, so for DVC's cache, not git)
"""

import io
import shutil
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from diffusers.utils import logging
from PIL import Image
from torch import Tensor

from leakgauge.cli import run
from leakgauge.config import PARAMS, key_name, section, source_of
from leakgauge.diffusion.denoiser import open_taken
from leakgauge.diffusion.loading import filled_in
from leakgauge.diffusion.taking import take_model
from leakgauge.diffusion.training import sample_sheet, train
from leakgauge.errors import InputError
from leakgauge.files import place_folder, resumable, write_bytes, write_json
from leakgauge.imports import read_scores
from leakgauge.options import TargetOptions
from leakgauge.tables import decode_images, read_table, write_table

LOSS_ROWS = 200  # rows of the loss curve: each the mean over equally many steps


def target(target: str) -> None:
    """Write models/target/<target> and, as metrics, what its training looked like."""
    logging.disable_progress_bar()
    entry, options = source_of(target), section("target", TargetOptions, target)
    source, members = Path(entry.model), Path(f"data/roles/{target}/member.parquet")
    table = read_table(members)
    pixels = decode_images(table)  # (N, C, H, W)
    with resumable(f"target@{target}", {**entry.model_dump(), **options.model_dump()}, [members]) as folder:
        made = folder / f"pipeline-{target}"
        shutil.rmtree(made, ignore_errors=True)
        losses, not_taken = torch.empty(0), list[str]()
        if entry.source == "train":
            if not len(pixels):
                raise InputError(f"{PARAMS}: {key_name('split', 'member', target)}: 0 members: nothing to train on")
            repeated = np.repeat(pixels, table.column("copies").to_numpy(), axis=0)
            pipeline, losses = train(torch.from_numpy(repeated), options, folder)
            pipeline.save_pretrained(made)
        elif entry.source == "scores":
            _write_scores(source, made, options.scores)
        else:
            kind, key = entry.source, partial(_key, target)
            source, not_taken = take_model(kind, source, options, folder, made, key)
        run_code = entry.source == "python"
        sampler = None if entry.source == "scores" else open_taken(made, source, pixels.shape, run_code)
        _describe(target, losses, sample_sheet(sampler, pixels, options.seed))
        _list_taken(target, not_taken, {} if entry.source in ("scores", "python") else filled_in(made))
        place_folder(made, Path(f"models/target/{target}"))


def _write_scores(source: Path, destination: Path, columns: list[str]) -> None:
    """A file of scores, checked and sorted by image_id, whatever order it had: scores.parquet in `destination`.

    Those of suspects are in suspects.parquet beside it, so that new ones leave the target what it is.
    """
    known = read_scores(source, columns)
    asked_about = Counter(name.partition("/")[0] for name in known.of(known.suspect).ids)
    for name, count in sorted(asked_about.items()):
        print(f"{source}: {count} rows are of the set of suspects '{name}'")
    for name, rows in {"scores": ~known.suspect, "suspects": known.suspect}.items():
        scores = known.of(rows)
        ids = pa.array(scores.ids, pa.string())
        table = pa.table({"image_id": ids, **scores.columns}).sort_by("image_id")
        write_table(destination / f"{name}.parquet", table, {"columns": list(scores.columns)})


def _key(target: str, option: str) -> str:
    """What an option of section `target` is called in an error."""
    return f"{PARAMS}: {key_name('target', option, target)}"


def _list_taken(target: str, not_taken: list[str], filled: dict[str, Any]) -> None:
    """Print, and list for the page, the files that were not taken and the values that diffusers filled in."""
    if not_taken:
        print(f"{target}: not taken: {', '.join(not_taken)}")
    if filled:
        print(f"{target}: filled in by diffusers: {', '.join(f'{name}: {value}' for name, value in filled.items())}")
    write_json(Path(f"data/taken/{target}.json"), {"not_taken": not_taken, "filled_in": filled})


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
    run(target, target="a name in the `targets` registry of params.yaml")
