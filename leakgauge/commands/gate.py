"""Ceilings on leakage: `--fail-above 'tpr@1%=5%'`.

A figure exceeds its ceiling when the UPPER end of its interval does.  A gate must fail until leakage is shown to be
below the ceiling; by the lower end an audit of few images would always pass.
"""

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leakgauge.errors import InputError

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


def status(targets: Sequence[str], ceilings: Sequence[Ceiling]) -> int:
    """0, or 3 where a ceiling is exceeded; a line on stderr says why.  Raises InputError for a rate not measured."""
    if not ceilings:
        return 0
    summary = json.loads(SUMMARY.read_text(encoding="utf-8"))
    found = [line for target in targets for line in exceeded(target, summary[target], details(target), ceilings)]
    for line in found:
        print(line, file=sys.stderr)
    return FAILED if found else 0


def details(target: str) -> dict[str, Any]:
    """metrics/details/<target>.json."""
    return json.loads(Path(f"metrics/details/{target}.json").read_text(encoding="utf-8"))


def exceeded(
    target: str, verdict: Mapping[str, Any], found: Mapping[str, Any], ceilings: Sequence[Ceiling]
) -> list[str]:
    """A line for each reason to fail.  found : the target's details."""
    if verdict["failed"]:
        return [f"{target}: fails: {', '.join(verdict['failing'])} fails, so that no figure can be held to a ceiling"]
    if not verdict["images"]["member"]:
        return [f"{target}: fails: no member is known, so that no figure can be held to a ceiling"]
    figures = found["judges"][verdict["judge"]]
    return [line for one in ceilings if (line := _line(target, verdict["judge"], figures, one))]


def _line(target: str, judge: str, figures: Mapping[str, Any], one: Ceiling) -> str | None:
    name = "auc" if one.fpr is None else f"tpr_at_fpr_{_level(one.fpr)}"
    if name not in figures:
        levels = [key.removeprefix("tpr_at_fpr_") for key in figures if re.fullmatch(r"tpr_at_fpr_[^_]+", key)]
        raise InputError(
            f"--fail-above {one.text}: evaluate.alphas of {target} has no such rate (it has {', '.join(levels)})"
        )
    value, high = figures[name], figures[f"{name}_ci_high"]
    if value is None or high is None:
        return f"{target}: fails: {one.text}: {figures['holdout']} holdout images cannot resolve that rate"
    if high <= one.most:
        return None
    return f"{target}: fails: {one.text}: {value:.1%} by {judge}, and the upper end of its interval is {high:.1%}"


def _level(fpr: float) -> str:
    """0.01 -> `1e-2`, as in the metrics."""
    from leakgauge.inference.metrics import level_name

    return level_name(fpr)
