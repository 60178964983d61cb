"""score: every score of every image under each trained model of one view, and samples drawn from it.

models/<model>/, data/{images,features}/<dataset>.parquet ->
data/scores/<view>.parquet (one row an image and model), data/samples/<view>.npy ((models, samples, H, W, C) uint8)
"""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from tqdm import tqdm

from leakgauge.attacks.columns import problem, score_columns
from leakgauge.cli import run
from leakgauge.config import PARAMS
from leakgauge.diffusion.training import draw
from leakgauge.errors import InputError
from leakgauge.files import write_bytes
from leakgauge.tables import write_table
from studies.common.population import ROLES, draw_roles, read_population
from studies.common.scoring import open_view, score_images
from studies.common.views import read_view
from studies.targets.recipe import Taken, read_model, targets_of
from studies.targets.taken import known_roles


def score(view: str) -> None:
    """Write data/scores/<view>.parquet and data/samples/<view>.npy."""
    options = read_view(view)
    recipe = read_model(options.of)
    population = read_population()
    targets = targets_of(options.of, recipe, options.last_only)
    tables, samples = [], []
    for target in tqdm(targets, desc=f"score {view}", unit="model", disable=None):
        denoiser = open_view(target.folder, options)
        if wrong := problem(options, denoiser.process.num_train_timesteps):
            raise InputError(f"{PARAMS}: views.{view}.{wrong}")
        denoiser.check_images(target.folder, *population.pixels.shape[1:])
        if isinstance(recipe, Taken):
            roles = known_roles(population, recipe.split, target.seed)
        else:
            roles = draw_roles(population.hashes, recipe.shares, target.seed)
        rows = np.concatenate([roles[role] for role in ROLES])
        facts = {
            "seed": target.seed,
            "step": target.step,
            "role": np.repeat(ROLES, [len(roles[role]) for role in ROLES]),
            "image_id": population.ids[rows],
        }
        scores = score_images(denoiser, population, rows, options, f"{target.folder} ({view})")
        tables.append(pd.DataFrame(facts | scores))
        if options.samples:
            shape = denoiser.x0_shape(*population.pixels.shape[2:])
            samples.append(draw(denoiser, shape, target.seed, options.samples))
    levels = (denoiser.process.sigma / denoiser.process.alpha).tolist()
    noise = {f"t_error_t{t}": levels[t] for t in options.t_error.timesteps}  # sigma / alpha
    metadata = {"view": view, "of": options.of, "columns": score_columns(options), "noise": noise}
    table = pa.Table.from_pandas(pd.concat(tables), preserve_index=False)
    write_table(Path(f"data/scores/{view}.parquet"), table, metadata)
    stream = io.BytesIO()
    np.save(stream, np.stack(samples) if samples else np.empty((len(targets), 0), np.uint8), allow_pickle=False)
    write_bytes(Path(f"data/samples/{view}.npy"), stream.getbuffer())


if __name__ == "__main__":
    run(score, view="a name in the `views` registry of params.yaml")
