"""bring the page up to date, and print the verdicts

    leakgauge report
    leakgauge report mine --fail-above 'tpr@1%=5%'

Runs `dvc repro`: whatever of the audit is not up to date is computed, nothing else.  Then it prints ten lines on each
target (or on those named), and in one line how many rates differ from those of the last commit, and whether they lie
within their intervals: another machine gives other last digits.
"""

import argparse

from leakgauge.commands import gate, show
from leakgauge.commands.pipeline import asked_targets, need_project, reproduce, stale_runs


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add those of this command."""
    parser.add_argument("targets", metavar="NAME", nargs="*", help="of params.yaml's `targets` (default: all)")
    parser.add_argument("--no-repro", action="store_true", help="compute nothing: print what is there")
    gate.arguments(parser)


def run(targets: list[str], no_repro: bool = False, fail_above: list[gate.Ceiling] | None = None) -> int:
    """Returns the exit status.  Raises InputError."""
    need_project()
    targets = asked_targets(targets)
    gate.check_levels(targets, fail_above or [])
    if not no_repro:
        reproduce(["report"], stale_runs(["report"]))
    show.verdicts(targets)
    show.changes()
    return gate.status(targets, fail_above or [])
