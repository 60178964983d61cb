"""Fit bags in memory and judge with them, as the audit does: for ablations, studies and benchmarks.

Where experiments have their bags fitted: as `fit`, `predict` and `evaluate` would, without keeping the attackers.

What is kept, until the whole stage is done, is what each attacker says of every image.  A killed run goes on from
there, and an attacker that two experiments need is fitted once.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from safetensors.numpy import load_file, save

from leakgauge.compute import spread
from leakgauge.config import PARAMS
from leakgauge.errors import InputError
from leakgauge.files import write_bytes
from leakgauge.inference.conformal import AttackResult
from leakgauge.inference.z_scores import ZScores
from leakgauge.quantile.bag import LearnerOptions, attacker_seed, fit_attacker
from leakgauge.quantile.base import Resample, resamples
from leakgauge.quantile.inputs import Inputs
from leakgauge.tables import decode_images, log_scores, read_features, read_table


@dataclass(frozen=True)
class Scored:
    """N images of one role."""

    inputs: Inputs
    hashes: np.ndarray  # (N,) of the pixels, as strings
    log_scores: dict[str, np.ndarray]  # column -> (N,) float64

    def __len__(self) -> int:
        return len(self.hashes)

    def __getitem__(self, rows: np.ndarray) -> Self:
        """Those of some rows, in their order."""
        scores = {column: values[rows] for column, values in self.log_scores.items()}
        return type(self)(self.inputs[rows], self.hashes[rows], scores)


def read_scored(images: Path, features: Path, scores: Path, columns: list[str], kept: np.ndarray) -> Scored:
    """Read the images of a role that count.  kept : (N,) bool, over the rows of the tables.

    Raises InputError if the tables tell of different images, or a score has no logarithm.
    """
    rows = read_table(images)
    ids, hashes = (rows.column(name).to_pylist() for name in ("image_id", "sha256"))
    for path in (features, scores):
        if read_table(path, ["image_id"]).column("image_id").to_pylist() != ids:
            raise InputError(f"{path}: its image_ids do not match {images}: run `dvc repro`")
    inputs = Inputs(decode_images(rows), read_features(features)[1])
    return Scored(inputs, np.array(hashes), {column: log_scores(scores, column) for column in columns})[kept]


@dataclass(frozen=True)
class Named:
    """A learner: its name in the registry `learners`, and its options."""

    name: str
    options: LearnerOptions


@dataclass(frozen=True)
class Fitted:
    """What is left of a bag: what it says of the images, and how well it foretold those that it had not seen."""

    z_scores: ZScores
    out_of_bag_loss: float  # mean pinball loss, as in bag.json

    def judge(self, column: int = 0) -> AttackResult:
        """Its result by one of the columns that it learnt."""
        return self.z_scores.judge(lambda z: z[..., column])


@dataclass(frozen=True)
class BagRunner:
    """The images of an audit, and the folder for unfinished work."""

    roles: dict[str, Scored]  # member, auxiliary and holdout
    seed: int
    folder: Path

    def fit(self, learner: Named, size: int, columns: list[str], rows: np.ndarray, what: str) -> Fitted:
        """A bag of `size` attackers that learn `columns` of some auxiliary images, calibrated out of bag on them.

        rows : which auxiliary images, (n,) rows.  what : told beside the progress bar.  Raises InputError.
        """
        roles = self.roles | {"auxiliary": self.roles["auxiliary"][rows]}
        no_split = np.zeros(len(rows), dtype=bool)
        drawn = resamples(no_split, self.seed, size)
        folder = self.folder / _key(learner, columns, rows)
        paths = [folder / f"attacker_{number:03d}.safetensors" for number in range(size)]
        jobs = [
            (roles, columns, learner, attacker_seed(self.seed, number), drawn[number], path)
            for number, path in enumerate(paths)
            if not path.exists()
        ]
        spread(_fit_one, jobs, what)
        said = [load_file(path) for path in paths]
        z = {role: [np.stack([of[role] for of in said], axis=1)] for role in roles}  # in one piece, (N, B, S)
        out_of_bag = np.stack([resample.out_of_bag for resample in drawn], axis=1)
        z_scores = ZScores({"score": columns[0], "scores": columns}, z, out_of_bag, ~no_split)
        return Fitted(z_scores, float(np.mean([of["out_of_bag_loss"][0] for of in said])))


def _key(learner: Named, columns: list[str], rows: np.ndarray) -> str:
    """The name of what a bag is, but for its size."""
    parts = [learner.options.model_dump(), columns, rows.tolist()]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _fit_one(
    roles: dict[str, Scored], columns: list[str], learner: Named, seed: int, resample: Resample, destination: Path
) -> None:
    """Fit one attacker and write the z-scores, (N, S) a role, that images have under it."""
    auxiliary = roles["auxiliary"]
    attacker, curve = fit_attacker(auxiliary.inputs, _stacked(auxiliary, columns), learner.options, seed, resample)
    said = {role: attacker.predict(of.inputs).z_scores(_stacked(of, columns)) for role, of in roles.items()}
    if not all(np.isfinite(z).all() for z in said.values()):
        raise InputError(f"{PARAMS}: learners.{learner.name}: predicts NaN or inf: a lower learning_rate helps")
    write_bytes(destination, save({**said, "out_of_bag_loss": curve["out_of_bag"].to_numpy()[-1:]}))


def _stacked(images: Scored, columns: list[str]) -> np.ndarray:
    """(N, S) log scores."""
    return np.stack([images.log_scores[column] for column in columns], axis=1)
