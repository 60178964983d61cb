"""The models of a view with the scores of their images, as stage `score` left them."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from leakgauge.bags import Scored
from leakgauge.config import PARAMS
from leakgauge.errors import InputError
from leakgauge.quantile.inputs import Inputs
from leakgauge.tables import read_table
from studies.common.population import ROLES, Population


class Audit(NamedTuple):
    """One trained model as a view shows it: its images by role, with every score."""

    seed: int
    step: int
    roles: dict[str, Scored]


def read_audits(view: str, population: Population) -> list[Audit]:
    """The models of a view, in order.  Raises InputError for a missing or damaged table."""
    table = read_table(Path(f"data/scores/{view}.parquet")).to_pandas()
    audits = []
    for (seed, step), rows in table.groupby(["seed", "step"]):
        roles = {role: _scored(rows[rows["role"] == role], population) for role in ROLES}
        audits.append(Audit(int(seed), int(step), roles))
    return audits


def audits_of(view: str, population: Population, seeds: list[int], last_only: bool = True) -> list[Audit]:
    """The models of a view that some seeds made.  last_only : of each seed's snapshots.

    Raises InputError where a seed is missing.
    """
    audits = [audit for audit in read_audits(view, population) if audit.seed in seeds]
    if missing := set(seeds) - {audit.seed for audit in audits}:
        raise InputError(f"{PARAMS}: views.{view}: its model has no seed {min(missing)}")
    last = max(audit.step for audit in audits)
    return [audit for audit in audits if not last_only or audit.step == last]


def _scored(rows: pd.DataFrame, population: Population) -> Scored:
    places = population.rows_of(rows["image_id"].tolist())
    scores = {name: np.log(rows[name].to_numpy()) for name in rows if name not in ("seed", "step", "role", "image_id")}
    return Scored(Inputs(population.pixels[places], population.features[places]), population.hashes[places], scores)


def denoising_loss(images: Scored) -> float:
    """How well a model denoises images of one role: its training loss, at the timesteps where the view takes it.

    Mean squared error of the predicted noise, a pixel, averaged over the naive-loss timesteps and the images.
    """
    losses = np.stack([values for name, values in images.log_scores.items() if name.startswith("loss_t")])  # (T, N)
    pixels = np.prod(images.inputs.images.shape[1:])
    return float(np.exp(losses).mean() / pixels)
