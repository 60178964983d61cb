"""Replay: every learner on 40,000 published t-errors, at full strength, with error rates.

    python -m benchmarks.cifar10_replay.run DATA [--quick | --every] [--seeds 0 1 2 3 4]

DATA (or the environment variable LEAKGAUGE_CIFAR10) is a folder with two Parquet files:

    cifar10-train.parquet          image (struct of bytes and path), label, image_id: CIFAR-10's 50,000 training images
    cifar10-secmi-t-error.parquet  image_id, is_member, t_error: scores of the published DDPM (Duan et al., ICML 2023)

Each seed draws 15,000 auxiliary non-members; the other 5,000 and as many members only measure.  The stages run as
they are, each in its own process, in a folder of work (--work) that goes on where an earlier run stopped.  Writes
results.json and results.md (--quick: quick.*, --every: learners.*) and figures of the first seed beside this file.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
from ruamel.yaml import YAML
from tqdm import tqdm

from benchmarks.cifar10_replay.table import as_markdown
from leakgauge.cli import parser_of

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
AGAIN = ("stack", "evaluate", "report")  # of several learners: they run again, for there may be more now
FIGURES = ("roc", "calibration", "conditional_fpr", "bag_size")


def main() -> None:
    """Run what the command line asks for."""
    arguments = _arguments()
    data = _data_folder(arguments.data)
    work = arguments.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    params = _params(data, arguments, work)
    with (work / "params.yaml").open("w", encoding="utf-8") as stream:
        YAML().dump(params, stream)
    costs = _run_stages(work, list(params["learners"]), arguments.seeds, bool(params["stack"]["of"]))
    results = {
        "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()},
        "images": {"auxiliary": AUXILIARY, "holdout": HOLDOUT, "members": MEMBERS},
        "seeds": {str(seed): _read(work / f"metrics/seed_{seed}.json") for seed in arguments.seeds},
        "stack": {str(seed): _read(work / f"metrics/stacks/seed_{seed}.json") for seed in arguments.seeds},
        "single_attacker": {str(seed): _single_attackers(work, seed) for seed in arguments.seeds},
        "learning_curve": _learning_curve(work / f"metrics/sweeps/seed_{arguments.seeds[0]}/auxiliary.csv"),
        "costs": costs,
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    name = arguments.page
    (arguments.out / f"{name}.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (arguments.out / f"{name}.md").write_text(as_markdown(results), encoding="utf-8")
    for figure in FIGURES if name == "results" else ():
        shutil.copy(work / f"metrics/figures/seed_{arguments.seeds[0]}/{figure}.png", arguments.out)
    print((arguments.out / f"{name}.md").read_text())


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
    stacked = [name for name in params["stack"]["of"] if name in wanted]
    params["stack"]["of"] = stacked if len(stacked) > 1 else []
    params["datasets"] = {"cifar10": {"source": "parquet", "path": str(data / IMAGES), "suspects": "suspects/none"}}
    sections = list(next(iter(params["targets"].values())))[3:]  # behind dataset, source and path
    params["targets"] = {}
    scores = pd.read_parquet(data / SCORES)
    for seed in arguments.seeds:
        path = work / f"scores_{seed}.parquet"
        _draw(scores, seed).to_parquet(path, index=False)
        entry = {"dataset": "cifar10", "source": "scores", "path": path.name}
        overrides = {name: {} for name in sections} | {"train_target": {"scores": ["t_error"]}}
        if arguments.page != "results" or seed != arguments.seeds[0]:
            overrides["sweep"] = {"auxiliary": []}
        params["targets"][f"seed_{seed}"] = entry | overrides
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


def _run_stages(work: Path, learners: list[str], seeds: list[int], stacked: bool) -> dict[str, dict[str, float]]:
    """Every stage that has not run yet.  Returns stage -> seconds and peak memory, of earlier runs too."""
    commands = [["images", "cifar10"], ["suspect", "cifar10"]]
    for target in (f"seed_{seed}" for seed in seeds):
        commands += [["split", target], ["train_target", target]]
        commands += [["score", target, role] for role in ("member", "auxiliary", "holdout", "suspect")]
        commands += [["select", target]]
        commands += [[stage, target, learner] for learner in learners for stage in ("fit", "predict")]
        commands += [[stage, target] for stage in ("stack", "evaluate", "infer", "sweep", "guard")]
    commands += [["report"]]
    record = work / "costs.json"
    costs = _read(record) if record.exists() else {}
    for command in tqdm(commands, desc="stages"):
        name = " ".join(command)
        if name in costs and command[0] not in AGAIN:
            continue
        costs[name] = _run(command, work)
        record.write_text(json.dumps(costs, indent=1))
    return costs


def _run(command: list[str], work: Path) -> dict[str, float]:
    """One stage in a process of its own: wall-clock seconds, and the memory of its largest process in MiB."""
    start = time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    process = subprocess.Popen([sys.executable, "-m", f"stages.{command[0]}", *command[1:]], cwd=work, env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"stage {' '.join(command)} failed")
    return {"seconds": round(time.perf_counter() - start, 1), "peak_mib": round(usage.ru_maxrss / 1024)}


def _read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def _single_attackers(work: Path, seed: int) -> dict[str, dict[str, float]]:
    """What the first attacker of each bag reaches alone."""
    curve = pd.read_csv(work / f"metrics/plots/seed_{seed}/bag_size.csv")
    first = curve[curve["attackers"] == 1].set_index("learner")
    return json.loads(first[["tpr", "tpr_ci_low", "tpr_ci_high", "auc"]].to_json(orient="index"))


def _learning_curve(path: Path) -> list[dict[str, float]]:
    """A row a number of auxiliary images; none where the experiment was left out."""
    return json.loads(pd.read_csv(path).to_json(orient="records")) if path.exists() else []


if __name__ == "__main__":
    main()
