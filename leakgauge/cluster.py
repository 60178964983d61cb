"""The backend of a Ray cluster: a shard at a time on each GPU, or CPU core where there is none; any node may die.

The nodes see the working folder under the same path, and have this project installed.  Each shard of the image table
that is not done yet is a task; Ray gives one that died with its node to another, and they return in any order.
Which cluster: `RAY_ADDRESS`, or the one that runs on this machine, or else one that is started for the purpose.
"""

import logging
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from tqdm import tqdm

from leakgauge.attacks.scorer import Job, Scorer
from leakgauge.compute import best_device, computed_on
from leakgauge.errors import InputError
from leakgauge.files import npy

# the start of a shard, its scores as a .npy file, and what they were computed on
Save = Callable[[int, bytes, dict[str, str]], None]
ROOT = Path(__file__).parents[1]
_scorers: list[tuple[Job, Scorer]] = []  # of this process of a node: at most the last one


def score_on_cluster(job: Job, starts: Sequence[int], save: Save, bar: tqdm) -> None:
    """Score the shards that start there, and save each as it comes.  Raises InputError where Ray fails."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise InputError("score.backend: ray needs `pip install -e '.[ray]'`") from None
    try:
        _connect()
        task = ray.remote(max_calls=0, **_resources())(_score)  # 0: the process stays, and with it the network
        job = ray.put(_at_full_length(job))
        running = [task.remote(job, start) for start in starts]
        while running:
            done, running = ray.wait(running, timeout=5)
            for start, images, scores, place in ray.get(done):
                save(start, scores, place)
                bar.update(images)
            if not done and not any(ray.cluster_resources().get(kind) for kind in ("GPU", "CPU")):
                raise InputError("score.backend: ray: no node is left that could score: start one and run again")
    except ray.exceptions.RayError as error:
        raise InputError(f"score.backend: ray: {error}") from error
    finally:
        ray.shutdown()


def _score(job: Job, start: int) -> tuple[int, int, bytes, dict[str, str]]:
    """On a node.  The start of a shard, how many images it has, their scores as a .npy file, and what computed them."""
    if not _scorers or _scorers[0][0] != job:
        device = best_device()
        if device.type == "cpu":
            torch.set_num_threads(1)  # its share
        _scorers[:] = [(job, Scorer(job, device))]
    scorer = _scorers[0][1]
    scores = scorer.score(scorer.read(start))
    return start, len(scores), npy(scores), computed_on(scorer.denoiser.device)


def _connect() -> None:
    """To the cluster.  Raises InputError where there is none."""
    import ray

    address = os.environ.get("RAY_ADDRESS", "")
    try:
        _knock(address)
        ray.init(runtime_env={"env_vars": {"PYTHONPATH": str(ROOT)}}, logging_level=logging.WARNING)
    except OSError as error:
        raise InputError(f"score.backend: ray: no cluster at {address or 'this machine'}: {error}") from None


def _knock(address: str) -> None:
    """Raise OSError at once where nothing answers at host:port; Ray would try for minutes."""
    host, _, port = address.rpartition(":")
    if port.isdecimal() and "/" not in host:
        socket.create_connection((host, int(port)), timeout=10).close()


def _resources() -> dict[str, int]:
    """What a shard takes up while it is scored."""
    import ray

    return {"num_gpus": 1} if ray.cluster_resources().get("GPU") else {"num_cpus": 1}


def _at_full_length(job: Job) -> Job:
    """The same job with paths that hold on every node."""
    return replace(job, model=job.model.absolute(), images=job.images.absolute(), base=None)
