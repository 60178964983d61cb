"""The gate of a pull request: is dvc.lock what the code and the parameters give?  If so, what changed in the figures.

    python .ci/pull_request.py [the branch it is to be merged into]

Needs git and DVC: no data, no cache, no remote.  The summary goes to $GITHUB_STEP_SUMMARY, or else to the standard
output; the curves go to dvc_plots/.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

from dvc.repo import Repo
from dvc.stage import Stage

FIGURES = r"\.(auc|tpr_at_fpr_1e-2|realised_fpr_at_alpha_1e-2) "


def told(*words: str) -> str:
    """What a program prints; its failure is ours."""
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True)
    return done.stdout if done.returncode == 0 else sys.exit(done.returncode)


def stale() -> list[str]:
    """The stages at which `dvc repro` would begin to run; data that is absent counts as what dvc.lock says of it.

    `dvc repro --dry --allow-missing` is meant to tell, but ends in an error where a stale stage's data is absent, and
    `dvc status` calls all that is absent changed.
    """
    with Repo() as repo, repo.lock:
        graph = repo.index.graph  # a stage's successors are the stages that it depends on
        return [stage.addressing for stage in graph if is_stale(stage, list(graph.successors(stage)))]


def is_stale(stage: Stage, upstream: list[Stage]) -> bool:
    """Whether anything that is there differs from dvc.lock, or a file is absent that git should have."""
    in_git = [out for out in stage.outs if not out.use_cache]
    return stage.changed(allow_missing=True, upstream=upstream) or not all(out.exists for out in in_git)


def summary(base: str) -> str:
    """The main figures that differ between a commit and the working tree, in Markdown."""
    lines = told("dvc", "metrics", "diff", "--md", base).strip().splitlines()
    rows = [line for line in lines[2:] if re.search(FIGURES, line)]
    return "\n".join([f"### Figures since {base}", "", *(lines[:2] + rows if rows else ["None changed."])]) + "\n"


def main() -> None:
    if stages := stale():
        sys.exit(f"dvc.lock is out of date: run `dvc repro` and commit its results.  Stale: {', '.join(stages)}")
    fork = told("git", "merge-base", "HEAD", sys.argv[1] if len(sys.argv) > 1 else "origin/main").strip()
    base = told("git", "rev-parse", "--short", fork).strip()
    if page := os.environ.get("GITHUB_STEP_SUMMARY"):
        Path(page).write_text(summary(base))
    else:
        print(summary(base))
    told("dvc", "plots", "diff", base, "--out", "dvc_plots")


if __name__ == "__main__":
    main()
