"""A bag: B small attackers, each fitted on its own bootstrap resample of the auxiliary images.

Breiman, "Bagging Predictors", Machine Learning 1996; Tang et al., arXiv 2312.05140.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Protocol, Self, TypeAlias

import numpy as np
import pandas as pd
from lightgbm.basic import LightGBMError
from pydantic import Field, RootModel
from safetensors import SafetensorError

from stages.command import InputError
from stages.parallel import spread
from stages.quantile.gbm import GBMAttacker, GBMOptions
from stages.quantile.inputs import Inputs
from stages.quantile.marginal import MarginalAttacker, MarginalOptions
from stages.quantile.mlp import MLPAttacker, MLPOptions
from stages.quantile.predictions import Prediction, mean_pinball_loss
from stages.quantile.resnet import ResNetAttacker, ResNetOptions

LearnerOptions: TypeAlias = MarginalOptions | GBMOptions | MLPOptions | ResNetOptions
Learner = RootModel[Annotated[LearnerOptions, Field(discriminator="kind")]]  # an entry of the registry
FEWEST = 50  # distinct auxiliary images that a bag can be fitted on
WATCHED = 500  # images of each sort whose loss is followed while an attacker is fitted


class Attacker(Protocol):
    """One fitted learner: the distribution of a non-member's log scores given its image."""

    @classmethod
    def fit(
        cls, inputs: Inputs, log_scores: np.ndarray, options: Any, seed: int, watch: Callable[[int, Any], None]
    ) -> Self: ...
    def predict(self, inputs: Inputs) -> Prediction: ...
    def save(self, folder: Path) -> None: ...
    @classmethod
    def load(cls, folder: Path, options: Any) -> Self: ...


ATTACKERS: dict[str, type[Attacker]] = {
    "marginal": MarginalAttacker,
    "gbm": GBMAttacker,
    "mlp": MLPAttacker,
    "resnet": ResNetAttacker,
}


@dataclass(frozen=True)
class Resample:
    """What one attacker is fitted on.  rows : (n,) indices, with repeats.  unseen : (N,) bool, images it never sees."""

    rows: np.ndarray
    unseen: np.ndarray


def bootstrap(count: int, seed: int, attacker: int) -> np.ndarray:
    """The resample of one attacker: `count` indices in 0..count - 1, drawn with replacement."""
    return np.random.default_rng([seed, attacker]).integers(count, size=count)


def attacker_seed(seed: int, attacker: int) -> int:
    """What one attacker of a bag draws its initial weights, batches and features from."""
    return seed * 10_007 + attacker


def resamples(hashes: list[str], kept: np.ndarray, seed: int, bag_size: int) -> list[Resample]:
    """A resample for each attacker, of the images that are not kept apart.

    hashes : of the N images' pixels: an attacker has seen an image if it has seen its pixels.  kept : (N,) bool.
    """
    _, image = np.unique(hashes, return_inverse=True)  # (N,)
    free = np.flatnonzero(~np.isin(image, image[kept]))
    drawn = [free[bootstrap(len(free), seed, attacker)] for attacker in range(bag_size)]
    return [Resample(rows, ~np.isin(image, image[rows])) for rows in drawn]


def kept_apart(hashes: list[str], count: int, seed: int) -> np.ndarray:
    """(N,) bool: `count` distinct images, and their copies, that no attacker is fitted on."""
    distinct, image = np.unique(hashes, return_inverse=True)
    chosen = np.random.default_rng([seed, len(distinct)]).permutation(len(distinct))[:count]
    return np.isin(image, chosen)


def fit_attacker(
    inputs: Inputs, log_scores: np.ndarray, options: LearnerOptions, seed: int, resample: Resample
) -> tuple[Attacker, pd.DataFrame]:
    """One attacker, and its loss on the way: columns step, seen and unseen (mean pinball losses).

    log_scores : (N, S) float64.
    """
    looked_at = {
        "seen": np.unique(resample.rows)[:WATCHED],
        "unseen": np.flatnonzero(resample.unseen)[:WATCHED],
    }
    curve = []

    def watch(step: int, attacker: Attacker) -> None:
        losses = {
            name: mean_pinball_loss(attacker.predict(inputs[rows]), log_scores[rows])
            for name, rows in looked_at.items()
            if len(rows)
        }
        curve.append({"step": step, **losses})

    fit = ATTACKERS[options.kind].fit
    attacker = fit(inputs[resample.rows], log_scores[resample.rows], options, seed, watch)
    return attacker, pd.DataFrame(curve, columns=["step", *looked_at])


@dataclass(frozen=True)
class Bag:
    """A fitted bag in its folder.  description : bag.json, what it was fitted on and how."""

    folder: Path
    description: dict[str, Any]

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Read bag.json.  Raises InputError for a folder that is no bag."""
        try:
            description = json.loads((folder / "bag.json").read_text(encoding="utf-8"))
            Learner.model_validate(description["options"])
            return cls(folder, {**description, "bag_size": int(description["bag_size"])})
        except (OSError, KeyError, ValueError) as error:
            raise InputError(f"{folder}: not a whole bag: {error}") from None

    def save(self) -> None:
        """Write bag.json."""
        text = json.dumps(self.description, indent=2, sort_keys=True)
        (self.folder / "bag.json").write_text(text + "\n", encoding="utf-8")

    def attacker(self, number: int) -> Attacker:
        """Read one attacker.  Raises InputError if it is not whole."""
        options = Learner.model_validate(self.description["options"]).root
        try:
            return ATTACKERS[options.kind].load(attacker_folder(self.folder, number), options)
        except (OSError, KeyError, ValueError, RuntimeError, SafetensorError, LightGBMError) as error:
            raise InputError(f"{self.folder}: not a whole bag: attacker {number}: {error}") from None


def attacker_folder(folder: Path, number: int) -> Path:
    """Where an attacker of a bag has its files."""
    return folder / f"attacker_{number:03d}"


def predict_all(bag: Bag, inputs: Inputs, of: str) -> dict[str, np.ndarray]:
    """What all attackers predict: column of a table of predictions -> (N, L), one after the other.  of : whose images.

    Raises InputError where a value is NaN or inf.
    """
    size, scores = bag.description["bag_size"], bag.description["scores"]
    predicted = spread(_columns, [(bag, number, inputs) for number in range(size)], f"predict {of}")
    columns = {
        f"{scores[score]}.{what}": np.concatenate([attacker[score, what] for attacker in predicted], axis=1)
        for score, what in predicted[0]
    }
    if not all(np.isfinite(values).all() for values in columns.values()):
        raise InputError(f"{bag.folder}: predicts NaN or inf for {of} images: a lower learning_rate helps")
    return columns


def _columns(bag: Bag, number: int, inputs: Inputs) -> dict[tuple[int, str], np.ndarray]:
    """What one attacker predicts, each (N, L), by score and column."""
    prediction = bag.attacker(number).predict(inputs)
    scores = range(len(bag.description["scores"]))
    return {(score, what): values for score in scores for what, values in prediction.columns(score).items()}
