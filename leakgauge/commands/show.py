"""The verdicts on a terminal."""

import json
from collections.abc import Sequence
from pathlib import Path

from leakgauge.commands.code import git
from leakgauge.errors import InputError
from leakgauge.report.compare import Commit, against
from leakgauge.report.verdict import lines

SUMMARY, PAGE = Path("metrics/summary.json"), Path("metrics/report.html")


def verdicts(targets: Sequence[str]) -> None:
    """Print about ten lines on each target, and where the page is.  Raises InputError where there is no verdict."""
    try:
        summary = json.loads(SUMMARY.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{SUMMARY}: not found: run `leakgauge report` without --no-repro") from None
    for target in targets:
        if target not in summary:
            raise InputError(f"{target}: no such target in {SUMMARY} (there is {', '.join(summary) or 'none'})")
        print("\n" + "\n".join(lines(target, summary[target])))
    print(f"\n{PAGE} has the evidence.", flush=True)


def changes() -> None:
    """Print in one line what differs from the figures of the last commit, if there are any."""
    try:
        git(Path(), "rev-parse", "--verify", "--quiet", "HEAD")
    except InputError:  # no commit yet
        return
    if line := against(Commit("HEAD"), Commit("")):
        print(line, flush=True)
