"""The attacks of the literature on one target that need no other model of its size, each with what it takes."""

import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from leakgauge.compute import best_device
from leakgauge.diffusion.denoiser import Denoiser
from studies.common.audits import Audit
from studies.common.measurement import Scores, as_they_are
from studies.common.runner import Study
from studies.cost.secmi_nns import FOLDS, secmi_nns, step_differences

ONE, EACH, FUSED = "one threshold", "one for each image", "all scores together"
PREDICTIONS, API = "the model's predictions", "an image-to-image API"


class Attack(NamedTuple):
    """What an attack takes, and its membership scores."""

    attack: str
    rule: str
    column: str  # the score column behind it
    knowledge: str  # what the attacker must have
    network_calls: int  # an image; a backward pass counts as two
    models_trained: int
    training_seconds: float
    membership_score: Scores  # of members and holdout


def single_scores(audit: Audit, chosen: dict[str, str], calls: dict[str, int]) -> list[Attack]:
    """Each family's score with one threshold for all images.  chosen : family -> column."""
    return [
        Attack(family, ONE, column, known(family), calls[column], 0, 0.0, as_they_are(audit.roles, column))
        for family, column in chosen.items()
    ]


def quantile_bags(study: Study[Any], audit: Audit, chosen: dict[str, str], calls: dict[str, int]) -> list[Attack]:
    """A quantile bag on each family's score, and one that learns all of them and fuses them."""
    attacks = []
    for family, column in chosen.items():
        started = time.monotonic()
        scores = study.fit(audit.roles, [column], "target").judge().membership_score
        spent, knows = time.monotonic() - started, f"{known(family)}, non-members"
        attacks.append(Attack(family, EACH, column, knows, calls[column], study.bag.size, spent, scores))
    started, columns = time.monotonic(), list(chosen.values())
    scores = study.fit(audit.roles, columns, "target").fused().membership_score
    total, spent = sum(calls[column] for column in columns), time.monotonic() - started
    knows = f"{PREDICTIONS}, non-members"
    return [*attacks, Attack("fusion", FUSED, " ".join(columns), knows, total, study.bag.size, spent, scores)]


def known(family: str) -> str:
    """What an attacker must have to take a family's scores."""
    return API if family == "ReDiffuse" else PREDICTIONS


def labelled(audit: Audit, column: str, interval: int, model: Path) -> list[Attack]:
    """SecMI-NNs at the timestep of the t-error's column.  model : the target's folder."""
    t = int(column.removeprefix("t_error_t"))
    images = [audit.roles[role].inputs.images[:] for role in ("member", "holdout")]
    target = Denoiser.from_pipeline(model, best_device())
    differences = step_differences(target, target.encode(torch.from_numpy(np.concatenate(images))), t, interval).cpu()
    is_member = np.repeat([True, False], [len(part) for part in images])
    started = time.monotonic()
    membership_score = secmi_nns(differences, is_member, audit.seed)
    spent, knows = time.monotonic() - started, f"{PREDICTIONS}, labels of a fifth"
    judged = {"member": membership_score[is_member], "holdout": membership_score[~is_member]}
    return [Attack("SecMI-NNs", "a network", column, knows, t // interval + 2, FOLDS, spent, judged)]
