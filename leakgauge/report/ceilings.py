"""Ceilings on leakage, as `fail_above` of a target's entry and --fail-above name them: what comes of each.

A figure passes where the UPPER end of its interval is at most the ceiling.  A gate must fail until leakage is shown to
be below the ceiling; by the lower end an audit of few images would always pass.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from leakgauge.errors import InputError
from leakgauge.options import Ceiling
from leakgauge.report.verdict import FEWEST_FALSE_POSITIVES, lower_bound_alone, percent


@dataclass(frozen=True)
class Held:
    """What came of holding a figure to a ceiling.  A gate fails unless the state is `passes`."""

    ceiling: str  # as it was written
    state: Literal["passes", "fails", "cannot_be_told"]
    sentence: str


def held(verdict: Mapping[str, Any], judges: Mapping[str, Any], ceilings: Sequence[Ceiling]) -> list[Held]:
    """What comes of each ceiling.  verdict : on the target.  judges : of the target's details, name -> figures.

    It cannot be told where a check fails, no member is known, or the holdout has too few images for an upper end.
    Raises InputError for a rate that the judges do not have.
    """
    return [Held(one.text, *_held(verdict, judges, one)) for one in ceilings]


def _held(verdict: Mapping[str, Any], judges: Mapping[str, Any], one: Ceiling) -> tuple[Any, str]:
    figure = "AUC" if one.fpr is None else f"TPR at {percent(one.fpr)} % FPR"
    most = f"{one.most:g}" if one.fpr is None else f"{percent(one.most)} %"
    if verdict["failed"]:
        return "cannot_be_told", f"{', '.join(verdict['failing'])} fails, so no figure is held to {figure} {most}"
    if not verdict["images"]["member"]:
        return "cannot_be_told", f"no member is known, so no figure is held to {figure} {most}"
    figures = judges[verdict["judge"]]
    name = "auc" if one.fpr is None else _name_of(one.fpr, figures)
    value, low, high = (figures[f"{name}{end}"] for end in ("", "_ci_low", "_ci_high"))
    holdout = figures["holdout"]
    if value is None or high is None:
        return "cannot_be_told", f"{holdout} holdout images cannot resolve {figure}; the ceiling is {most}"
    if one.fpr is not None and lower_bound_alone(one.fpr, holdout) and one.most < 1:
        needed = math.ceil(FEWEST_FALSE_POSITIVES / one.fpr - 1e-9)
        found = f"{figure} {_value(one, value)} (at least {_value(one, low)})"
        if low > one.most:
            return "fails", f"{found} exceeds the ceiling of {most}"
        return "cannot_be_told", f"{found}: {holdout} holdout images give no upper end to hold to {most}, {needed} do"
    found = f"{figure} {_value(one, value)} ({_value(one, low).removesuffix(' %')} to {_value(one, high)})"
    if high <= one.most:
        return "passes", f"{found} is within the ceiling of {most}"
    exceeds = "exceeds" if low > one.most else "is not shown to be below"
    return "fails", f"{found} {exceeds} the ceiling of {most}"


def _value(one: Ceiling, value: float) -> str:
    return f"{value:.3f}" if one.fpr is None else f"{percent(value)} %"


def _name_of(fpr: float, figures: Mapping[str, Any]) -> str:
    """`tpr_at_fpr_1e-2`, of 0.01.  Raises InputError where there is no such rate."""
    start = "tpr_at_fpr_"
    for name in figures:
        level = name.removeprefix(start)
        if level != name and not name.endswith(("_ci_low", "_ci_high", "_count")) and math.isclose(float(level), fpr):
            return name
    raise InputError(f"the last report has no TPR at {percent(fpr)} % FPR: run `leakgauge report`")
