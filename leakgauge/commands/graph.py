"""The graph of dvc.yaml over params.yaml: its runs, what each reads and writes, and which are not up to date."""

import itertools
import json
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

from leakgauge.cli import DVC_YAML, PARAMS, filled, items_of, read_yaml
from leakgauge.errors import InputError


@dataclass(frozen=True)
class Graph:
    """reads, writes : DVC's name of a run, e.g. `score@mine-member`, -> paths as dvc.yaml has them."""

    reads: dict[str, list[str]]
    writes: dict[str, list[str]]

    @cached_property
    def before(self) -> dict[str, set[str]]:
        """Run -> the runs that write what it reads."""
        at, below = {}, defaultdict(set)
        for run, paths in self.writes.items():
            for path in paths:
                at[path] = run
                for folder in _above(path):
                    below[folder].add(run)
        return {
            run: {at[part] for path in paths for part in (path, *_above(path)) if part in at}
            | {other for path in paths for other in below[path]}
            for run, paths in self.reads.items()
        }

    def needed(self, wanted: Collection[str]) -> list[str]:
        """Some runs and all that they need, each after those that it needs."""
        found: dict[str, None] = {}

        def add(run: str) -> None:
            if run not in found:
                for other in sorted(self.before[run]):
                    add(other)
                found[run] = None

        for run in wanted:
            add(run)
        return list(found)

    def stale(self, wanted: Collection[str], changed: Collection[str] | None) -> list[str]:
        """Of the runs that are needed those that DVC may execute: what changed, and what depends on it.

        changed : runs whose inputs or outputs differ from dvc.lock; None: it is not known, so all may be.  It is the
        most that there may be: where a run writes what was there before, those after it are left out.
        """
        found: dict[str, None] = {}
        for run in self.needed(wanted):
            if changed is None or run in changed or self.before[run] & found.keys():
                found[run] = None
        return list(found)


def graph() -> Graph:
    """That of the working directory.  Raises InputError where dvc.yaml or params.yaml is missing or no YAML."""
    pipeline, params = (read_yaml(path, "the folder of an audit project") for path in (DVC_YAML, PARAMS))
    reads, writes = {}, {}
    try:
        for stage, definition in pipeline["stages"].items():
            for run in _runs_of(stage, definition, params):
                known = {**params, **items_of(definition, run.partition("@")[2], params)}
                parts = definition.get("do", definition)
                reads[run] = [filled(path, known) for path in parts.get("deps", [])]
                outs = [out for kind in ("outs", "metrics", "plots") for out in parts.get(kind, [])]
                writes[run] = [filled(path, known) for out in outs for path in ([out] if isinstance(out, str) else out)]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{PARAMS}: an entry of targets, suspects or datasets lacks {error}") from None
    return Graph(reads, writes)


def changed_runs(status: str) -> set[str] | None:
    """The runs that `dvc status --json` names.  status : what it printed; None where that is no JSON."""
    try:
        return {name.rpartition(":")[2] for name in json.loads(status)}
    except ValueError:
        return None


def _runs_of(stage: str, definition: Mapping[str, Any], params: Mapping[str, Any]) -> Iterator[str]:
    def items(of: Any) -> list[str]:
        return list(params[of.strip("${}")] or {}) if isinstance(of, str) else list(of)

    if "foreach" in definition:
        yield from (f"{stage}@{key}" for key in items(definition["foreach"]))
    elif "matrix" in definition:
        yield from (f"{stage}@{'-'.join(one)}" for one in itertools.product(*map(items, definition["matrix"].values())))
    else:
        yield stage


def _above(path: str) -> list[str]:
    """The folders that a path lies in."""
    return [str(folder) for folder in PurePosixPath(path).parents if str(folder) not in (".", "/")]
