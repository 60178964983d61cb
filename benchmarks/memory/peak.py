"""The peak memory of a command: of its largest process, and of all its processes together."""

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

REPOSITORY = Path(__file__).parent.parent.parent
EVERY = 0.05  # seconds


@dataclass(frozen=True)
class Peak:
    """In MiB, and seconds of wall clock."""

    largest: float  # the highest resident size of any process, as the kernel kept it (VmHWM)
    tree: float  # the largest sum of proportional sizes (PSS: pages that n processes share count 1 / n in each)
    seconds: float


def peak_of(words: list[str], folder: Path) -> Peak:
    """Run `python -m <words>` in a folder and watch it and its descendants; where it fails, exit."""
    start, tree = time.perf_counter(), 0.0
    # Not wait4's ru_maxrss: a child that is spawned inherits that of its parent.
    largest: dict[int, float] = {}
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    process = subprocess.Popen([sys.executable, "-m", *words], cwd=folder, env=environment)
    while process.poll() is None:
        sizes = {one.pid: _sizes(one.pid) for one in _family(process.pid)}
        largest |= {pid: high for pid, (high, _) in sizes.items() if high}
        tree = max(tree, sum(share for _, share in sizes.values()))
        time.sleep(EVERY)
    if process.returncode:
        sys.exit(f"python -m {' '.join(words)} failed")
    return Peak(max(largest.values()), tree, time.perf_counter() - start)


def _family(pid: int) -> list[psutil.Process]:
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _sizes(pid: int) -> tuple[float, float]:
    """The highest resident size so far and the proportional size now, MiB; zeros of a process that has gone."""
    try:
        status, rollup = (Path(f"/proc/{pid}/{name}").read_text() for name in ("status", "smaps_rollup"))
    except (FileNotFoundError, ProcessLookupError):
        return 0.0, 0.0
    return _kib(status, "VmHWM:") / 1024, _kib(rollup, "Pss:") / 1024


def _kib(text: str, name: str) -> int:
    return next((int(line.split()[1]) for line in text.splitlines() if line.startswith(name)), 0)
