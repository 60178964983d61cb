"""DVC, run for a command: a line a stage, with the time that is about left."""

import itertools
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from leakgauge.cli import DVC_YAML, PARAMS, read_yaml
from leakgauge.errors import InputError

STARTED = re.compile(r"Running stage '(?:[^']*:)?([^']+)'")
SKIPPED = re.compile(r"Stage '(?:[^']*:)?([^']+)' (?:didn't change|is cached)|Restored stage '([^']+)'")
CHATTER = re.compile(  # of DVC, about itself
    r"\s*$|> python -m |(Updating|Generating) lock file|'.*\.dvc' didn't change|Use `dvc push`|Data and pipelines are"
    r"|To track the changes|\tgit add|To enable auto staging|\tdvc config"
)


def runs() -> list[str]:
    """DVC's names of all runs of dvc.yaml, e.g. `score@mine-member`."""
    pipeline, params = (read_yaml(path, "the folder of an audit project") for path in (DVC_YAML, PARAMS))
    return [name for stage, definition in pipeline["stages"].items() for name in _runs_of(stage, definition, params)]


def _runs_of(stage: str, definition: Mapping[str, Any], params: Mapping[str, Any]) -> Iterator[str]:
    def items(of: Any) -> list[str]:
        return list(params[of.strip("${}")]) if isinstance(of, str) else list(of)

    if "foreach" in definition:
        yield from (f"{stage}@{key}" for key in items(definition["foreach"]))
    elif "matrix" in definition:
        yield from (f"{stage}@{'-'.join(one)}" for one in itertools.product(*map(items, definition["matrix"].values())))
    else:
        yield stage


def reproduce(wanted: list[str], expected: Mapping[str, float] | None = None) -> None:
    """`dvc repro` of some runs and what they need, with a line each.

    expected : run -> seconds that it is expected to take, for the time left; without it no time is told.
    Raises InputError where DVC fails; what was printed says why.
    """
    command = [sys.executable, "-u", "-m", "dvc", "repro", *wanted]
    progress = Progress(len(runs()) if wanted == ["report"] else None, dict(expected or {}))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, bufsize=1) as dvc:
        try:
            for line in dvc.stdout or ():
                if found := SKIPPED.match(line):
                    progress.skip(found[1] or found[2])
                elif found := STARTED.match(line):
                    print(progress.start(found[1]), flush=True)
                elif not CHATTER.match(line):
                    print(line, end="", flush=True)
        except BaseException:
            dvc.terminate()
            raise
    if dvc.returncode:
        raise InputError(f"dvc repro failed, see above: mend it in {PARAMS}, and the same command goes on from there")


class Progress:
    """How far a run of the pipeline is."""

    def __init__(self, total: int | None, expected: dict[str, float]) -> None:
        self.total, self.expected = total, expected
        self.done, self.began = 0, time.monotonic()

    def skip(self, run: str) -> None:
        """A run is up to date already."""
        self.done += 1
        self.expected.pop(run, None)

    def start(self, run: str) -> str:
        """A run begins: `[7/18] score@mine-member, 2 min so far, about 5 min left`."""
        self.done += 1
        left = sum(self.expected.values())
        self.expected.pop(run, None)
        total = f"/{self.total}" if self.total else ""
        so_far = f", {minutes(time.monotonic() - self.began)} so far"
        return f"[{self.done}{total}] {run}{so_far}" + (f", about {minutes(left)} left" if left else "")


def minutes(seconds: float) -> str:
    """`40 s`, `3 min`, `2 h 10 min`."""
    if seconds < 90:
        return f"{max(round(seconds), 1)} s"
    whole = round(seconds / 60)
    return f"{whole} min" if whole < 90 else f"{whole // 60} h {whole % 60} min"


def dvc(*words: str) -> int:
    """Its exit status."""
    return subprocess.run([sys.executable, "-m", "dvc", *words], check=False).returncode


def need_project() -> None:
    """Raises InputError where this is no audit project."""
    if not (DVC_YAML.is_file() and PARAMS.is_file() and Path(".dvc").is_dir()):
        raise InputError(
            f"{Path.cwd()}: no audit project, with dvc.yaml, params.yaml and .dvc: `leakgauge init DIR` makes one"
        )
