"""Ceilings on leakage as a gate: `--fail-above 'tpr@1%=5%'`, or `fail_above` of a target's entry in params.yaml."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from leakgauge.config import PARAMS, check_ceilings, target_entry
from leakgauge.errors import InputError
from leakgauge.options import Ceiling
from leakgauge.options import ceiling as parsed
from leakgauge.report.ceilings import held
from leakgauge.report.verdict import CEILING_TITLES

FAILED = 3  # exit status
SUMMARY = Path("metrics/summary.json")


def ceiling(text: str) -> Ceiling:
    """A word of the command line.  Raises ArgumentTypeError."""
    try:
        return parsed(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add --fail-above."""
    parser.add_argument(
        "--fail-above",
        metavar="FIGURE=CEILING",
        action="append",
        type=ceiling,
        default=[],
        help="like 'tpr@1%%=5%%' or 'auc=0.6', as often as you like, instead of `fail_above` of the target's entry: "
        "exit with status 3 where the upper end of the figure's interval exceeds the ceiling (a gate must fail until "
        "leakage is shown to be below it), where the figure is not resolved, no member is known, or a check fails",
    )


def check_levels(targets: Sequence[str], words: Sequence[Ceiling]) -> None:
    """Raises InputError for a rate that `evaluate.alphas` of a target does not ask for, before anything is computed.

    words : of the command line; without any the entries' own are checked.
    """
    for target in targets:
        key = "--fail-above" if words else f"{PARAMS}: targets.{target}.fail_above"
        check_ceilings(target, _ceilings(target, words), key)


def status(targets: Sequence[str], words: Sequence[Ceiling]) -> int:
    """0, or 3 where a figure is not shown to be below its ceiling; prints a line on each.

    words : of the command line; without any the entries' own count.  Raises InputError.
    """
    failed = False
    for target in targets:
        if not (ceilings := _ceilings(target, words)):
            continue
        verdict = json.loads(SUMMARY.read_text(encoding="utf-8"))[target]
        for one in held(verdict, details(target)["judges"], ceilings):
            fails = one.state != "passes"
            line = f"{target}: {CEILING_TITLES[one.state]}: {one.ceiling}: {one.sentence}"
            print(line, file=sys.stderr if fails else sys.stdout, flush=True)
            failed |= fails
    return FAILED if failed else 0


def _ceilings(target: str, words: Sequence[Ceiling]) -> Sequence[Ceiling]:
    return words or target_entry(target).ceilings


def details(target: str) -> dict[str, Any]:
    """metrics/details/<target>.json.  Raises InputError where it is not there."""
    path = Path(f"metrics/details/{target}.json")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: not found: run `leakgauge report`") from None
