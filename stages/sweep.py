"""sweep: the paper's experiments on one target: alpha, the number of attackers, timesteps, auxiliary images, width.

Bags are fitted here as `fit` would, on auxiliary images alone, and measured on members and holdout as `evaluate` does;
the audit's verdicts do not depend on them.  A run that was killed goes on after the last attacker it finished.

data/{roles,features,scores}/<target>/*.parquet, data/predictions/<target>/*.parquet, data/selection/<target>.parquet
-> metrics/sweeps/<target>/{alpha,bag_size,timestep,auxiliary,width}.csv
"""

from pathlib import Path
from typing import Literal

import pandas as pd
from pydantic import Field, NonNegativeInt, PositiveInt

from leakgauge.ablations import alpha, auxiliary, bag_size, timestep, width
from leakgauge.bags import BagRunner, Named, read_scored
from leakgauge.cli import run
from leakgauge.config import PARAMS, Options, entry, key_name, names, section
from leakgauge.errors import InputError
from leakgauge.files import resumable, write_bytes
from leakgauge.inference.metrics import Evaluate
from leakgauge.inference.z_scores import kept_rows, main_score, read_z_scores
from leakgauge.quantile.bag import FEWEST, Learner
from leakgauge.quantile.networks import ResNetOptions
from leakgauge.tables import ROLES, read_metadata, read_table

FITTING = {"bag_size": bag_size, "timestep": timestep, "auxiliary": auxiliary, "width": width}


class Sweep(Options):
    """Section `sweep`."""

    seed: NonNegativeInt
    learner: str  # of sub-bags, timesteps and auxiliary images
    bag_size: PositiveInt  # of timesteps and auxiliary images
    bag_sizes: list[PositiveInt]  # sub-bags of a bag of the largest
    resamplings: int = Field(ge=2)  # sub-bags of each size
    timesteps: list[NonNegativeInt]
    auxiliary: list[PositiveInt | Literal["all"]]  # images of each subset
    resnet: str  # the learner whose width is changed
    resnet_bag_size: PositiveInt
    widths: list[PositiveInt]


def sweep(target: str) -> None:
    """Write the table of each experiment; one left out has no rows, and so have all where no member is known."""
    options, asked = section("sweep", Sweep, target), section("evaluate", Evaluate, target)
    images, features, scores = (
        {role: Path(f"data/{kind}/{target}/{role}.parquet") for role in ROLES}
        for kind in ("roles", "features", "scores")
    )
    if not read_table(images["member"], ["image_id"]).num_rows:
        modules = {"alpha": alpha, **FITTING}
        _write(target, {name: pd.DataFrame(columns=module.COLUMNS) for name, module in modules.items()})
        return
    learners = _learners(target, options)
    _check_timesteps(target, options.timesteps, scores["auxiliary"])
    _check_counts(target, options.auxiliary, images["auxiliary"])
    selection = Path(f"data/selection/{target}.parquet")
    kept = kept_rows(selection, scores)
    z_scores = {
        learner: read_z_scores(Path(f"data/predictions/{target}/{learner}.parquet"), scores, kept, columns=1)
        for learner in names("learners")
    }
    score = next(iter(z_scores.values())).bag["score"]  # `fit` had all learners learn the same
    columns = list(dict.fromkeys([score, *map(timestep.t_error, options.timesteps)]))
    roles = {role: read_scored(images[role], features[role], scores[role], columns, kept[role]) for role in ROLES}
    results = {learner: of.judge(main_score) for learner, of in z_scores.items()}
    config = [options.model_dump(), {key: learner.options.model_dump() for key, learner in learners.items()}, score]
    inputs = [selection, *images.values(), *features.values(), *scores.values()]
    with resumable(f"sweep@{target}", config, inputs) as folder:
        tables = {"alpha": alpha.measure(results, asked.alphas, asked.confidence)}
        tables |= _run(BagRunner(roles, options.seed, folder), learners, score, options, asked)
        _write(target, tables)


def _write(target: str, tables: dict[str, pd.DataFrame]) -> None:
    for name, table in tables.items():
        csv = table.to_csv(index=False, float_format="%.6g").encode()
        write_bytes(Path(f"metrics/sweeps/{target}/{name}.csv"), csv)


def _run(
    runner: BagRunner, learners: dict[str, Named], score: str, options: Sweep, asked: Evaluate
) -> dict[str, pd.DataFrame]:
    """The experiments that fit bags, by name."""
    tables = {name: pd.DataFrame(columns=module.COLUMNS) for name, module in FITTING.items()}
    if options.bag_sizes:
        sizes, many = options.bag_sizes, options.resamplings
        tables["bag_size"] = bag_size.measure(runner, learners["learner"], score, sizes, many, asked)
    if options.timesteps:
        size, timesteps = options.bag_size, options.timesteps
        tables["timestep"] = timestep.measure(runner, learners["learner"], size, timesteps, asked)
    if options.auxiliary:
        size, counts = options.bag_size, options.auxiliary
        tables["auxiliary"] = auxiliary.measure(runner, learners["learner"], size, score, counts, asked)
    if options.widths:
        size, widths = options.resnet_bag_size, options.widths
        tables["width"] = width.measure(runner, learners["resnet"], size, score, widths, asked)
    return tables


def _learners(target: str, options: Sweep) -> dict[str, Named]:
    """`learner` and `resnet`, where an experiment needs them.  Raises InputError for a name that is no such learner."""
    needed = {
        "learner": options.learner if options.bag_sizes or options.timesteps or options.auxiliary else None,
        "resnet": options.resnet if options.widths else None,
    }
    learners = {}
    for key, name in needed.items():
        if name is None:
            continue
        if name not in names("learners"):
            known = ", ".join(names("learners"))
            raise InputError(f"{PARAMS}: {key_name('sweep', key, target)}: no learner '{name}'; there are {known}")
        learners[key] = Named(name, entry("learners", name, Learner).root)
        if key == "resnet" and not isinstance(learners[key].options, ResNetOptions):
            kind = learners[key].options.kind
            raise InputError(f"{PARAMS}: {key_name('sweep', key, target)}: learner '{name}' is a {kind}, not a resnet")
    return learners


def _check_timesteps(target: str, timesteps: list[int], scores: Path) -> None:
    """Raises InputError for a timestep at which no t-error was measured."""
    known = list(read_metadata(scores)["columns"])
    for step in timesteps:
        if timestep.t_error(step) not in known:
            raise InputError(
                f"{PARAMS}: {key_name('sweep', 'timesteps', target)}: no score column '{timestep.t_error(step)}'; "
                f"there are {', '.join(known)} ([] leaves the experiment out)"
            )


def _check_counts(target: str, counts: list[int | Literal["all"]], images: Path) -> None:
    """Raises InputError for a subset that is too small for a bag, or larger than what there is."""
    total = read_table(images, ["image_id"]).num_rows
    for count in counts:
        if count != "all" and not FEWEST <= count <= total:
            raise InputError(
                f"{PARAMS}: {key_name('sweep', 'auxiliary', target)}: {count} images asked for: needs at least "
                f"{FEWEST} and at most the {total} auxiliary images there are"
            )


if __name__ == "__main__":
    run(sweep, target="a name in the `targets` registry of params.yaml")
