"""base: the model that a target is compared with, image by image, for learners see an image's scores under it too.

`target.base` names the model that the target was fine-tuned from.  `split.reference` has one of the target's recipe
trained here, on non-members that have no other role.  Without either there is none, and the folder says so.

A base must have seen as little of the members as of the auxiliary and the holdout images: `evaluate` checks that it
does not tell them apart.

data/roles/<target>/reference.parquet -> models/base/<target>/: base.json, and pipeline/ where there is a base
"""

import shutil
from pathlib import Path

import numpy as np

from leakgauge.cli import run
from leakgauge.config import PARAMS, key_name, section
from leakgauge.errors import InputError
from leakgauge.files import place_folder, resumable, write_json
from leakgauge.options import BaseFolder, BaseOnHub, TargetOptions
from leakgauge.tables import decode_images, read_table


def base(target: str) -> None:
    """Write models/base/<target>/."""
    options, images = section("target", TargetOptions, target), Path(f"data/roles/{target}/reference.parquet")
    table = read_table(images)
    with resumable(f"base@{target}", options.model_dump(), [images]) as folder:
        made = folder / "made"
        shutil.rmtree(made, ignore_errors=True)
        facts = {"base": options.base and options.base.model_dump(), "reference": table.num_rows}
        if options.base:
            facts["not_taken"] = _take(options.base, target, folder, made / "pipeline")
        elif table.num_rows:
            repeated = np.repeat(decode_images(table), table.column("copies").to_numpy(), axis=0)
            _train(repeated, options, folder, made / "pipeline")
        write_json(made / "base.json", facts)
        place_folder(made, Path(f"models/base/{target}"))


def _take(named: BaseOnHub | BaseFolder, target: str, work: Path, destination: Path) -> list[str]:
    """The pipeline that `target.base` names.  Returns the files that were not taken.

    Raises InputError for another than was pinned.
    """
    from leakgauge.diffusion.denoiser import open_taken  # takes seconds, and most targets have no base
    from leakgauge.diffusion.pipelines import take_base

    try:
        source, not_taken = take_base(named, work, destination)
        open_taken(destination, source, (0, 0, 0, 0))
    except InputError as error:
        raise InputError(f"{PARAMS}: {key_name('target', 'base', target)}: {error}") from None
    if not_taken:
        print(f"{source}: not taken: {', '.join(not_taken)}")
    return not_taken


def _train(pixels: np.ndarray, options: TargetOptions, work: Path, destination: Path) -> None:
    """A reference: a model of the target's recipe.  pixels : (N, C, H, W) uint8."""
    import torch
    from diffusers.utils import logging

    from leakgauge.diffusion.training import train

    logging.disable_progress_bar()
    pipeline, _ = train(torch.from_numpy(pixels), options, work)
    pipeline.save_pretrained(destination)


if __name__ == "__main__":
    run(base, target="a name in the `targets` registry of params.yaml")
