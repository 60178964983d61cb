"""The gate of a pull request: is dvc.lock what the code and the parameters give?  If so, what changed in the figures.

    python .ci/pull_request.py [the branch it is to be merged into]

Needs git and DVC: no data, no cache, no remote.  The summary goes to $GITHUB_STEP_SUMMARY, or else to the standard
output; the curves go to dvc_plots/.
"""

import json
import os
import subprocess
import sys
from functools import cached_property
from pathlib import Path
from typing import Any

from dvc.dependency.param import ParamsDependency
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.stage import Stage
from ruamel.yaml import YAML

sys.path.insert(0, str(Path(__file__).parents[1]))  # the repository, of which no more is needed than this module
from leakgauge.report.compare import Commit, flat, inside, line, rates, shown
from leakgauge.report.verdict import TITLES, ceiling_sentences

FIGURES = {"tpr": "TPR", "baseline_tpr": "TPR by one threshold for all", "auc": "AUC", "realised_fpr": "FPR realised"}
NONE = "none"
FAILED = 3  # exit status, as of `leakgauge report`


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


class Audit(Commit):
    """What a commit, or the working tree (""), says of targets."""

    @cached_property
    def params(self) -> dict[str, Any]:
        return YAML(typ="safe", pure=True).load(self.read("params.yaml") or "{}")

    @cached_property
    def verdicts(self) -> dict[str, Any]:
        """Target -> verdict, see `leakgauge.report.verdict`; empty where the commit has none."""
        return self.metrics("summary")


def of_target(target: str, old: Audit, new: Audit) -> list[str]:
    """The verdict on a target, before and now; bold what changed beyond its interval."""
    before, now = (audit.verdicts.get(target, {}) for audit in (old, new))
    rows = [
        ("verdict", *(verdict and TITLES[verdict["state"]] for verdict in (before, now))),
        ("", *(verdict.get("sentence", "") for verdict in (before, now))),
        *((text, shown(before, key), shown(now, key)) for key, text in FIGURES.items()),
        ("judge", *(verdict.get("judge", "") for verdict in (before, now))),
        ("checks that fail", *(", ".join(verdict.get("failing", [])) or NONE for verdict in (before, now))),
    ]
    ceilings = ["; ".join(ceiling_sentences(verdict)) for verdict in (before, now)]
    rows += [("ceilings", *ceilings)] * any(ceilings)
    moved = {text for key, text in FIGURES.items() if beyond(before, now, key)}
    named = {"verdict", "judge", "checks that fail", "ceilings"}
    for name in dict.fromkeys([*now.get("suspects", {}), *before.get("suspects", {})]):
        answers = [verdict.get("suspects", {}).get(name) for verdict in (before, now)]
        rows.append((f"suspects `{name}`", *(answer["sentence"] if answer else NONE for answer in answers)))
        if len({answer and answer["state"] for answer in answers}) > 1:
            moved.add(f"suspects `{name}`")
    moved |= {what for what, was, is_ in rows if what in named and was != is_}
    lines = [f"| {what} | {was or NONE} | {mark(is_ or NONE, what in moved)} |" for what, was, is_ in rows]
    return [f"**{target}**", "", "| | before | now |", "|---|---|---|", *lines, ""]


def beyond(before: dict[str, Any], now: dict[str, Any], key: str) -> bool:
    """Whether a figure lies outside of the interval that the other run gives it, or only one of them has it."""
    values = [figures.get(key) for figures in (before, now)]
    if None in values:
        return values != [None, None]
    return not (inside(values[0], now, key) and inside(values[1], before, key))


def mark(text: str, moved: bool) -> str:
    return f"**{text}**" if moved else text


def of_params(old: Audit, new: Audit) -> list[str]:
    was, is_ = flat(old.params), flat(new.params)
    changed = [key for key in {**was, **is_} if was.get(key, NONE) != is_.get(key, NONE)]
    lines = [f"- `{key}`: {json.dumps(was.get(key))} -> {json.dumps(is_.get(key))}" for key in changed]
    return [f"**Parameters changed**: {len(changed) or NONE}", "", *lines, *([""] if lines else [])]


def of_rates(old: Audit, new: Audit) -> list[str]:
    """How many rates differ, and those that lie outside of the other run's interval."""
    count, differ, outside = rates(old, new)
    rows = [f"| {of} | {was} | {is_} |" for of, was, is_ in outside]
    return [line(count, differ, len(outside)), *(["", "| | before | now |", "|---|---|---|", *rows] if rows else [])]


def summary(base: str) -> str:
    """What differs between a commit and the working tree, in Markdown: what matters first."""
    old, new = Audit(base), Audit("")
    targets = sorted(old.verdicts.keys() | new.verdicts.keys())
    tables = [line for target in targets for line in of_target(target, old, new)]
    return "\n".join([f"### Audit since {base}", "", *tables, *of_params(old, new), *of_rates(old, new)]) + "\n"


def exceeded(audit: Audit) -> list[str]:
    """A line on each ceiling, of `fail_above` in params.yaml, that a target is not shown to keep."""
    return [
        f"{target}: {sentence}"
        for target, verdict in audit.verdicts.items()
        for held, sentence in zip(verdict.get("ceilings", []), ceiling_sentences(verdict), strict=True)
        if held["state"] != "passes"
    ]


def main() -> None:
    check()
    fork = told("git", "merge-base", "HEAD", sys.argv[1] if len(sys.argv) > 1 else "origin/main").strip()
    base = told("git", "rev-parse", "--short", fork).strip()
    if page := os.environ.get("GITHUB_STEP_SUMMARY"):
        Path(page).write_text(summary(base))
    else:
        print(summary(base))
    told("dvc", "plots", "diff", base, "--out", "dvc_plots")
    if not_kept := exceeded(Audit("")):
        print("\n".join(not_kept), file=sys.stderr)
        sys.exit(FAILED)


if __name__ == "__main__":
    main()
