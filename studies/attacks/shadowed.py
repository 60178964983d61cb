"""GSA on one target: gradients of the target and of its shadows, a model a core, and the trees taught by them."""

import io
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from leakgauge.compute import spread
from leakgauge.diffusion.denoiser import Denoiser
from leakgauge.files import write_bytes
from studies.attacks.gradients import gradient_norms
from studies.attacks.gsa import gsa
from studies.attacks.ladder import Attack
from studies.population import Population, draw_roles, read_population
from studies.targets.folders import Target, targets_of
from studies.targets.recipe import Recipe

KNOWS = "weights, recipe, non-members"


def shadowed(
    target: Target, recipe: Recipe, shadow: str, of_shadow: Recipe, timesteps: list[int], folder: Path
) -> list[Attack]:
    """GSA1 and GSA2.  shadow, of_shadow : the shadows' name in the registry `models`, and how they were trained.

    folder : for unfinished work.
    """
    population = read_population()
    roles = draw_roles(population.hashes, recipe.shares, target.seed)
    jobs = [(target.folder, population, np.r_[roles["member"], roles["holdout"]], timesteps, folder / "target.npz")]
    taught = []
    for model in targets_of(shadow, of_shadow, last_only=True):
        own = draw_roles(population.hashes, of_shadow.shares, model.seed)
        rows, path = np.r_[own["member"], own["auxiliary"]], folder / f"shadow_{model.seed}.npz"
        jobs.append((model.folder, population, rows, timesteps, path))
        taught.append(np.isin(rows, own["member"]))
    spread(_write_norms, [job for job in jobs if not job[-1].exists()], "gradients")
    of_target, *of_shadows = [np.load(path, allow_pickle=False) for *_, path in jobs]
    seconds = pd.read_csv(f"data/training/{shadow}.csv")["seconds"].sum()
    attacks, members = [], len(roles["member"])
    for sort in ("gsa1", "gsa2"):
        started = time.monotonic()
        training_sets = [(norms[sort], is_member) for norms, is_member in zip(of_shadows, taught, strict=True)]
        membership_score = gsa(training_sets, of_target[sort], target.seed)
        judged = {"member": membership_score[:members], "holdout": membership_score[members:]}
        calls, spent = 3 * len(timesteps), seconds + time.monotonic() - started
        attacks.append(Attack(sort.upper(), "boosted trees", "", KNOWS, calls, len(taught), spent, judged))
    return attacks


def _write_norms(model: Path, population: Population, rows: np.ndarray, timesteps: list[int], path: Path) -> None:
    """The gradient norms of some images under a model, as .npz."""
    target = Denoiser.from_pipeline(model, torch.device("cpu"))
    x0 = target.encode(torch.from_numpy(population.pixels[rows]))
    stream = io.BytesIO()
    norms = gradient_norms(target, x0, population.ids[rows].tolist(), timesteps, 0)
    np.savez(stream, gsa1=norms["gsa1"], gsa2=norms["gsa2"])
    write_bytes(path, stream.getbuffer())
