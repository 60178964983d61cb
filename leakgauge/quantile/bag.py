"""A bag: B attackers fitted on bootstrap resamples of the auxiliary images; and the membership scoreal learner.

A bag: B small attackers, each fitted on its own bootstrap resample of the auxiliary images.

Breiman, "Bagging Predictors", Machine Learning 1996; Tang et al., arXiv 2312.05140.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, Self, TypeAlias

import numpy as np
import pandas as pd
from lightgbm.basic import LightGBMError
from pydantic import Field, RootModel
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from leakgauge.compute import best_device, spread
from leakgauge.config import Options
from leakgauge.errors import InputError
from leakgauge.quantile.base import LEVELS, Prediction, Quantiles, Resample
from leakgauge.quantile.gbm import GBMAttacker, GBMOptions
from leakgauge.quantile.inputs import Inputs, TrainingSet
from leakgauge.quantile.networks import MLPAttacker, MLPOptions, NetworkAttacker, ResNetAttacker, ResNetOptions


class MarginalOptions(Options):
    """An entry of the `learners` registry."""

    kind: Literal["marginal"]


class MarginalAttacker:
    """Quantiles of the auxiliary log scores; the image is not looked at."""

    needs_pixels = False

    def __init__(self, quantiles: np.ndarray) -> None:
        self.quantiles = quantiles  # (S, K) float64

    @classmethod
    def fit(cls, training_set: TrainingSet, options: MarginalOptions, seed: int) -> Self:
        """The quantiles of the training set."""
        log_scores = training_set.log_scores[training_set.resample.rows]  # (n, S)
        attacker = cls(np.quantile(log_scores, LEVELS, axis=0).T.copy())
        training_set.validate(1, attacker)
        return attacker

    def predict(self, inputs: Inputs) -> Quantiles:
        """The same of every image."""
        return Quantiles(np.tile(self.quantiles, (len(inputs), 1, 1)))

    def save(self, folder: Path) -> None:
        """Write quantiles.safetensors."""
        save_file({"quantiles": self.quantiles}, folder / "quantiles.safetensors")

    @classmethod
    def load(cls, folder: Path, options: MarginalOptions) -> Self:
        """Read what `save` wrote."""
        return cls(load_file(folder / "quantiles.safetensors")["quantiles"])


LearnerOptions: TypeAlias = MarginalOptions | GBMOptions | MLPOptions | ResNetOptions
Learner = RootModel[Annotated[LearnerOptions, Field(discriminator="kind")]]  # an entry of the registry
DEFAULTS: dict[str, LearnerOptions] = {  # as in params.yaml
    "marginal": MarginalOptions(kind="marginal"),
    "gbm": GBMOptions(
        kind="gbm",
        head="location_scale",
        trees=150,
        scale_trees=20,
        leaves=8,
        learning_rate=0.05,
        min_leaf=20,
        feature_fraction=0.3,
    ),
    "mlp": MLPOptions(
        kind="mlp",
        head="location_scale",
        width=64,
        depth=2,
        epochs=20,
        batch_size=64,
        learning_rate=1e-3,
        weight_decay=1.0,
        dropout=0.6,
        precision="float32",
    ),
    "resnet": ResNetOptions(
        kind="resnet",
        head="quantiles",
        width=8,
        blocks=1,
        features=False,
        hidden=64,
        epochs=20,
        batch_size=64,
        learning_rate=1e-2,
        weight_decay=0.01,
        dropout=0.0,
        precision="float32",
    ),
}
FEWEST = 50  # distinct auxiliary images that a bag can be fitted on
TOGETHER = 16  # networks that a GPU trains at once, for their activations must fit into it


class Attacker(Protocol):
    """One fitted learner: the distribution of a non-member's log scores given its image."""

    needs_pixels: bool  # or at their features alone

    @classmethod
    def fit(cls, training_set: TrainingSet, options: Any, seed: int) -> Self: ...
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


def attacker_seed(seed: int, attacker: int) -> int:
    """What one attacker of a bag draws its initial weights, batches and features from."""
    return seed * 10_007 + attacker


def fitted_at_once(options: LearnerOptions) -> int:
    """How many attackers of a bag are fitted at once: a GPU, which one small network leaves idle, trains several."""
    several = issubclass(ATTACKERS[options.kind], NetworkAttacker) and best_device().type == "cuda"
    return TOGETHER if several else 1


def fit_attackers(
    inputs: Inputs, log_scores: np.ndarray, options: LearnerOptions, seeds: list[int], drawn: list[Resample]
) -> list[tuple[Attacker, pd.DataFrame]]:
    """Attackers, networks of them at once, and the loss of each on the way: columns step, train and out_of_bag.

    log_scores : (N, S) float64.
    """
    training_sets = [TrainingSet(inputs, log_scores, resample) for resample in drawn]
    kind = ATTACKERS[options.kind]
    if issubclass(kind, NetworkAttacker):
        attackers: list[Attacker] = [*kind.fit_together(training_sets, options, seeds)]
    else:
        attackers = [
            kind.fit(training_set, options, seed) for training_set, seed in zip(training_sets, seeds, strict=True)
        ]
    return [(attacker, training_set.curve()) for attacker, training_set in zip(attackers, training_sets, strict=True)]


def fit_attacker(
    inputs: Inputs, log_scores: np.ndarray, options: LearnerOptions, seed: int, resample: Resample
) -> tuple[Attacker, pd.DataFrame]:
    """One attacker, and its loss on the way."""
    return fit_attackers(inputs, log_scores, options, [seed], [resample])[0]


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

    @property
    def options(self) -> LearnerOptions:
        """Its learner's."""
        return Learner.model_validate(self.description["options"]).root

    def save(self) -> None:
        """Write bag.json."""
        text = json.dumps(self.description, indent=2, sort_keys=True)
        (self.folder / "bag.json").write_text(text + "\n", encoding="utf-8")

    def attacker(self, number: int) -> Attacker:
        """Read one attacker.  Raises InputError if it is not whole."""
        options = self.options
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
