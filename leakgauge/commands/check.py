"""could anything make the figures wrong? only the checks, before anything costly

    leakgauge check mine

Runs `dvc repro check@mine`, and prints what each check compares, what it found, and whether it fails.  No check looks
at a score of the target.
"""

import argparse
import json
from pathlib import Path

from leakgauge.commands.gate import FAILED
from leakgauge.commands.pipeline import asked_targets, need_project, reproduce, stale_runs
from leakgauge.report.words import check_rows


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add those of this command."""
    parser.add_argument("targets", metavar="NAME", nargs="*", help="of params.yaml's `targets` (default: all)")


def run(targets: list[str]) -> int:
    """Returns the exit status.  Raises InputError."""
    need_project()
    targets = asked_targets(targets)
    wanted = [f"check@{target}" for target in targets]
    reproduce(wanted, stale_runs(wanted))
    fails = 0
    for target in targets:
        found = json.loads(Path(f"metrics/checks/{target}.json").read_text(encoding="utf-8"))
        print(f"\n{target}: {found['fails']} of {found['checks']} checks fail")
        for row in check_rows(found, null=False):
            print(f"  {'FAILS ' if row.fails else 'passes'}  {row.what}: {row.found}")
            if row.fails:
                print(f"          {row.meaning}")
        fails += found["fails"]
    return FAILED if fails else 0
