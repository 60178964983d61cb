"""train: make the models that the studies attack: every seed of a recipe, one a core; or take one from elsewhere.

A run that was killed goes on with the seeds that were not finished.

data/{images,features}/<dataset>.parquet -> models/<model>/<seed>/<step>/, data/training/<model>.csv (what it
took: seconds, and of a private model the epsilon that its accountant tells; seconds differ from run to run)
"""

import shutil
from pathlib import Path

import pandas as pd
import torch
from diffusers.utils import logging

from leakgauge.cli import run
from leakgauge.compute import spread
from leakgauge.files import place_folder, resumable, write_bytes
from studies.common.population import Population, draw_roles, read_population
from studies.targets.recipe import Recipe, Taken, read_model
from studies.targets.taken import take
from studies.targets.trainer import save, train

CODE = Path(__file__).parent / "targets"
COLUMNS = ["seed", "step", "seconds", "parameters", "epsilon"]


def train_model(model: str) -> None:
    """Write models/<model>/ and data/training/<model>.csv.  Raises InputError."""
    recipe = read_model(model)
    if isinstance(recipe, Taken):
        with resumable(f"train@{model}", recipe.model_dump(), [Path(recipe.pipeline)]) as folder:
            take(model, recipe, folder / "models")
            place_folder(folder / "models", Path(f"models/{model}"))
        write_bytes(Path(f"data/training/{model}.csv"), (",".join(COLUMNS) + "\n").encode())
        return
    population = read_population()
    config = {**recipe.model_dump(), "hashes": population.hashes.tolist()}
    with resumable(f"train@{model}", config, [CODE]) as folder:
        jobs = [
            (population, recipe, seed, folder / str(seed))
            for seed in recipe.seeds
            if not (folder / str(seed) / "training.csv").exists()
        ]
        spread(_train_one, jobs, f"train {model}")
        facts = pd.concat([pd.read_csv(folder / str(seed) / "training.csv") for seed in recipe.seeds])
        made = folder / "models"
        for seed in recipe.seeds:
            for step in recipe.kept:
                shutil.copytree(folder / str(seed) / str(step), made / str(seed) / str(step), dirs_exist_ok=True)
        write_bytes(Path(f"data/training/{model}.csv"), facts.to_csv(index=False, float_format="%.6g").encode())
        place_folder(made, Path(f"models/{model}"))


def _train_one(population: Population, recipe: Recipe, seed: int, folder: Path) -> None:
    """All kept models of one seed, below `folder`; what they took is written last."""
    logging.disable_progress_bar()
    rows = draw_roles(population.hashes, recipe.shares, seed)["member"]
    pixels, labels = (torch.from_numpy(values[rows]) for values in (population.pixels, population.labels))
    shutil.rmtree(folder, ignore_errors=True)
    facts = []
    for trained in train(pixels, labels, int(population.labels.max()) + 1, recipe, seed):
        save(trained, folder / str(trained.step))
        parameters = sum(weights.numel() for weights in trained.network.parameters())
        facts.append((seed, trained.step, trained.seconds, parameters, trained.epsilon))
    csv = pd.DataFrame(facts, columns=COLUMNS).to_csv(index=False, float_format="%.6g")
    write_bytes(folder / "training.csv", csv.encode())


if __name__ == "__main__":
    run(train_model, model="a name in the `models` registry of params.yaml")
