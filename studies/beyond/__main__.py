"""beyond: does the method carry over to a model that is no diffusion?  A small VAE on the same members.

Its scores are the reconstruction error, whose logarithm is learnt like a t-error's, and the negative ELBO, which is a
logarithm already and is learnt in nats.

data/{images,features}/<dataset>.parquet, data/scores/<view>.parquet (for comparison) -> metrics/beyond.csv,
metrics/figures/beyond.png
"""

from collections.abc import Iterator

import numpy as np
import torch
from pydantic import NonNegativeInt

from leakgauge.bags import Scored
from leakgauge.cli import run
from leakgauge.inference.conformal import AttackResult
from leakgauge.inference.roc import exact_rate
from leakgauge.options import Options
from leakgauge.quantile.inputs import Inputs
from studies.beyond.figure import draw
from studies.beyond.vae import VAEOptions, train_vae, vae_scores
from studies.common.measurement import PER_IMAGE, by_rule
from studies.common.population import Population, draw_roles
from studies.common.runner import Row, Study, run_study
from studies.common.settings import Measure
from studies.targets.recipe import read_recipe


class Beyond(Options):
    """Section `beyond`."""

    seeds: list[NonNegativeInt]
    shares_of: str  # a name in the registry `models`: whose members train the VAE
    reference: str  # a view of that model
    vae: VAEOptions


def beyond() -> None:
    """Write metrics/beyond.csv and its figure."""
    run_study("beyond", Beyond, rows, {"beyond": draw}, by=["model", "score", "rule"])


def rows(study: Study[Beyond]) -> Iterator[Row]:
    """Of every seed a VAE by both of its scores, and the reference by the t-error."""
    own, shares = study.own, read_recipe(study.own.shares_of).shares
    for seed, reference in zip(own.seeds, study.audits(own.reference, own.seeds), strict=True):
        of_vae = vae_roles(own.vae, study.population, draw_roles(study.population.hashes, shares, seed), seed)
        yield from of_model(study, "VAE", seed, of_vae, ["reconstruction", "negative_elbo"])
        yield from of_model(study, "DDPM", seed, reference.roles, [study.asked.score])


def vae_roles(how: VAEOptions, of: Population, roles: dict[str, np.ndarray], seed: int) -> dict[str, Scored]:
    """Train on the members, and score all.  roles : role -> rows of the images."""
    x = torch.from_numpy(of.pixels.reshape(len(of), -1)).float() / 255
    model, scored = train_vae(x[roles["member"]], how, seed), {}
    for role, rows in roles.items():
        scores = vae_scores(model, x[rows], of.ids[rows].tolist())
        logs = {"reconstruction": scores["reconstruction"].log(), "negative_elbo": scores["negative_elbo"]}
        inputs = Inputs(of.pixels[rows], of.features[rows])
        scored[role] = Scored(inputs, of.hashes[rows], {name: values.numpy() for name, values in logs.items()})
    return scored


def of_model(
    study: Study[Beyond], model: str, seed: int, roles: dict[str, Scored], columns: list[str]
) -> Iterator[Row]:
    """A row a score and rule: power, the medians that tell overfitting, and what calibrated verdicts realise."""
    fitted = study.fit(roles, columns, f"{model}, seed {seed}")
    for place, column in enumerate(columns):
        result = fitted.judge(place)
        medians = {f"{role}_median": float(np.median(roles[role].log_scores[column])) for role in ("member", "holdout")}
        for rule, found in by_rule(roles, column, result, study.asked).items():
            of = {"model": model, "score": column, "seed": seed, "rule": rule} | found | medians
            yield of | (realised(result, study.asked) if rule == PER_IMAGE else {})


def realised(result: AttackResult, asked: Measure) -> dict[str, float]:
    """The FPR of calibrated verdicts at each alpha, with its exact interval."""
    found: dict[str, float] = {}
    for alpha in asked.alphas:
        flagged = result.p_value["holdout"] <= alpha
        rate = exact_rate(int(flagged.sum()), len(flagged), asked.confidence)
        name = f"realised_fpr_at_{alpha:g}"
        found |= {name: rate.value, f"{name}_ci_low": rate.low, f"{name}_ci_high": rate.high}
    return found


if __name__ == "__main__":
    run(beyond)
