"""Bags in memory: `QuantileBag` for a notebook, `BagRunner` for studies and benchmarks.

Either fits and judges as `fit`, `predict` and `evaluate` do.  `BagRunner` keeps the z-scores of each attacker, not the
attacker, until its stage is done: a killed run goes on from there, and two experiments share an attacker.
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
from leakgauge.inference.conformal import AttackResult, judge
from leakgauge.inference.fusion import fuse
from leakgauge.quantile.bag import (
    DEFAULTS,
    FEWEST_IMAGES,
    NETWORKS,
    LearnerOptions,
    attacker_class,
    attacker_seed,
    fit_attacker,
    fit_attackers,
    fitted_at_once,
)
from leakgauge.quantile.base import Resample, resamples
from leakgauge.quantile.inputs import Inputs
from leakgauge.tables import decode_images, log_scores, read_features, read_table


class QuantileBag:
    """Quantile regression of non-members' log scores, by B attackers on bootstrap resamples; the majority votes.

    Tang et al., arXiv 2312.05140.  In memory; `stages/fit.py` keeps a bag on disk.  Everywhere X : (N, F) float32
    features, or `Inputs` where the learner needs pixels; log_scores : (N,) float64, lower is more member-like, or
    (N, S) of S scores, which are fused.  Auxiliary images must be distinct: a copy would not be out of bag.  Raises
    ValueError where X and log_scores do not go together, or hold NaN or inf.
    """

    def __init__(self, learner: str | LearnerOptions = "mlp", n_attackers: int = 20, seed: int = 0) -> None:
        """learner : a name in `DEFAULTS`, or options.  seed : of every draw; the same seed gives the same bag."""
        if isinstance(learner, str) and learner not in DEFAULTS:
            raise ValueError(f"no learner '{learner}'; there are {', '.join(DEFAULTS)}")
        self.options = DEFAULTS[learner] if isinstance(learner, str) else learner
        self.n_attackers, self.seed = n_attackers, seed

    def fit(self, X: np.ndarray | Inputs, log_scores: np.ndarray) -> Self:
        """Learn from auxiliary images, which are certainly no members, at least `FEWEST_IMAGES`.  Raises ValueError."""
        inputs, values = self._checked(X, log_scores)
        self.log_scores_ndim, self.scores = np.ndim(log_scores), values.shape[1]
        if len(values) < FEWEST_IMAGES:
            raise ValueError(f"{len(values)} auxiliary images; a bag needs at least {FEWEST_IMAGES}")
        drawn = resamples(np.zeros(len(values), dtype=bool), self.seed, self.n_attackers)
        seeds = [attacker_seed(self.seed, number) for number in range(self.n_attackers)]
        size = fitted_at_once(self.options)
        jobs = [
            (inputs, values, self.options, seeds[start : start + size], drawn[start : start + size])
            for start in range(0, self.n_attackers, size)
        ]
        groups = spread(fit_attackers, jobs, f"fit {self.options.kind}", networks=self.options.kind in NETWORKS)
        self.attackers = [attacker for group in groups for attacker, _ in group]
        self.out_of_bag = np.stack([resample.out_of_bag for resample in drawn], axis=1)  # (n, B)
        self.auxiliary_z = self.z_scores(inputs, log_scores)
        return self

    def z_scores(self, X: np.ndarray | Inputs, log_scores: np.ndarray) -> np.ndarray:
        """Each image's log score under each attacker's distribution for that image, (N, B) or (N, B, S)."""
        inputs, values = self._checked(X, log_scores)
        if (np.ndim(log_scores), values.shape[1]) != (self.log_scores_ndim, self.scores):
            raise ValueError(f"log_scores are {np.shape(log_scores)}; the bag was fitted on {self.scores} score(s)")
        z = np.stack([attacker.predict(inputs).z_scores(values) for attacker in self.attackers], axis=1)
        return z if np.ndim(log_scores) == 2 else z[..., 0]

    def membership_scores(self, X: np.ndarray | Inputs, log_scores: np.ndarray) -> np.ndarray:
        """The vote as one number an image, higher is more member-like.  Returns (N,)."""
        return self._judge(X, log_scores).membership_score["asked"]

    def p_values(self, X: np.ndarray | Inputs, log_scores: np.ndarray) -> np.ndarray:
        """Of "not a member", calibrated out of bag on the auxiliary images.  Returns (N,)."""
        return self._judge(X, log_scores).p_value["asked"]

    def _judge(self, X: np.ndarray | Inputs, log_scores: np.ndarray) -> AttackResult:
        asked, auxiliary = (fuse(z) if z.ndim == 3 else z for z in (self.z_scores(X, log_scores), self.auxiliary_z))
        everything = np.ones(len(auxiliary), dtype=bool)
        return judge({"asked": asked}, auxiliary, self.out_of_bag, everything)

    def _checked(self, X: np.ndarray | Inputs, log_scores: np.ndarray) -> tuple[Inputs, np.ndarray]:
        """N images and their log scores, (N, S) float64.  Raises ValueError."""
        if isinstance(X, Inputs):
            inputs = X
        elif attacker_class(self.options.kind).needs_pixels:
            raise ValueError(f"{self.options.kind} needs pixels: X must be `Inputs(images, features)`")
        else:
            inputs = Inputs(np.empty((len(X), 0, 0, 0), dtype=np.uint8), np.asarray(X, dtype=np.float32))
        values = np.asarray(log_scores, dtype=np.float64)
        values = values[:, None] if values.ndim == 1 else values
        if len(X) != len(values):
            raise ValueError(f"X has {len(X)} images, log_scores {len(values)}")
        if not all(np.isfinite(one).all() for one in (values, inputs.features[:], inputs.under_base, inputs.own_base)):
            raise ValueError("X or log_scores hold NaN or inf; the logarithm of a score of 0 is -inf")
        return inputs, values


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

    z: dict[str, np.ndarray]  # role -> (N, B, S)
    out_of_bag: np.ndarray  # (n, B) bool: the attackers that never saw each auxiliary image
    out_of_bag_loss: float  # mean pinball loss, as in bag.json

    def judge(self, column: int = 0) -> AttackResult:
        """Its result by one of the columns that it learnt."""
        return self._judge({role: z[..., column] for role, z in self.z.items()})

    def fused(self) -> AttackResult:
        """Its result by all of them, fused as `evaluate` does it."""
        return self._judge({role: fuse(z) for role, z in self.z.items()})

    def _judge(self, z: dict[str, np.ndarray]) -> AttackResult:
        auxiliary = z.pop("auxiliary")
        return judge(z, auxiliary, self.out_of_bag, np.ones(len(auxiliary), dtype=bool))


@dataclass(frozen=True)
class BagRunner:
    """The images of an audit, and the folder for unfinished work."""

    roles: dict[str, Scored]  # member, auxiliary and holdout
    seed: int
    folder: Path

    def fit(self, learner: Named, size: int, columns: list[str], rows: np.ndarray, what: str) -> Fitted:
        """A bag of `size` attackers that learn `columns` of some auxiliary images, calibrated out of bag on them.

        rows : which auxiliary images, (n,) rows.  what : shown beside the progress bar.  Raises InputError.
        """
        roles = self.roles | {"auxiliary": self.roles["auxiliary"][rows]}
        drawn = resamples(np.zeros(len(rows), dtype=bool), self.seed, size)
        folder = self.folder / _key(learner, columns, rows)
        paths = [folder / f"attacker_{number:03d}.safetensors" for number in range(size)]
        jobs = [
            (roles, columns, learner, attacker_seed(self.seed, number), drawn[number], path)
            for number, path in enumerate(paths)
            if not path.exists()
        ]
        spread(_fit_one, jobs, what)
        said = [load_file(path) for path in paths]
        z = {role: np.stack([of[role] for of in said], axis=1) for role in roles}
        out_of_bag = np.stack([resample.out_of_bag for resample in drawn], axis=1)
        return Fitted(z, out_of_bag, float(np.mean([of["out_of_bag_loss"][0] for of in said])))


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
