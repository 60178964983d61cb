"""Where experiments have their bags fitted: as `fit`, `predict` and `evaluate` would, without keeping the attackers.

What is kept, until the whole stage is done, is what each attacker says of every image.  A killed run goes on from
there, and an attacker that two experiments need is fitted once.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from safetensors.numpy import load_file, save

from stages.command import InputError
from stages.experiments.scored import Scored
from stages.files import write_bytes
from stages.parallel import spread
from stages.params import PARAMS
from stages.quantile.bag import LearnerOptions, attacker_seed, fit_attacker
from stages.quantile.predictions import LEVELS, Prediction
from stages.quantile.resamples import Resample, resamples
from stages.statistics.evidence import Evidence, normal_scores
from stages.statistics.judgement import Judgement
from stages.tables import list_column


@dataclass(frozen=True)
class Named:
    """A learner: its name in the registry `learners`, and its options."""

    name: str
    options: LearnerOptions


@dataclass(frozen=True)
class Fitted:
    """What is left of a bag: what it says of the images, and how well it foretold those that it had not seen."""

    evidence: Evidence
    unseen_loss: float  # mean pinball loss, as in bag.json

    def judge(self, column: int = 0) -> Judgement:
        """Its judgement by one of the columns that it learnt."""
        return self.evidence.judge(lambda z: z[..., column])


@dataclass(frozen=True)
class Workshop:
    """The images of an audit, and the folder for unfinished work."""

    roles: dict[str, Scored]  # member, auxiliary and holdout
    seed: int
    folder: Path

    def fit(self, learner: Named, size: int, columns: list[str], taught: np.ndarray, what: str) -> Fitted:
        """A bag of `size` attackers that learn `columns` of some auxiliary images, calibrated out of bag on them.

        taught : which auxiliary images, (n,) rows.  what : told beside the progress bar.  Raises InputError.
        """
        roles = self.roles | {"auxiliary": self.roles["auxiliary"][taught]}
        none_apart = np.zeros(len(taught), dtype=bool)
        drawn = resamples(none_apart, self.seed, size)
        folder = self.folder / _key(learner, columns, taught)
        paths = [folder / f"attacker_{number:03d}.safetensors" for number in range(size)]
        jobs = [
            (roles, columns, learner, attacker_seed(self.seed, number), drawn[number], path)
            for number, path in enumerate(paths)
            if not path.exists()
        ]
        spread(_fit_one, jobs, what)
        said = [load_file(path) for path in paths]
        z = {role: [np.stack([of[role] for of in said], axis=1)] for role in roles}  # in one piece, (N, B, S)
        unseen = np.stack([resample.unseen for resample in drawn], axis=1)
        evidence = Evidence({"score": columns[0], "scores": columns}, z, unseen, ~none_apart)
        return Fitted(evidence, float(np.mean([of["unseen_loss"][0] for of in said])))


def _key(learner: Named, columns: list[str], taught: np.ndarray) -> str:
    """The name of what a bag is, but for its size."""
    parts = [learner.options.model_dump(), columns, taught.tolist()]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _fit_one(
    roles: dict[str, Scored], columns: list[str], learner: Named, seed: int, resample: Resample, destination: Path
) -> None:
    """Fit one attacker and write the normal scores, (N, S) a role, that images have under it."""
    taught = roles["auxiliary"]
    values = np.stack([taught.log_scores[column] for column in columns], axis=1)  # (n, S)
    attacker, curve = fit_attacker(taught.inputs, values, learner.options, seed, resample)
    said = {role: _normal_scores(attacker.predict(of.inputs), of, columns) for role, of in roles.items()}
    if not all(np.isfinite(z).all() for z in said.values()):
        raise InputError(f"{PARAMS}: learners.{learner.name}: predicts NaN or inf: a lower learning_rate helps")
    write_bytes(destination, save({**said, "unseen_loss": curve["unseen"].to_numpy()[-1:]}))


def _normal_scores(prediction: Prediction, images: Scored, columns: list[str]) -> np.ndarray:
    """What `predict` would store of one attacker, held against the scores as `evaluate` does it.  (N, S)."""
    stored = {
        f"{column}.{what}": list_column(values)
        for number, column in enumerate(columns)
        for what, values in prediction.columns(number).items()
    }
    observed = {column: images.log_scores[column] for column in columns}
    return np.ascontiguousarray(normal_scores(pa.table(stored), observed, np.array(LEVELS))[:, 0])
