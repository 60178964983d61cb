"""Replay: every learner on 40,000 published t-errors, at full strength, with error rates.

    python -m benchmarks.cifar10_replay.run DATA [--quick | --every] [--seeds 0 1 2 3 4]

DATA (or the environment variable LEAKGAUGE_CIFAR10) is a folder with two Parquet files:

    cifar10-train.parquet          image (struct of bytes and path), label, image_id: CIFAR-10's 50,000 training images
    cifar10-secmi-t-error.parquet  image_id, is_member, t_error: scores of the published DDPM (Duan et al., ICML 2023)

Each seed draws 15,000 auxiliary non-members; the other 5,000 and as many members only measure.  It is a DVC project: a
clone of this repository with params.yaml of its own (--work), in which `dvc repro` runs the pipeline as it is, and goes
on where an earlier run stopped.  Writes results.json and results.md (--quick: quick.*, --every: learners.*) and figures
of the first seed beside this file.
"""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from ruamel.yaml import YAML

from benchmarks.cifar10_replay.table import as_markdown
from leakgauge.bags import BagRunner, Named, read_scored
from leakgauge.cli import parser_of
from leakgauge.inference.metrics import power
from leakgauge.options import Learner
from leakgauge.report.figures import draw_figures
from leakgauge.tables import ROLES, read_ids

HERE = Path(__file__).parent
REPOSITORY = HERE.parent.parent
IMAGES, SCORES = "cifar10-train.parquet", "cifar10-secmi-t-error.parquet"
AUXILIARY, HOLDOUT, MEMBERS = 15_000, 5_000, 5_000
LEARNERS = {  # of params.yaml here, by the name of the page
    "quick": ("marginal", "mlp"),
    "results": ("marginal", "gbm", "mlp", "resnet"),
    "learners": (
        "marginal",
        "gbm",
        "gbm_quantiles",
        "mlp",
        "mlp_quantiles",
        "resnet_4",
        "resnet_8",
        "resnet_16",
        "resnet",
    ),
}
CURVE = (1000, 2000, 4000, 8000, AUXILIARY)  # auxiliary images, of the learning curve on the first seed
FIGURES = ("roc", "rates", "conditional_fpr", "bag_size")


def main() -> None:
    """Run what the command line asks for."""
    arguments = _arguments()
    data = _data_folder(arguments.data)
    work = arguments.work.resolve()
    if not work.exists():
        subprocess.run(["git", "clone", "--quiet", REPOSITORY, work], check=True)
    with (work / "params.yaml").open("w", encoding="utf-8") as stream:
        YAML().dump(_params(data, arguments, work), stream)
    costs = _reproduce(work)
    details = {str(seed): _read(work / f"metrics/details/seed_{seed}.json") for seed in arguments.seeds}
    results = {
        "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()},
        "images": {"auxiliary": AUXILIARY, "holdout": HOLDOUT, "members": MEMBERS},
        "seeds": {seed: found["judges"] for seed, found in details.items()},
        "stack": {seed: found["stack"] for seed, found in details.items()},
        "single_attacker": {str(seed): _single_attackers(work, seed) for seed in arguments.seeds},
        "learning_curve": _learning_curve(work, arguments.seeds[0]) if arguments.page == "results" else [],
        "costs": costs,
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    name = arguments.page
    (arguments.out / f"{name}.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (arguments.out / f"{name}.md").write_text(as_markdown(results), encoding="utf-8")
    if name == "results":
        _figures(work, f"seed_{arguments.seeds[0]}", details[str(arguments.seeds[0])]["headline"], arguments.out)
    print((arguments.out / f"{name}.md").read_text())


def _figures(work: Path, target: str, headline: dict[str, Any], out: Path) -> None:
    """The figures of one seed, as SVG files."""
    curves = {path.stem: pd.read_csv(path) for path in (work / f"metrics/plots/{target}").glob("*.csv")}
    fits = [
        pd.read_csv(path).assign(learner=path.stem) for path in sorted((work / f"metrics/fit/{target}").glob("*.csv"))
    ]
    curves |= {"fit": pd.concat(fits), "loss": pd.DataFrame()}
    drawn = draw_figures(curves, headline["judge"], headline["baseline"], headline["fpr"], "compressed_bits")
    for figure in FIGURES:
        (out / f"{figure}.svg").write_text(drawn[figure], encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = parser_of(main)
    parser.add_argument("data", nargs="?", default=os.environ.get("LEAKGAUGE_CIFAR10"), help="the folder of the data")
    size = parser.add_mutually_exclusive_group()
    for page, text in (("quick", "one cheap learner and the baseline: minutes"), ("learners", "heads and widths too")):
        flag = "--every" if page == "learners" else f"--{page}"
        size.add_argument(flag, dest="page", action="store_const", const=page, help=text)
    parser.set_defaults(page="results")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="one audit each (default: 0)")
    parser.add_argument("--work", type=Path, default=Path(".partial/cifar10_replay"), help="where the stages work")
    parser.add_argument("--out", type=Path, default=HERE, help="where the results go")
    return parser.parse_args()


def _data_folder(given: str | None) -> Path:
    folder = Path(given) if given else None
    missing = [name for name in (IMAGES, SCORES) if folder is None or not (folder / name).is_file()]
    if folder is None or missing:
        where = f"{folder} has no {' and no '.join(missing)}" if folder else "no folder of data was named"
        sys.exit(f"{where}: give DATA or set LEAKGAUGE_CIFAR10 to the folder with {IMAGES} and {SCORES} (see --help)")
    return folder.resolve()


def _params(data: Path, arguments: argparse.Namespace, work: Path) -> dict:
    """params.yaml of this run, and beside it one file of scores a seed."""
    params, own = (YAML(typ="safe").load((place / "params.yaml").read_text("utf-8")) for place in (REPOSITORY, HERE))
    params = {name: values | own.get(name, {}) for name, values in params.items()} | {"learners": own["learners"]}
    wanted = LEARNERS[arguments.page]
    params["learners"] = {name: params["learners"][name] for name in wanted}
    stacked = [name for name in params["evaluate"]["stack"] if name in wanted]
    params["evaluate"]["stack"] = stacked if len(stacked) > 1 else []
    params["datasets"] = {"cifar10": {"source": "parquet", "path": str(data / IMAGES)}}
    params["targets"] = {}
    scores = pd.read_parquet(data / SCORES)
    for seed in arguments.seeds:
        path = work / f"scores_{seed}.parquet"
        _draw(scores, seed).to_parquet(path, index=False)
        params["targets"][f"seed_{seed}"] = {"images": "cifar10", "model": path.name, "target": {"scores": ["t_error"]}}
    return params


def _draw(scores: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The roles of one seed.  Columns image_id, t_error, role."""
    rng = np.random.default_rng(seed)
    others = rng.permutation(scores.index[~scores["is_member"].astype(bool)])
    members = rng.permutation(scores.index[scores["is_member"].astype(bool)])[:MEMBERS]
    rows = {
        "member": members,
        "auxiliary": others[:AUXILIARY],
        "holdout": others[AUXILIARY : AUXILIARY + HOLDOUT],
    }
    tables = [scores.loc[index, ["image_id", "t_error"]].assign(role=role) for role, index in rows.items()]
    return pd.concat(tables).sort_values("image_id")


def _reproduce(work: Path) -> dict[str, dict[str, float]]:
    """`dvc repro`.  Returns stage -> seconds, of earlier runs too."""
    record = work / ".partial/costs.json"
    costs = _read(record) if record.exists() else {}
    environment = {**os.environ, "PYTHONPATH": str(work)}
    command = [sys.executable, "-m", "dvc", "repro"]
    process = subprocess.Popen(command, cwd=work, env=environment, stdout=subprocess.PIPE, text=True)
    stage, start = "", time.perf_counter()
    for line in process.stdout or ():
        print(line, end="", flush=True)
        if stage and line.startswith(("Running stage", "Updating lock file")):
            costs[stage] = {"seconds": round(time.perf_counter() - start, 1)}
            record.parent.mkdir(exist_ok=True)
            record.write_text(json.dumps(costs, indent=1))
            stage = ""
        if found := re.match(r"Running stage '(.+)':", line):
            stage, start = found[1], time.perf_counter()
    if process.wait():
        sys.exit(f"dvc repro failed in {work}: see above")
    return costs


def _read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def _single_attackers(work: Path, seed: int) -> dict[str, dict[str, float]]:
    """What single attackers of each bag reach alone: mean, least and largest of several."""
    curve = pd.read_csv(work / f"metrics/plots/seed_{seed}/bag_size.csv")
    single = curve[curve["attackers"] == 1].set_index("learner")
    return json.loads(single[["tpr", "tpr_min", "tpr_max"]].to_json(orient="index"))


def _learning_curve(work: Path, seed: int) -> list[dict[str, float]]:
    """A row a number of auxiliary images: what a bag of `mlp` fitted and calibrated on a random subset reaches."""
    params = YAML(typ="safe").load((work / "params.yaml").read_text("utf-8"))
    learner = Named("mlp", Learner.model_validate(params["learners"]["mlp"]).root)
    roles = {}
    for role in ROLES:
        images, features, scores = (
            work / f"data/{kind}/seed_{seed}/{role}.parquet" for kind in ("roles", "features", "scores")
        )
        roles[role] = read_scored(images, features, scores, ["t_error"], np.ones(len(read_ids(images)), dtype=bool))
    order = np.random.default_rng(0).permutation(len(roles["auxiliary"]))
    rows = []
    for count in CURVE:
        runner = BagRunner(roles, 0, work / ".partial/learning_curve")
        bag = runner.fit(learner, params["fit"]["bag_size"], ["t_error"], np.sort(order[:count]), f"{count} auxiliary")
        found = bag.judge().membership_score
        reached = power(found["member"], found["holdout"], 0.01, 0.95)
        rows.append({"learner": "mlp", "auxiliary": count, **reached, "out_of_bag_loss": bag.out_of_bag_loss})
    return rows


if __name__ == "__main__":
    main()
