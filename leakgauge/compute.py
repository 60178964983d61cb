"""Where numbers are computed: one device in plain float32, deterministic; or one process a core.

One process a core, one thread a process: faster than many threads on small work, and the same bytes on any machine.

A GPU is one worker: the work then stays in this process.
"""

import os
import sys
import time
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from joblib import Parallel, cpu_count, delayed
from tqdm import tqdm

from leakgauge.cli import end_with_parent

if TYPE_CHECKING:
    import torch  # takes seconds: imported where it is needed


def best_device() -> "torch.device":
    """The device, with the shortcuts switched off that would change a score's digits from run to run."""
    import torch

    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def computed_on(device: "torch.device") -> dict[str, str]:
    """What decides the last digits of a score beside the model and the image.

    The kind of device and its name (of a CPU the instructions that torch uses on it), and the versions of torch and
    diffusers.  The number of threads is left out: it changes a score by rounding alone, as the size of a batch does.
    """
    import torch

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()
    return {"device": device.type, "name": name, "torch": version("torch"), "diffusers": version("diffusers")}


Result = TypeVar("Result")
START = 6.0  # seconds in which a process starts and imports torch


def spread(
    work: Callable[..., Result], jobs: Iterable[tuple[Any, ...]], description: str, networks: bool = True
) -> list[Result]:
    """`work(*job)` of every job, in order, with a progress bar.  LOKY_MAX_CPU_COUNT sets fewer processes than cores.

    Processes take seconds to start, so of many jobs the first are done here, and the others too where that ends sooner.

    networks : whether the work runs any; then a GPU, if there is one, is one worker, in this process.  The work finds
    this process's working directory, and may find its large arrays not writable.
    """
    jobs = list(jobs)
    processes = 1 if networks and best_device().type != "cpu" else min(cpu_count(), len(jobs))
    done: list[Result] = []
    began = time.monotonic()
    with tqdm(desc=description, total=len(jobs), disable=None) as bar:
        while len(done) < len(jobs) and _stay_here(len(done), len(jobs), processes, time.monotonic() - began):
            done.append(_single_threaded(work, jobs[len(done)], Path.cwd()))
            bar.update()
        parallel = Parallel(n_jobs=processes or 1, return_as="generator", initializer=end_with_parent)
        for result in parallel(delayed(_single_threaded)(work, job, Path.cwd()) for job in jobs[len(done) :]):
            done.append(result)
            bar.update()
    return done


def _stay_here(done: int, jobs: int, processes: int, seconds: float) -> bool:
    """Whether to do the next job in this process: the others there, started now, would not end sooner."""
    if processes < 2:
        return True
    if not done:
        return jobs > 2 * processes
    left = seconds / done * (jobs - done)
    return left < START + left / processes


def _single_threaded(work: Callable[..., Result], job: tuple[Any, ...], folder: Path) -> Result:
    os.chdir(folder)  # processes are kept, and may have been started elsewhere
    if "torch" not in sys.modules:
        return work(*job)
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return work(*job)
    finally:
        torch.set_num_threads(before)
