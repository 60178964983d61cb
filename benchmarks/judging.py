"""Judges of the same images, by scores alone and beside those under other models, and by how much one finds more."""

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from diffusers import DDPMScheduler, UNet2DModel
from tqdm import tqdm

from leakgauge import QuantileBag
from leakgauge.attacks.columns import score_columns
from leakgauge.attacks.registry import score_batch
from leakgauge.diffusion.denoiser import Denoiser
from leakgauge.diffusion.process import NoiseProcess
from leakgauge.inference.conformal import judge
from leakgauge.inference.roc import auc, true_positives_at_fpr
from leakgauge.options import Attacks, TErrorGrid
from leakgauge.quantile.inputs import Inputs

SCORES = ("t_error_t10", "t_error_t20", "pia_t100", "sima_t20")
ATTACKS = Attacks(t_error=TErrorGrid(last=50), pian=[], naive_loss=[])
COLUMNS = [list(score_columns(ATTACKS)).index(name) for name in SCORES]
PROCESS = NoiseProcess.from_scheduler(DDPMScheduler())  # as `train` has it
LEARNERS = ("linear", "gbm", "mlp")
MEASURED = ("member", "holdout")
FPR, CONFIDENCE, ATTACKERS = 0.01, 0.95, 10
DRAWS, BATCH = 2000, 64  # of the bootstrap; images a network call
Judged = dict[str, dict[str, dict[str, list[float]]]]  # score -> judge -> membership scores by role, and p-values


class Judge(NamedTuple):
    """A learner, what it sees of all images, the log scores that it learns, (N, S), and the rows that fit it."""

    learner: str
    inputs: Inputs
    log_scores: np.ndarray
    auxiliary: np.ndarray


def log_scores(network: UNet2DModel, pixels: np.ndarray) -> np.ndarray:
    """(N, columns) float64."""
    target = Denoiser(copy.deepcopy(network), PROCESS, torch.device("cpu"))
    parts = []
    for start in tqdm(range(0, len(pixels), BATCH), desc="score", disable=None):
        part = pixels[start : start + BATCH]
        ids = [f"digit-{start + number}" for number in range(len(part))]
        parts.append(score_batch(target, target.encode(part), ids, ATTACKS).numpy())
    return np.log(np.concatenate(parts))


def judged(judges: dict[str, Judge], rows: dict[str, np.ndarray], seed: int) -> Judged:
    """What each judge says of the members and the holdout.  rows : role -> rows."""
    found: Judged = {score: {} for score in SCORES}
    for name, one in judges.items():
        bag = QuantileBag(one.learner, ATTACKERS, seed).fit(one.inputs[one.auxiliary], one.log_scores[one.auxiliary])
        z = {role: bag.z_scores(one.inputs[rows[role]], one.log_scores[rows[role]]) for role in MEASURED}  # (n, B, S)
        for number, score in enumerate(SCORES):
            of_score = {role: of[..., number] for role, of in z.items()}
            result = judge(of_score, bag.auxiliary_z[..., number], bag.out_of_bag, np.ones(len(bag.out_of_bag), bool))
            found[score][name] = {role: result.membership_score[role].tolist() for role in MEASURED}
            found[score][name]["p_value"] = result.p_value["holdout"].tolist()
    return found


def tpr(member: np.ndarray, holdout: np.ndarray) -> float:
    """The TPR at `FPR`, of membership scores."""
    return (true_positives_at_fpr(member, holdout, FPR) or 0) / len(member)


def area(member: np.ndarray, holdout: np.ndarray) -> float:
    """The AUC, of membership scores."""
    return auc(member, holdout, CONFIDENCE)[0]


def means(of_seeds: list[dict[str, list[float]]]) -> dict[str, Any]:
    """TPR at `FPR`, AUC and the share of the holdout with a p-value of at most `FPR`."""
    whole = [{role: np.array(one[role]) for role in MEASURED} for one in of_seeds]
    return {
        "tpr": float(np.mean([tpr(**one) for one in whole])),
        "auc": float(np.mean([area(**one) for one in whole])),
        "realised": float(np.mean([np.mean(np.array(one["p_value"]) <= FPR + 1e-9) for one in of_seeds])),
    }


def gain(of_seeds: list[dict[str, Any]], one: str, other: str, figure: Callable[..., float] = tpr) -> dict[str, Any]:
    """By how much a figure of a judge is higher, mean over seeds, with a paired bootstrap interval.

    figure : of membership scores of members and holdout.

    Images are drawn anew within each seed, the same for both judges; seeds are as they are.
    """
    rng, draws, observed = np.random.default_rng(0), np.zeros(DRAWS), 0.0
    for of in of_seeds:
        a, b = ({role: np.array(of[name][role]) for role in MEASURED} for name in (one, other))
        observed += (figure(**a) - figure(**b)) / len(of_seeds)
        for draw in range(DRAWS):
            rows = {role: rng.integers(len(a[role]), size=len(a[role])) for role in MEASURED}
            again = (figure(**{role: values[role][rows[role]] for role in MEASURED}) for values in (a, b))
            draws[draw] += (next(again) - next(again)) / len(of_seeds)
    low, high = np.quantile(draws, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return {"gain": observed, "gain_ci_low": float(low), "gain_ci_high": float(high)}
