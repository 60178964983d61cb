"""The commands of README.md and of the pages for a beginning run as written, and so do those that compare."""

import json
import shutil

import pytest
from walk import (
    COMPARISONS,
    DOCS,
    FIRST_STEPS,
    README,
    add_entry,
    entry_in_docs,
    entry_of,
    photos,
    prepared,
    to_walk,
    walk,
)

pytestmark = pytest.mark.slow


def test_the_commands_of_the_readme_and_the_first_pages_run_as_written(finished_clone, tmp_path):
    folder = prepared(finished_clone, tmp_path / "clone")
    for command in to_walk([README, *(DOCS[page] for page in FIRST_STEPS)]):
        if command == "dvc add found && dvc repro":
            assert entry_of(folder, "mine") == entry_in_docs("mine"), "it is the one that the command writes"
            photos(folder / "found", 30)
            add_entry(folder, "found")
        walk(folder, command)
    assert json.loads((folder / "metrics/details/mine.json").read_text())["judges"]["gbm"]["members"] == 30
    assert json.loads((folder / "metrics/suspects/found.json").read_text())["suspects"] == 30
    state = json.loads((folder / "metrics/summary.json").read_text())["ours"]["state"]
    assert state in ("members_unknown", "no_verdict")
    page = (folder / "metrics/report.html").read_text()
    assert all(f' id="{target}"' in page for target in ("mine", "ours"))
    assert (tmp_path / "my_audit/dvc.yaml").exists()


def test_the_commands_that_compare_run_as_written(finished_clone, tmp_path):
    folder = shutil.copytree(finished_clone, tmp_path / "clone", symlinks=True)
    for command in to_walk([DOCS[page] for page in COMPARISONS]):
        walk(folder, command)
