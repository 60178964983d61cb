"""The engine of a Ray cluster: one denoiser a GPU, or a CPU core where there is none; any of them may die.

The nodes see the working folder under the same path, and have this project installed.  Ray Data hands out the shards
of the image table that are not done yet, gives those of a worker that died to another, and returns them in any order.
Which cluster: `RAY_ADDRESS`, or the one that runs on this machine, or else one that is started for the purpose.
"""

import json
import logging
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from stages.command import InputError
from stages.device import best_device, computed_on
from stages.engines.local import Save
from stages.engines.scorer import Job, Scorer
from stages.engines.shards import npy

ROOT = Path(__file__).parents[2]


class Worker:
    """A scorer on a node of the cluster."""

    def __init__(self, job: Job) -> None:
        device = best_device()
        if device.type == "cpu":
            torch.set_num_threads(1)  # its share; the number of threads changes no score
        self.scorer = Scorer(job, device)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """The scores of the shard at `start`."""
        scores = self.scorer.score(self.scorer.read(int(row["start"])))
        place = json.dumps(computed_on(self.scorer.denoiser.device))
        return {"start": row["start"], "images": len(scores), "scores": npy(scores), "computed_on": place}


def score_on_cluster(job: Job, starts: Sequence[int], save: Save, bar: tqdm) -> None:
    """Score the shards that start there, and save each as it comes.  Raises InputError where Ray fails."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise InputError("score.engine: ray needs `pip install -e '.[ray]'`") from None
    try:
        _connect()
        shards = ray.data.from_items([{"start": start} for start in starts], override_num_blocks=len(starts))
        workers = _resources(len(starts))
        for row in shards.map(Worker, fn_constructor_args=(_at_full_length(job),), **workers).iter_rows():
            save(row["start"], row["scores"], json.loads(row["computed_on"]))
            bar.update(row["images"])
    except ray.exceptions.RayError as error:
        raise InputError(f"score.engine: ray: {error}") from error
    finally:
        ray.shutdown()


def _connect() -> None:
    """To the cluster, without Ray's own progress bars.  Raises InputError where there is none."""
    import ray

    logging.getLogger("ray.data").setLevel(logging.WARNING)
    address = os.environ.get("RAY_ADDRESS", "")
    try:
        _knock(address)
        ray.init(runtime_env={"env_vars": {"PYTHONPATH": str(ROOT)}}, logging_level=logging.WARNING)
    except OSError as error:
        raise InputError(f"score.engine: ray: no cluster at {address or 'this machine'}: {error}") from None
    ray.data.DataContext.get_current().enable_progress_bars = False


def _knock(address: str) -> None:
    """Raise OSError at once where nobody answers at host:port; Ray would try for minutes."""
    host, _, port = address.rpartition(":")
    if port.isdecimal() and "/" not in host:
        socket.create_connection((host, int(port)), timeout=10).close()


def _resources(shards: int) -> dict[str, Any]:
    """How many workers, and what each of them takes up."""
    import ray

    there = ray.cluster_resources()
    kind, name = ("GPU", "num_gpus") if there.get("GPU") else ("CPU", "num_cpus")
    return {"concurrency": min(max(int(there.get(kind, 0)), 1), shards), name: 1}


def _at_full_length(job: Job) -> Job:
    """The same job with paths that hold on every node."""
    return Job(job.target, job.model.absolute(), job.images.absolute(), job.options, job.shortcuts)
