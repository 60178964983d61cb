"""DVC, run for a command: a line a stage, with the time that is about left."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from leakgauge.cli import DVC_YAML, PARAMS, STARTED_BY
from leakgauge.commands.code import differing
from leakgauge.commands.graph import changed_runs, graph
from leakgauge.config import names
from leakgauge.errors import InputError, warn

STARTED = re.compile(r"Running stage '(?:[^']*:)?([^']+)'")
SKIPPED = re.compile(r"Stage '(?:[^']*:)?([^']+)' (?:didn't change|is cached)|Restored stage '([^']+)'")
CHATTER = re.compile(  # of DVC, about itself
    r"\s*$|> exec python |(Updating|Generating) lock file|'.*\.dvc' didn't change|Use `dvc push`|Data and pipelines are"
    r"|To track the changes|\tgit add|To enable auto staging|\tdvc config|Verifying data sources"
)
# DVC ends when the command that started it is gone, however it was killed, and a stage with DVC: else the same command
# again would find DVC's lock held.
DVC = (
    "import runpy; from leakgauge.cli import end_with_parent; "
    "end_with_parent(); runpy.run_module('dvc', run_name='__main__')"
)
USUAL = {"images": 8.0, "config": 3.0, "split": 5.0, "target": 10.0, "score": 60.0, "score_suspects": 60.0, "fit": 30.0}
OTHER = 8.0  # seconds of any other stage, most of them to import
SUMMARY = Path("metrics/summary.json")
PRIOR = 30.0  # seconds of work before what stages really take is believed
SLOWEST, FASTEST = 5.0, 0.2  # the most that it scales what is left


def stale_runs(wanted: Sequence[str]) -> list[str]:
    """Of some runs and what they need those that are not up to date, at most, in an order that DVC could take."""
    command = [*_command("status"), "--json", "--with-deps", *wanted]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True)
    return graph().stale(wanted, changed_runs(done.stdout) if done.returncode == 0 else None)


def reproduce(wanted: Sequence[str], stale: Collection[str], expected: Mapping[str, float] | None = None) -> None:
    """`dvc repro` of some runs and what they need, with a line each.

    stale : those that may have to run.  expected : run -> seconds that it takes, as far as they were estimated.
    Raises InputError where DVC fails; what was printed says why.
    """
    progress = Progress(stale, expected)
    command = [*_command("repro"), *wanted]
    with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True, bufsize=1) as dvc:
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
        raise InputError("dvc repro failed, see above: mend what it names, and the same command goes on from there")


class Progress:
    """How far a run of the pipeline is.

    What is left is the sum of what the runs to come are expected to take, scaled by how long those so far took beside
    what was expected of them.
    """

    def __init__(
        self,
        stale: Collection[str],
        expected: Mapping[str, float] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """stale : runs to come.  expected : run -> seconds; without it none is told before a fifth is done."""
        self.measured, self.clock = bool(expected), clock
        self.waiting = {run: (expected or {}).get(run, _usual(run)) for run in stale}
        self.work, self.done_work = sum(self.waiting.values()), 0.0
        self.running: str | None = None
        self.seen, self.began = 0, clock()

    def skip(self, run: str) -> None:
        """A run turns out to be up to date."""
        if run in self.waiting:
            self.seen += 1
            self.work -= self.waiting.pop(run)

    def start(self, run: str) -> str:
        """A run begins: `[7/18] score@mine-member, 2 min so far, about 5 min left`."""
        if self.running:
            self.done_work += self.waiting.pop(self.running, 0.0)
        self.seen, self.running = self.seen + 1, run
        total = self.seen + len(self.waiting.keys() - {run})
        so_far = self.clock() - self.began
        text = f"[{self.seen}/{total}] {run}, {minutes(so_far)} so far"
        if self.measured or self.done_work > self.work / 5:
            text += f", about {minutes(self._left(so_far))} left"
        return text

    def _left(self, so_far: float) -> float:
        """Seconds, that of the run that begins included."""
        scale = (so_far + PRIOR) / (self.done_work + PRIOR)
        return sum(self.waiting.values()) * min(max(scale, FASTEST), SLOWEST)


def _usual(run: str) -> float:
    return USUAL.get(run.partition("@")[0], OTHER)


def minutes(seconds: float) -> str:
    """`40 s`, `3 min`, `2 h 10 min`."""
    if seconds < 90:
        return f"{max(round(seconds), 1)} s"
    whole = round(seconds / 60)
    return f"{whole} min" if whole < 90 else f"{whole // 60} h {whole % 60} min"


def dvc(*words: str) -> int:
    """Its exit status."""
    return subprocess.run([*_command(words[0]), *words[1:]], env=environment(), check=False).returncode


def _command(word: str) -> list[str]:
    return [sys.executable, "-u", "-c", DVC, word]


def environment() -> dict[str, str]:
    """This interpreter comes first on the path: it is the stages' `python`, its environment active or not.

    What is started ends with this process, if it is one of ours: see `end_with_parent`.
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    return os.environ | {"PATH": path, STARTED_BY: str(os.getpid())}


def need_project() -> None:
    """Raises InputError where this is no audit project; warns where its code is not the one that is running."""
    if not (DVC_YAML.is_file() and PARAMS.is_file() and Path(".dvc").is_dir()):
        raise InputError(
            f"{Path.cwd()}: no audit project, with dvc.yaml, params.yaml and .dvc: `leakgauge init DIR` makes one"
        )
    if others := differing(Path.cwd()):
        more = f" and {len(others) - 1} more files differ" if len(others) > 1 else " differs"
        warn(
            f"{others[0]}{more} from the leakgauge that is installed; stages run the project's own code: "
            "`leakgauge init --update .` replaces it"
        )


def need_report() -> None:
    """Raises InputError where the report is not up to date."""
    if stale := stale_runs(["report"]):
        raise InputError(f"{SUMMARY}: not up to date ({len(stale)} stages are not): run `leakgauge report`")


def asked_targets(targets: list[str]) -> list[str]:
    """Those named, or all.  Raises InputError for one that params.yaml lacks, and where it has none."""
    known = names("targets")
    if not known:
        raise InputError(f"{PARAMS}: no target yet: `leakgauge audit MODEL IMAGES` writes one")
    for target in targets:
        if target not in known:
            raise InputError(f"{PARAMS}: targets.{target} is not there (there is {', '.join(known)})")
    return targets or known
