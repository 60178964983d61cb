"""What an audit takes, before it starts: network calls, minutes, memory.

Scoring is measured: the model is opened as stage `score` opens it, in a process of its own, and a batch of the audit's
own members or auxiliary images is scored with all attacks.  The fitting of the learners is a rule of thumb, from its
length on the default audit on two cores.
"""

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from leakgauge.commands.pipeline import minutes
from leakgauge.config import entry, names, section, suspects_entry
from leakgauge.errors import InputError
from leakgauge.options import Fit, Learner, Suspects

TRIED_ON = 32  # images
START = 6.0  # seconds until a stage has imported what it needs
CORES = 2  # of the machine that the rule of thumb is of
# seconds an attacker, score column and auxiliary image, on CORES cores; resnet: of 64 pixels
SECONDS = {"marginal": 0.0, "gbm": 1.2e-3, "mlp": 0.8e-3, "resnet": 1.2e-3}


def estimate(target: str) -> dict[str, Any]:
    """`images`, `network_calls`, `memory` (bytes), and `seconds` by DVC's name of a run.

    Stages config, split, check and target must be up to date.  Raises InputError where the model cannot be opened.
    """
    done = subprocess.run([sys.executable, "-m", "leakgauge.commands.estimate", target], capture_output=True, text=True)
    if done.returncode:
        raise InputError(done.stderr.strip().rpartition("\n")[2] or "the estimate failed")
    return json.loads(done.stdout.splitlines()[-1])


def sentences(found: dict[str, Any]) -> list[str]:
    """The estimate, as it is printed."""
    scoring = sum(seconds for run, seconds in found["seconds"].items() if run.startswith("score"))
    rest = sum(found["seconds"].values()) - scoring
    return [
        f"Estimate, at most: {found['images']:,} images to score, {found['network_calls']:,} network calls for them.",
        f"Scoring about {minutes(scoring)} on {found['device']} (measured on {found['tried_on']} images); all else "
        f"about {minutes(rest)}, most of it to fit the learners (rule of thumb).",
        f"Memory about {found['memory'] / 2**30:.1f} GiB. What is up to date already is not computed again.",
    ]


def _measure(target: str) -> dict[str, Any]:
    """Score a batch, and count."""
    import torch

    from leakgauge.attacks.scorer import NETWORKS, Job, Scorer
    from leakgauge.compute import best_device
    from leakgauge.scoring import NULL_IMAGES, score_options
    from leakgauge.tables import ROLES, read_table

    roles = {role: Path(f"data/roles/{target}/{role}.parquet") for role in ROLES}
    sizes = {f"score@{target}-{role}": read_table(path, ["image_id"]).num_rows for role, path in roles.items()}
    for name in names("suspects"):
        if (asked := suspects_entry(name)).target == target:
            images = read_table(Path(f"data/images/{asked.images}.parquet"), ["image_id"])
            sizes[f"score_suspects@{name}"] = images.num_rows
    device = best_device()
    scorer = Scorer(Job(target, Path(f"models/target/{target}"), roles["auxiliary"], score_options(target)), device)
    calls = 0

    def count(_: object, inputs: tuple[Any, ...], __: object) -> None:
        nonlocal calls
        calls += len(inputs[0]) if inputs else TRIED_ON

    shard = scorer.read(0, min(TRIED_ON, len(scorer)))
    scorer.score(shard)  # to warm up
    hook = scorer.denoiser.network.register_forward_hook(count)
    began = time.monotonic()
    scorer.score(shard)
    seconds = (time.monotonic() - began) / len(shard)
    hook.remove()
    calls_each = calls / len(shard)
    null = {run: NETWORKS * min(size, NULL_IMAGES) for run, size in sizes.items()}
    null_calls = 3  # see `leakgauge.attacks.scorer`: the first t-errors of the walk
    of_scoring = {run: START + seconds * (size + null[run] * null_calls / calls_each) for run, size in sizes.items()}
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "images": sum(sizes.values()),
        "network_calls": round(calls_each * sum(sizes.values()) + null_calls * sum(null.values())),
        "tried_on": len(shard),
        "device": "the GPU" if device.type == "cuda" else f"{os.cpu_count()} CPU cores",
        "memory": torch.cuda.max_memory_allocated() if device.type == "cuda" else memory,
        "seconds": of_scoring | _others(target, sizes, pixels=shard.pixels[0, 0].numel()),
    }


def _others(target: str, sizes: dict[str, int], pixels: int) -> dict[str, float]:
    """Seconds of the stages that score nothing."""

    auxiliary, every = sizes[f"score@{target}-auxiliary"], sum(sizes.values())
    fit = section("fit", Fit, target)
    seconds = {f"evaluate@{target}": START + every / 100, "report": START + 4.0}
    for name in names("learners"):
        kind = entry("learners", name, Learner).root.kind
        each = SECONDS[kind] * (max(pixels / 64, 1) if kind == "resnet" else 1)
        work = fit.bag_size * len(fit.scores) * auxiliary * each
        seconds[f"fit@{target}-{name}"] = START + work * CORES / (os.cpu_count() or 1)
        seconds[f"predict@{target}-{name}"] = START + every / 500
    for name in names("suspects"):
        if entry("suspects", name, Suspects).target == target:
            seconds[f"suspects@{name}"] = START + 5.0
    return seconds


if __name__ == "__main__":
    from leakgauge.cli import errors_in_one_line

    with errors_in_one_line("estimate"):
        print(json.dumps(_measure(sys.argv[1])))
