"""beyond: does the method carry over to a model that is no diffusion?  A small VAE on the same members.

Its scores are the reconstruction error, whose logarithm is learnt like a t-error's, and the negative ELBO, which is a
logarithm already and is learnt in nats.

data/{images,features}/<dataset>.parquet, data/scores/<view>.parquet (for comparison) -> metrics/beyond.csv,
metrics/figures/beyond.png
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from pydantic import NonNegativeInt

from leakgauge.bags import Scored
from leakgauge.cli import run
from leakgauge.files import resumable, write_bytes
from leakgauge.inference.conformal import AttackResult
from leakgauge.inference.roc import exact_rate
from leakgauge.options import Options
from leakgauge.quantile.inputs import Inputs
from studies.charts.beyond import draw
from studies.generative.vae import VAEOptions, train_vae, vae_scores
from studies.measurement import (
    ONE_FOR_ALL,
    PER_IMAGE,
    BagOptions,
    Measure,
    audits_of,
    fit_bag,
    one_for_all,
    options,
    reached,
    with_means,
    write_csv,
)
from studies.population import Population, draw_roles, read_population
from studies.settings import entry, section
from studies.targets.recipe import Recipe

SETTING = ["model", "score", "rule"]


class Beyond(Options):
    """Section `beyond`."""

    seeds: list[NonNegativeInt]
    shares_of: str  # a name in the registry `models`: whose members train the VAE
    reference: str  # a view of that model
    vae: VAEOptions


def beyond() -> None:
    """Write metrics/beyond.csv and its figure."""
    asked, bag = options()
    own, population = section("beyond", Beyond), read_population()
    shares = entry("models", own.shares_of, "model", Recipe).shares
    references = audits_of(own.reference, population, own.seeds)
    inputs = [Path(f"data/scores/{own.reference}.parquet"), Path(__file__).parent / "generative"]
    rows = []
    with resumable("beyond", [own.model_dump(), asked.model_dump(), bag.model_dump()], inputs) as folder:
        for seed, reference in zip(own.seeds, references, strict=True):
            of_vae = vae_roles(own.vae, population, draw_roles(population.hashes, shares, seed), seed)
            work = folder / str(seed)
            rows += of_model("VAE", of_vae, ["reconstruction", "negative_elbo"], asked, bag, work / "vae", seed)
            rows += of_model("DDPM", reference.roles, [asked.score], asked, bag, work / "ddpm", seed)
        table = with_means(pd.DataFrame(rows), SETTING, asked.confidence)
        write_csv(Path("metrics/beyond.csv"), table)
        write_bytes(Path("metrics/figures/beyond.png"), draw(table, asked.fpr, asked.alphas))


def vae_roles(how: VAEOptions, of: Population, roles: dict[str, np.ndarray], seed: int) -> dict[str, Scored]:
    """Train on the members, and score all_rows."""
    x = torch.from_numpy(of.pixels.reshape(len(of), -1)).float() / 255
    model, scored = train_vae(x[roles["member"]], how, seed), {}
    for role, rows in roles.items():
        scores = vae_scores(model, x[rows], of.ids[rows].tolist())
        logs = {"reconstruction": scores["reconstruction"].log(), "negative_elbo": scores["negative_elbo"]}
        inputs = Inputs(of.pixels[rows], of.features[rows])
        scored[role] = Scored(inputs, of.hashes[rows], {name: values.numpy() for name, values in logs.items()})
    return scored


def of_model(
    model: str, roles: dict[str, Scored], columns: list[str], asked: Measure, bag: BagOptions, folder: Path, seed: int
) -> list[dict[str, Any]]:
    """A row a score and rule: power, the medians that tell overfitting, and what calibrated verdicts realise."""
    fitted, rows = fit_bag(roles, columns, bag, folder, f"{model}, seed {seed}"), []
    for place, column in enumerate(columns):
        result = fitted.judge(place)
        medians = {f"{role}_median": float(np.median(roles[role].log_scores[column])) for role in ("member", "holdout")}
        of = {"model": model, "score": column, "seed": seed}
        each = reached(result.membership_score["member"], result.membership_score["holdout"], asked)
        rows.append(of | {"rule": ONE_FOR_ALL} | one_for_all(roles, column, asked) | medians)
        rows.append(of | {"rule": PER_IMAGE} | each | medians | realised(result, asked))
    return [{name: row.get(name, np.nan) for name in rows[-1]} for row in rows]


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
