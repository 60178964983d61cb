"""A model that was trained elsewhere: its files as they are, and the roles of the images under it."""

from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np

from leakgauge.config import PARAMS
from leakgauge.diffusion.pipelines import copy_pipeline
from leakgauge.errors import InputError
from leakgauge.files import file_hash
from leakgauge.imports import read_index
from studies.common.population import Population
from studies.targets.recipe import Known, Taken


def take(model: str, taken: Taken, destination: Path) -> None:
    """Copy its pipeline.  Raises InputError for another one than was pinned."""
    source = Path(taken.pipeline)
    if (found := file_hash(source)) != taken.sha256:
        raise InputError(f"{PARAMS}: models.{model}.sha256: that of {source} is {found}")
    copy_pipeline(source, destination)


def known_roles(population: Population, split: Known, seed: int) -> dict[str, np.ndarray]:
    """Role -> rows of distinct images, ascending: non-members are shuffled by the seed, copies of members left out.

    Raises InputError where no image, or every image, is a member, or too few others are left.
    """
    everything = np.arange(len(population))
    if split.index:
        members, others = read_index(Path(split.index.path), split.index.sha256, len(population))
    else:
        matches = np.array([fnmatchcase(name, split.member or "") for name in population.ids.tolist()])
        members, others = everything[matches], everything[~matches]
    members, others = (
        rows[np.sort(np.unique(population.hashes[rows], return_index=True)[1])] for rows in (members, others)
    )
    others = others[~np.isin(population.hashes[others], population.hashes[members])]
    if not len(members) or len(others) <= split.auxiliary:
        raise InputError(
            f"{PARAMS}: models: {len(members)} members and {len(others)} others are too few for {split.auxiliary} "
            "auxiliary images and a holdout"
        )
    order = np.random.default_rng(seed).permutation(others)
    return {
        "member": members,
        "auxiliary": np.sort(order[: split.auxiliary]),
        "holdout": np.sort(order[split.auxiliary :]),
    }
