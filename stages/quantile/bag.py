"""A bag: B small attackers, each fitted on its own bootstrap resample of the auxiliary images.

Breiman, "Bagging Predictors", Machine Learning 1996; Tang et al., arXiv 2312.05140.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Protocol, Self, TypeAlias

import numpy as np
from lightgbm.basic import LightGBMError
from pydantic import Field, RootModel
from safetensors import SafetensorError
from tqdm import tqdm

from stages.command import InputError
from stages.quantile.gbm import GBMAttacker, GBMOptions
from stages.quantile.marginal import MarginalAttacker, MarginalOptions
from stages.quantile.predictions import Prediction
from stages.quantile.resnet import ResNetAttacker, ResNetOptions

LearnerOptions: TypeAlias = MarginalOptions | ResNetOptions | GBMOptions
Learner = RootModel[Annotated[LearnerOptions, Field(discriminator="kind")]]  # an entry of the registry


class Attacker(Protocol):
    """One fitted learner: the distribution of a non-member's log score given its image."""

    @classmethod
    def fit(cls, images: np.ndarray, log_scores: np.ndarray, options: Any, seed: int) -> Self: ...
    def predict(self, images: np.ndarray) -> Prediction: ...
    def save(self, stem: Path) -> None: ...
    @classmethod
    def load(cls, stem: Path, options: Any) -> Self: ...


ATTACKERS: dict[str, type[Attacker]] = {
    "marginal": MarginalAttacker,
    "resnet": ResNetAttacker,
    "gbm": GBMAttacker,
}


@dataclass(frozen=True)
class Bag:
    """A fitted bag as it lies in its folder.  description : bag.json, what it was fitted on and how."""

    folder: Path
    description: dict[str, Any]
    attackers: list[Attacker]


def bootstrap(count: int, seed: int, attacker: int) -> np.ndarray:
    """The resample of one attacker: `count` indices in 0..count - 1, drawn with replacement."""
    return np.random.default_rng([seed, attacker]).integers(count, size=count)


def out_of_bag(hashes: list[str], seed: int, bag_size: int) -> np.ndarray:
    """(N, bag_size) bool: True where the attacker's resample does not hold the image, nor another of its pixels."""
    _, image = np.unique(hashes, return_inverse=True)  # (N,)
    drawn = [image[bootstrap(len(image), seed, attacker)] for attacker in range(bag_size)]
    return np.stack([~np.isin(image, seen) for seen in drawn], axis=1)


def fit_bag(
    images: np.ndarray, log_scores: np.ndarray, options: LearnerOptions, bag_size: int, seed: int
) -> list[Attacker]:
    """Fit the attackers one by one.  images : (N, C, H, W) uint8; log_scores : (N,) float64."""
    attackers = []
    for attacker in tqdm(range(bag_size), desc=f"fit {options.kind}", unit="attacker", disable=None):
        rows = bootstrap(len(images), seed, attacker)
        fitted = ATTACKERS[options.kind].fit(images[rows], log_scores[rows], options, seed * 10_007 + attacker)
        attackers.append(fitted)
    return attackers


def save_bag(bag: Bag) -> None:
    """Write bag.json and the attackers' weights into the bag's folder."""
    for number, attacker in enumerate(bag.attackers):
        attacker.save(_stem(bag.folder, number))
    text = json.dumps(bag.description, indent=2, sort_keys=True)
    (bag.folder / "bag.json").write_text(text + "\n", encoding="utf-8")


def load_bag(folder: Path) -> Bag:
    """Read what `save_bag` wrote.  Raises InputError for a folder that is no whole bag."""
    try:
        description = json.loads((folder / "bag.json").read_text(encoding="utf-8"))
        options = Learner.model_validate(description["options"]).root
        load = ATTACKERS[options.kind].load
        attackers = [load(_stem(folder, number), options) for number in range(description["bag_size"])]
    except (OSError, KeyError, ValueError, SafetensorError, LightGBMError) as error:
        raise InputError(f"{folder}: not a whole bag: {error}") from None
    return Bag(folder, description, attackers)


def _stem(folder: Path, attacker: int) -> Path:
    """Where an attacker's files are, without their endings."""
    return folder / f"attacker_{attacker:03d}"
