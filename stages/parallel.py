"""One process a core, one thread a process: faster than many threads on small work, and the same bytes on any machine.

A GPU is one worker: the work then stays in this process.
"""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import torch
from joblib import Parallel, cpu_count, delayed
from tqdm import tqdm

from stages.command import end_with_parent
from stages.device import best_device

Result = TypeVar("Result")


def spread(work: Callable[..., Result], jobs: Iterable[tuple[Any, ...]], description: str) -> list[Result]:
    """`work(*job)` of every job, in order, with a progress bar.  LOKY_MAX_CPU_COUNT sets fewer processes than cores.

    The work finds this process's working directory, and may find its large arrays not writable.
    """
    jobs = list(jobs)
    processes = 1 if best_device().type != "cpu" else min(cpu_count(), len(jobs))
    parallel = Parallel(n_jobs=processes or 1, return_as="generator", initializer=end_with_parent)
    results = parallel(delayed(_single_threaded)(work, job, Path.cwd()) for job in jobs)
    return list(tqdm(results, desc=description, total=len(jobs), disable=None))


def _single_threaded(work: Callable[..., Result], job: tuple[Any, ...], folder: Path) -> Result:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    os.chdir(folder)  # processes are kept, and may have been started elsewhere
    try:
        return work(*job)
    finally:
        torch.set_num_threads(before)
