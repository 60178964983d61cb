"""The gate of a pull request: is dvc.lock what the code and the parameters give?  If so, what changed in the figures.

    python .ci/pull_request.py [the branch it is to be merged into]

Needs git and DVC: no data, no cache, no remote.  The summary goes to $GITHUB_STEP_SUMMARY, or else to the standard
output; the curves go to dvc_plots/.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dvc.dependency.param import ParamsDependency
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.stage import Stage
from ruamel.yaml import YAML

LEAKAGE = {"auc": "AUC", "tpr_at_fpr_1e-2": "TPR at 1 % FPR"}
REALISED, LOW, HIGH = "realised_fpr_at_alpha_", "_ci_low", "_ci_high"
NONE = "none"


def told(*words: str) -> str:
    """What a program prints; its failure is ours."""
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True)
    return done.stdout if done.returncode == 0 else sys.exit(done.returncode)


def check() -> None:
    """End in one line where dvc.lock is not what the code and the parameters give, or an input is not shared."""
    try:
        with Repo() as repo, repo.lock:
            graph = repo.index.graph  # a stage's successors are the stages that it depends on
            not_kept = unshared(repo)
            stages = [stage.addressing for stage in graph if is_stale(stage, list(graph.successors(stage)))]
    except DvcException as error:
        sys.exit(" ".join(str(error).split()))
    if not_kept:
        sys.exit(f"neither Git nor DVC keeps {', '.join(not_kept)}: `dvc add` it and commit its .dvc file")
    if stages:
        sys.exit(f"dvc.lock is out of date: run `dvc repro` and commit its results.  Stale: {', '.join(stages)}")


def unshared(repo: Repo) -> list[str]:
    """What stages read inside of the repository that is neither in git nor anything that DVC puts out."""
    in_git = [str(Path(repo.root_dir, name)) for name in told("git", "ls-files", "-z").split("\0")]
    outs = [out.fs_path for out in repo.index.outs]

    def lie_within(paths: list[str], folder: str) -> bool:
        return any(path == folder or path.startswith(folder + os.sep) for path in paths)

    return sorted(
        {
            str(dep)
            for dep in repo.index.deps
            if dep.is_in_repo and not isinstance(dep, ParamsDependency)
            if not lie_within(in_git, dep.fs_path) and not lie_within(outs, dep.fs_path)
            if not any(lie_within([dep.fs_path], out) for out in outs)
        }
    )


def is_stale(stage: Stage, upstream: list[Stage]) -> bool:
    """Whether anything that is there differs from dvc.lock, or a file is absent that git should have.

    `dvc repro --dry --allow-missing` is meant to tell, but ends in an error where a stale stage's data is absent, and
    `dvc status` calls all that is absent changed.  Data that is absent counts as what dvc.lock says of it; so does
    what lies outside of the repository.
    """
    stage.deps = [dep for dep in stage.deps if dep.is_in_repo or dep.exists]
    in_git = [out for out in stage.outs if not out.use_cache]
    return stage.changed(allow_missing=True, upstream=upstream) or not all(out.exists for out in in_git)


def flat(values: Any, name: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}."""
    if not isinstance(values, Mapping):
        return {name: values}
    return {
        key: leaf for part, value in values.items() for key, leaf in flat(value, f"{name}.{part}".strip(".")).items()
    }


class Commit:
    """What a commit, or the working tree (""), says: its parameters and metrics."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.files = told("git", "ls-tree", "-r", "--name-only", name).split("\n") if name else []
        self.params = YAML(typ="safe", pure=True).load(self.read("params.yaml") or "{}")

    def read(self, path: str) -> str | None:
        if self.name:
            return told("git", "show", f"{self.name}:{path}") if path in self.files else None
        return Path(path).read_text(encoding="utf-8") if Path(path).is_file() else None

    def metrics(self, path: str) -> dict[str, Any]:
        return json.loads(self.read(f"metrics/{path}.json") or "{}")

    def names(self) -> set[str]:
        """Of all its files of metrics, as `metrics` takes them."""
        paths = self.files if self.name else [path.as_posix() for path in Path("metrics").rglob("*.json")]
        return {found[1] for path in paths if (found := re.fullmatch(r"metrics/(.+)\.json", path))}

    def judge(self, target: str) -> dict[str, Any]:
        """The figures of the judge of a target, who is asked about suspects, under the key `judge` its name."""
        name = self.metrics(target).get("judge", "")
        return {**self.metrics(f"details/{target}").get("judges", {}).get(name, {}), "judge": name}

    def failing(self, target: str) -> list[str]:
        """Checks of a target that fail, and judges by whom members look less like members than others."""
        details = self.metrics(f"details/{target}")
        checks = {**self.metrics(f"checks/{target}"), **details.get("judges", {})}
        checks |= {f"null_check_{role}": found for role, found in details.get("null_check", {}).items()}
        found = [
            key.removesuffix(".fails")
            for key, value in flat(checks).items()
            if key.endswith((".fails", ".wrong_way_round")) and value is True
        ]
        return sorted(found)

    def sets(self, target: str) -> list[str]:
        """The sets of suspects that a target is asked about."""
        return [name for name, entry in (self.params.get("suspects") or {}).items() if entry.get("target") == target]

    def suspects(self, name: str) -> str:
        """The answer for a set, and its checks that fail."""
        asked = self.metrics(f"details/suspects/{name}")
        if not asked:
            return NONE
        failing = ", ".join(check for check, found in asked["checks"].items() if found["fails"])
        answer = f"{asked['named']} of {asked['distinct']} named, p = {asked['p_value']:.2g} for all"
        return f"{answer}; fails: {failing}" if failing else answer


def shown(figures: Mapping[str, Any], key: str) -> str:
    """A figure with its interval."""
    value = figures.get(key)
    if value is None:
        return NONE
    low, high = (figures.get(key + end) for end in (LOW, HIGH))
    if low is None:
        return f"{value:.4f}"
    return f"{value:.4f} ({low:.4f} to {high:.4f})" if high is not None else f"{value:.4f} (at least {low:.4f})"


def of_target(target: str, old: Commit, new: Commit) -> list[str]:
    """What matters of a target: leakage, realised FPR, checks that fire, suspects; before and now."""
    before, now = old.judge(target), new.judge(target)
    realised = [key for key in {**now, **before} if re.fullmatch(rf"{REALISED}[\de.-]+", key)]
    rows = [(text, shown(before, key), shown(now, key)) for key, text in LEAKAGE.items()]
    rows += [
        (f"FPR realised at alpha {float(key.removeprefix(REALISED)):.3g}", shown(before, key), shown(now, key))
        for key in realised
    ]
    rows += [("checks that fail", *(", ".join(commit.failing(target)) or NONE for commit in (old, new)))]
    asked = dict.fromkeys([*new.sets(target), *old.sets(target)])
    rows += [
        (
            f"suspects `{name}`",
            *(commit.suspects(name) if name in commit.sets(target) else NONE for commit in (old, new)),
        )
        for name in asked
    ]
    judges = " and ".join(f"`{name}`" for name in dict.fromkeys((before["judge"], now["judge"])) if name)
    lines = [f"| {what} | {was} | {'**' * (was != is_) + is_ + '**' * (was != is_)} |" for what, was, is_ in rows]
    return [f"**{target}**, judged by {judges}", "", "| | before | now |", "|---|---|---|", *lines, ""]


def of_params(old: Commit, new: Commit) -> list[str]:
    was, is_ = flat(old.params), flat(new.params)
    changed = [key for key in {**was, **is_} if was.get(key, NONE) != is_.get(key, NONE)]
    lines = [f"- `{key}`: {json.dumps(was.get(key))} -> {json.dumps(is_.get(key))}" for key in changed]
    return [f"**Parameters changed**: {len(changed) or NONE}", "", *lines, *([""] if lines else [])]


def of_rates(old: Commit, new: Commit) -> list[str]:
    """How many rates differ, and those that lie outside of the other run's interval."""
    count, differ, outside = 0, 0, []
    for name in sorted(old.names() & new.names()):
        was, is_ = flat(old.metrics(name)), flat(new.metrics(name))
        for key in was.keys() & is_.keys():
            if key + LOW in was and key + LOW in is_:
                count += 1
                differ += was[key] != is_[key]
                if was[key] != is_[key] and not (inside(was[key], is_, key) and inside(is_[key], was, key)):
                    of = f"{name.removeprefix('details/')} {key.removeprefix('judges.')}"
                    outside.append(f"| {of} | {shown(was, key)} | {shown(is_, key)} |")
    but = f"all but {len(outside)}" if outside else "all"
    line = (
        f"{differ} of {count} rates differ, {but} within their intervals."
        if differ
        else f"None of {count} rates differs."
    )
    table = ["", "| | before | now |", "|---|---|---|", *sorted(outside)] if outside else []
    return [line, *table]


def inside(value: float | None, figures: Mapping[str, Any], key: str) -> bool:
    """Whether a rate lies within the interval that another run gives it; a bound that is null or missing is none."""
    low, high = (figures.get(key + end) for end in (LOW, HIGH))
    return value is not None and (low is None or low <= value) and (high is None or value <= high)


def summary(base: str) -> str:
    """What differs between a commit and the working tree, in Markdown: what matters first."""
    old, new = Commit(base), Commit("")
    targets = sorted(name for name in old.names() | new.names() if "/" not in name)
    tables = [line for target in targets for line in of_target(target, old, new)]
    return "\n".join([f"### Audit since {base}", "", *tables, *of_params(old, new), *of_rates(old, new)]) + "\n"


def main() -> None:
    check()
    fork = told("git", "merge-base", "HEAD", sys.argv[1] if len(sys.argv) > 1 else "origin/main").strip()
    base = told("git", "rev-parse", "--short", fork).strip()
    if page := os.environ.get("GITHUB_STEP_SUMMARY"):
        Path(page).write_text(summary(base))
    else:
        print(summary(base))
    told("dvc", "plots", "diff", base, "--out", "dvc_plots")


if __name__ == "__main__":
    main()
