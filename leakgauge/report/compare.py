"""Two states of an audit's metrics: how many rates differ, and which of them by more than their intervals.

Python's own library alone: the gate of a pull request, which has no more than git and DVC, reads it too.
"""

import json
import re
import subprocess
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

LOW, HIGH = "_ci_low", "_ci_high"
METRICS = re.compile(r"metrics/(.+)\.json")


class Commit:
    """What a commit, or the working tree (""), says."""

    def __init__(self, name: str) -> None:
        self.name = name

    @cached_property
    def files(self) -> list[str]:
        """Paths of all files of a commit; of the working tree those of metrics."""
        if self.name:
            return git("ls-tree", "-r", "--name-only", self.name).split("\n")
        return [path.as_posix() for path in Path("metrics").rglob("*.json")]

    def read(self, path: str) -> str | None:
        """The text of a file; None where there is none."""
        if self.name:
            return git("show", f"{self.name}:./{path}") if path in self.files else None
        return Path(path).read_text(encoding="utf-8") if Path(path).is_file() else None

    def metrics(self, path: str) -> dict[str, Any]:
        """metrics/<path>.json; empty where there is none."""
        return json.loads(self.read(f"metrics/{path}.json") or "{}")

    def names(self) -> set[str]:
        """Of all its files of metrics, as `metrics` takes them."""
        return {found[1] for path in self.files if (found := METRICS.fullmatch(path))}


def git(*words: str, quiet: bool = False) -> str:
    """What git prints; its complaints too, unless quiet.  Raises CalledProcessError and OSError."""
    complaints = subprocess.DEVNULL if quiet else None
    return subprocess.run(["git", *words], check=True, stdout=subprocess.PIPE, stderr=complaints, text=True).stdout


def flat(values: Any, name: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}."""
    if not isinstance(values, Mapping):
        return {name: values}
    return {
        key: leaf for part, value in values.items() for key, leaf in flat(value, f"{name}.{part}".strip(".")).items()
    }


def shown(figures: Mapping[str, Any], key: str) -> str:
    """A figure with its interval."""
    value = figures.get(key)
    if value is None:
        return "none"
    low, high = (figures.get(key + end) for end in (LOW, HIGH))
    if low is None:
        return f"{value:.4f}"
    return f"{value:.4f} ({low:.4f} to {high:.4f})" if high is not None else f"{value:.4f} (at least {low:.4f})"


def inside(value: float | None, figures: Mapping[str, Any], key: str) -> bool:
    """Whether a rate lies within the interval that another run gives it; a bound that is null or missing is none."""
    low, high = (figures.get(key + end) for end in (LOW, HIGH))
    return value is not None and (low is None or low <= value) and (high is None or value <= high)


def rates(old: Commit, new: Commit) -> tuple[int, int, list[tuple[str, str, str]]]:
    """How many rates both have, how many of them differ, and of those that lie outside of the other's interval what
    they are called, and both values."""
    count, differ, outside = 0, 0, []
    for name in sorted((old.names() & new.names()) - {"summary"}):
        was, is_ = flat(old.metrics(name)), flat(new.metrics(name))
        for key in was.keys() & is_.keys():
            if key + LOW in was and key + LOW in is_:
                count += 1
                differ += was[key] != is_[key]
                if was[key] != is_[key] and not (inside(was[key], is_, key) and inside(is_[key], was, key)):
                    of = f"{name.removeprefix('details/')} {key.removeprefix('judges.')}"
                    outside.append((of, shown(was, key), shown(is_, key)))
    return count, differ, sorted(outside)


def line(count: int, differ: int, outside: int) -> str:
    """`81 of 188 rates differ, all within their intervals.`"""
    if not differ:
        return f"None of {count} rates differs."
    return f"{differ} of {count} rates differ, {f'all but {outside}' if outside else 'all'} within their intervals."


def against(old: Commit, new: Commit) -> str | None:
    """How the metrics compare with those of a commit, in one line; None where it has none, or where there is no git."""
    try:
        count, differ, outside = rates(old, new)
    except (OSError, subprocess.CalledProcessError):
        return None
    if not count:
        return None
    named = "".join(f"\n  {of}: {was} before, now {is_}" for of, was, is_ in outside[:5])
    return f"Beside the last commit: {line(count, differ, len(outside))}{named}"
