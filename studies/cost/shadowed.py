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
from studies.common.population import Population, draw_roles
from studies.cost.gradients import gradient_norms
from studies.cost.gsa import gsa
from studies.cost.ladder import Attack
from studies.targets.recipe import Target, read_recipe, targets_of

KNOWS = "weights, recipe, non-members"


def shadowed(
    population: Population, target: Target, model: str, shadow: str, timesteps: list[int], folder: Path
) -> list[Attack]:
    """GSA1 and GSA2.  model, shadow : names in the registry `models`, of the target and of its shadows.

    folder : for unfinished work.
    """
    roles, of_shadow = draw_roles(population.hashes, read_recipe(model).shares, target.seed), read_recipe(shadow)
    jobs = [(target.folder, population, np.r_[roles["member"], roles["holdout"]], timesteps, folder / "target.npz")]
    taught = []
    for one in targets_of(shadow, of_shadow, last_only=True):
        own = draw_roles(population.hashes, of_shadow.shares, one.seed)
        rows, path = np.r_[own["member"], own["auxiliary"]], folder / f"shadow_{one.seed}.npz"
        jobs.append((one.folder, population, rows, timesteps, path))
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
