"""A bag: B small attackers, each fitted on its own bootstrap resample of the auxiliary images; the marginal learner.

Breiman, "Bagging Predictors", Machine Learning 1996; Tang et al., arXiv 2312.05140.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np
import pandas as pd
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from leakgauge.compute import best_device, spread
from leakgauge.errors import InputError
from leakgauge.options import (
    GBMOptions,
    Learner,
    LearnerOptions,
    LinearOptions,
    MarginalOptions,
    MLPOptions,
    ResNetOptions,
)
from leakgauge.quantile.base import LEVELS, LocationScale, Prediction, Quantiles, Resample
from leakgauge.quantile.inputs import Inputs, TrainingSet
from leakgauge.quantile.regression import Regression, shifted

if TYPE_CHECKING:
    from leakgauge.quantile.networks import NetworkAttacker

REGRESSION = "regression.safetensors"


class MarginalAttacker:
    """Quantiles of the auxiliary log scores, or of what a regression left of them; the image is not looked at."""

    needs_pixels = False

    def __init__(self, quantiles: np.ndarray) -> None:
        self.quantiles = quantiles  # (S, K) float64

    @classmethod
    def fit(cls, training_set: TrainingSet, options: MarginalOptions | LinearOptions, seed: int) -> Self:
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
    def load(cls, folder: Path, options: MarginalOptions | LinearOptions) -> Self:
        """Read what `save` wrote."""
        return cls(load_file(folder / "quantiles.safetensors")["quantiles"])


DEFAULTS: dict[str, LearnerOptions] = {
    "marginal": MarginalOptions(),
    "linear": LinearOptions(),
    "gbm": GBMOptions(),
    "mlp": MLPOptions(),
    "resnet": ResNetOptions(),
}
FEWEST_IMAGES = 50  # distinct auxiliary images that a bag can be fitted on
TOGETHER = 16  # networks that a GPU trains at once, for their activations must fit into it


class Attacker(Protocol):
    """One fitted learner: the distribution of a non-member's log scores given its image."""

    needs_pixels: bool  # or at their features alone

    def predict(self, inputs: Inputs) -> Prediction: ...
    def save(self, folder: Path) -> None: ...


class Kind(Attacker, Protocol):
    """A kind of learner."""

    @classmethod
    def fit(cls, training_set: TrainingSet, options: Any, seed: int) -> Self: ...
    @classmethod
    def load(cls, folder: Path, options: Any) -> Self: ...


NETWORKS = ("mlp", "resnet")  # kinds that are networks, for a GPU


def attacker_class(kind: str) -> type[Kind]:
    """The class of a kind of learner.  Only its own module is imported: LightGBM and torch take seconds."""
    if kind == "gbm":
        from leakgauge.quantile.gbm import GBMAttacker

        return GBMAttacker
    return network_class(kind) if kind in NETWORKS else MarginalAttacker


def network_class(kind: str) -> "type[NetworkAttacker]":
    """The same of a kind in `NETWORKS`."""
    from leakgauge.quantile.networks import MLPAttacker, ResNetAttacker

    return MLPAttacker if kind == "mlp" else ResNetAttacker


def attacker_seed(seed: int, attacker: int) -> int:
    """What one attacker of a bag draws its initial weights, batches and features from."""
    return seed * 10_007 + attacker


def fitted_at_once(options: LearnerOptions) -> int:
    """How many attackers of a bag are fitted at once: a GPU, which one small network leaves idle, trains several."""
    several = options.kind in NETWORKS and best_device().type == "cuda"
    return TOGETHER if several else 1


def fit_attackers(
    inputs: Inputs, log_scores: np.ndarray, options: LearnerOptions, seeds: list[int], drawn: list[Resample]
) -> list[tuple[Attacker, pd.DataFrame]]:
    """Attackers, networks of them at once, and the loss of each on the way: columns step, train and out_of_bag.

    log_scores : (N, S) float64.
    """
    seen = regressors(inputs, options)
    if seen is None:
        return _fit_kind([TrainingSet(inputs, log_scores, resample) for resample in drawn], options, seeds)
    ratios = log_scores - inputs.own_base if inputs.has_base else log_scores
    regressions = [Regression.fit(seen, ratios, resample.rows) for resample in drawn]
    left = [ratios - regression.predict(seen) for regression in regressions]
    training_sets = [TrainingSet(inputs, residual, resample) for residual, resample in zip(left, drawn, strict=True)]
    fitted = _fit_kind(training_sets, options, seeds)
    return [
        (OfResidual(attacker, regression, options), curve)
        for (attacker, curve), regression in zip(fitted, regressions, strict=True)
    ]


def _fit_kind(
    training_sets: list[TrainingSet], options: LearnerOptions, seeds: list[int]
) -> list[tuple[Attacker, pd.DataFrame]]:
    if options.kind in NETWORKS:
        attackers: list[Attacker] = [*network_class(options.kind).fit_together(training_sets, options, seeds)]
    else:
        kind = attacker_class(options.kind)
        attackers = [
            kind.fit(training_set, options, seed) for training_set, seed in zip(training_sets, seeds, strict=True)
        ]
    return [(attacker, training_set.curve()) for attacker, training_set in zip(attackers, training_sets, strict=True)]


def regressors(inputs: Inputs, options: LearnerOptions) -> np.ndarray | None:
    """What a learner's log scores are regressed on before it learns the rest, (N, K); None: on nothing."""
    if options.kind == "marginal":
        return None
    if inputs.has_base:
        return inputs.under_base
    return inputs.features if options.kind == "linear" else None


class OfResidual:
    """An attacker that learnt what a regression leaves of log scores, or of their ratio to those under a base.

    It predicts the log scores.
    """

    def __init__(self, attacker: Attacker, regression: Regression, options: LearnerOptions) -> None:
        self.attacker, self.regression, self.options = attacker, regression, options
        self.needs_pixels = attacker.needs_pixels

    def predict(self, inputs: Inputs) -> Prediction:
        """The residual's distribution, moved by what the regression foretells."""
        seen = regressors(inputs, self.options)
        if seen is None or seen.shape[1] != len(self.regression.mean):
            raise InputError("an attacker was fitted beside the scores of another base: run `dvc repro`")
        foretold = self.regression.predict(seen)
        return shifted(self.attacker.predict(inputs), foretold + inputs.own_base if inputs.has_base else foretold)

    def save(self, folder: Path) -> None:
        """Write regression.safetensors beside the attacker's own files."""
        self.attacker.save(folder)
        self.regression.save(folder / REGRESSION)


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
        options, folder = self.options, attacker_folder(self.folder, number)
        try:
            attacker = attacker_class(options.kind).load(folder, options)
            if not self.description.get("regressors"):
                return attacker
            return OfResidual(attacker, Regression.load(folder / REGRESSION), options)
        except (OSError, KeyError, ValueError, RuntimeError, SafetensorError) as error:
            raise InputError(f"{self.folder}: not a whole bag: attacker {number}: {error}") from None


def attacker_folder(folder: Path, number: int) -> Path:
    """Where an attacker of a bag has its files."""
    return folder / f"attacker_{number:03d}"


def z_columns(bag: Bag, inputs: Inputs, log_scores: np.ndarray, of: str) -> dict[str, np.ndarray]:
    """Observed scores under all attackers: column of a table of z-scores -> (N, B) float32.

    log_scores : (N, S) float64 of the images' scores, in the order of the bag's.  of : whose images.  Columns are
    `<score>.z`, and `<score>.log_scale` where attackers predict Gaussians.  Raises InputError where one is NaN or inf.
    """
    size, scores = bag.description["bag_size"], bag.description["scores"]
    jobs = [(bag, number, inputs, log_scores) for number in range(size)]
    found = spread(_under_one, jobs, f"predict {of}", networks=bag.options.kind in NETWORKS)
    columns = {
        f"{score}.{what}": np.stack([attacker[what][:, place] for attacker in found], axis=1)
        for place, score in enumerate(scores)
        for what in found[0]
    }
    if not all(np.isfinite(values).all() for values in columns.values()):
        raise InputError(f"{bag.folder}: predicts NaN or inf for {of} images: a lower learning_rate helps")
    return columns


def _under_one(bag: Bag, number: int, inputs: Inputs, log_scores: np.ndarray) -> dict[str, np.ndarray]:
    """What one attacker says, each (N, S) float32."""
    prediction = bag.attacker(number).predict(inputs)
    found = {"z": prediction.z_scores(log_scores).astype(np.float32)}
    if isinstance(prediction, LocationScale):
        found["log_scale"] = np.log(prediction.scale).astype(np.float32)
    return found
