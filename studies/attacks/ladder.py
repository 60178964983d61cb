"""The attacks of the literature on one target that need no other model of its size, each with what it takes."""

import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from leakgauge.compute import best_device
from leakgauge.diffusion.denoiser import Denoiser
from studies.attacks.secmi_nns import FOLDS, secmi_nns, step_differences
from studies.measurement import Audit, BagOptions, fit_bag

ONE, EACH, FUSED = "one threshold", "one for each image", "all scores together"
PREDICTIONS, API = "the model's predictions", "an image-to-image API"
COLUMNS = ["attack", "rule", "column", "knowledge", "network_calls", "models_trained", "training_seconds"]


class Attack(NamedTuple):
    """What `COLUMNS` say of an attack, and its membership scores."""

    attack: str
    rule: str
    column: str  # the score column behind it
    knowledge: str  # what the attacker must have
    network_calls: int  # an image; a backward pass counts as two
    models_trained: int
    training_seconds: float
    membership_score: dict[str, np.ndarray]  # of members and holdout, higher is more member-like


def single_scores(audit: Audit, chosen: dict[str, str], calls: dict[str, int]) -> list[Attack]:
    """Each family's score with one threshold for all images.  chosen : family -> column."""
    attacks = []
    for family, column in chosen.items():
        membership_score = {role: -audit.roles[role].log_scores[column] for role in ("member", "holdout")}
        knows = API if family == "ReDiffuse" else PREDICTIONS
        attacks.append(Attack(family, ONE, column, knows, calls[column], 0, 0.0, membership_score))
    return attacks


def quantile_bags(
    audit: Audit, chosen: dict[str, str], calls: dict[str, int], bag: BagOptions, folder: Path
) -> list[Attack]:
    """A quantile bag on each family's score, and one that learns all of them and fuses them."""
    attacks = []
    for family, column in chosen.items():
        started = time.monotonic()
        membership_score = (
            fit_bag(audit.roles, [column], bag, folder / "bags", f"bag on {family}").judge().membership_score
        )
        spent, knows = time.monotonic() - started, API if family == "ReDiffuse" else PREDICTIONS
        knows = f"{knows}, non-members"
        attacks.append(Attack(family, EACH, column, knows, calls[column], bag.size, spent, membership_score))
    started, columns = time.monotonic(), list(chosen.values())
    membership_score = fit_bag(audit.roles, columns, bag, folder / "bags", "bag on all").fused().membership_score
    total, spent = sum(calls[column] for column in columns), time.monotonic() - started
    knows = f"{PREDICTIONS}, non-members"
    return [*attacks, Attack("fusion", FUSED, " ".join(columns), knows, total, bag.size, spent, membership_score)]


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
