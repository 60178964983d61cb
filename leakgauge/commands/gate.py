"""Ceilings on leakage: `--fail-above 'tpr@1%=5%'`.

A figure exceeds its ceiling when the UPPER end of its interval does.  A gate must fail until leakage is shown to be
below the ceiling; by the lower end an audit of few images would always pass.
"""

import argparse
import json
import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leakgauge.config import PARAMS, asked, key_name
from leakgauge.errors import InputError
from leakgauge.options import Evaluate
from leakgauge.report.verdict import FEWEST_FALSE_POSITIVES, lower_bound_alone, percent

FAILED = 3  # exit status
SUMMARY = Path("metrics/summary.json")
TEXT = re.compile(r"(?:(?P<auc>auc)|tpr@(?P<fpr>[\d.]+)%)\s*=\s*(?P<ceiling>[\d.]+)(?P<percent>%?)")


@dataclass(frozen=True)
class Ceiling:
    """The most that a figure may be.  fpr : of a TPR; None: of the AUC."""

    text: str
    fpr: float | None
    most: float


def ceiling(text: str) -> Ceiling:
    """Parse `tpr@1%=5%` or `auc=0.6`.  Raises ArgumentTypeError."""
    found = TEXT.fullmatch(text)
    try:
        if found is None:
            raise ValueError
        most = float(found["ceiling"]) / (100 if found["percent"] else 1)
        fpr = None if found["auc"] else float(found["fpr"]) / 100
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no ceiling like 'tpr@1%=5%' or 'auc=0.6'") from None
    if not 0 <= most <= 1 or (fpr is not None and not 0 < fpr < 1):
        raise argparse.ArgumentTypeError(f"{text!r}: a rate lies between 0 and 1 (0 % and 100 %)")
    return Ceiling(text, fpr, most)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add --fail-above."""
    parser.add_argument(
        "--fail-above",
        metavar="FIGURE=CEILING",
        action="append",
        type=ceiling,
        default=[],
        help="like 'tpr@1%%=5%%' or 'auc=0.6', as often as you like: exit with status 3 where the upper end of the "
        "figure's interval exceeds the ceiling (a gate must fail until leakage is shown to be below it), where the "
        "figure is not resolved, no member is known, or a check fails",
    )


def check_levels(targets: Sequence[str], ceilings: Sequence[Ceiling]) -> None:
    """Raises InputError for a rate that `evaluate.alphas` of a target does not ask for, before anything is computed."""
    for target in targets if ceilings else ():
        alphas = asked("evaluate", Evaluate, target).alphas
        levels = {_level(alpha) for alpha in alphas}
        for one in ceilings:
            if one.fpr is not None and _level(one.fpr) not in levels:
                raise InputError(
                    f"--fail-above {one.text}: {PARAMS}: {key_name('evaluate', 'alphas', target)} has no rate of "
                    f"{percent(one.fpr)} % (it has {', '.join(f'{percent(alpha)} %' for alpha in alphas)}): add it"
                )


def status(targets: Sequence[str], ceilings: Sequence[Ceiling]) -> int:
    """0, or 3 where a figure is not shown to be below its ceiling; prints a line on each.  Raises InputError."""
    if not ceilings:
        return 0
    summary = json.loads(SUMMARY.read_text(encoding="utf-8"))
    found = [one for target in targets for one in held(target, summary[target], details(target), ceilings)]
    for one in found:
        print(one.line, file=sys.stderr if one.fails else sys.stdout, flush=True)
    return FAILED if any(one.fails for one in found) else 0


def details(target: str) -> dict[str, Any]:
    """metrics/details/<target>.json.  Raises InputError where it is not there."""
    path = Path(f"metrics/details/{target}.json")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: not found: run `leakgauge report`") from None


@dataclass(frozen=True)
class Held:
    """What came of holding a figure to a ceiling."""

    fails: bool
    line: str


def held(target: str, verdict: Mapping[str, Any], found: Mapping[str, Any], ceilings: Sequence[Ceiling]) -> list[Held]:
    """One for each ceiling, or one for a target that can be held to none.  found : the target's details."""
    if verdict["failed"]:
        why = f"{', '.join(verdict['failing'])} fails, so that no figure can be held to a ceiling"
        return [Held(True, f"{target}: fails: {why}")]
    if not verdict["images"]["member"]:
        return [Held(True, f"{target}: fails: no member is known, so that no figure can be held to a ceiling")]
    figures = found["judges"][verdict["judge"]]
    return [_held(target, verdict["judge"], figures, one) for one in ceilings]


def _held(target: str, judge: str, figures: Mapping[str, Any], one: Ceiling) -> Held:
    name = "auc" if one.fpr is None else f"tpr_at_fpr_{_level(one.fpr)}"
    if name not in figures:
        raise InputError(
            f"--fail-above {one.text}: metrics/details/{target}.json has no {name}: run `leakgauge report`"
        )
    value, low, high = (figures[f"{name}{end}"] for end in ("", "_ci_low", "_ci_high"))
    if value is None or high is None:
        few = f"{figures['holdout']} holdout images cannot resolve that rate"
        return Held(True, f"{target}: fails: {one.text}: {few}")
    said = f"{percent(value)} % ({percent(low)} to {percent(high)} %) by {judge}"
    if one.fpr is None:
        said = f"{value:.3f} ({low:.3f} to {high:.3f}) by {judge}"
    if high <= one.most:
        return Held(False, f"{target}: passes: {one.text}: {said}")
    if one.fpr is not None and lower_bound_alone(one.fpr, figures["holdout"]):
        needed = math.ceil(FEWEST_FALSE_POSITIVES / one.fpr - 1e-9)
        said += f"; {figures['holdout']} holdout images give no upper end, {needed} do"
    return Held(True, f"{target}: fails: {one.text}: {said}; the upper end exceeds the ceiling")


def _level(fpr: float) -> str:
    """0.01 -> `1e-2`, as in the metrics."""
    from leakgauge.inference.metrics import level_name

    return level_name(fpr)
