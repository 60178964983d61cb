"""The commands of the guide to models run as written, and so does its entry of scores from elsewhere."""

import json

import pandas as pd
import pytest
from walk import DOCS, MODELS, add_entry, prepared, scores_from_elsewhere, to_walk, walk


@pytest.mark.slow
def test_the_commands_of_the_guide_to_models_run_as_written(finished_clone, tmp_path):
    folder = prepared(finished_clone, tmp_path / "clone")
    scores_from_elsewhere(folder)
    add_entry(folder, "theirs")  # which the next command computes too, for the page
    for command in to_walk([DOCS[page] for page in MODELS]):
        walk(folder, command)
    assert json.loads((folder / "metrics/details/theirs.json").read_text())["judges"]["gbm"]["members"] == 40
    curve = pd.read_csv(folder / "metrics/epochs/epochs.csv")
    assert curve["target"].tolist() == ["epochs_epoch_1", "epochs_epoch_2"]
    assert curve["auc"].nunique() == 1, "their weights are the same"
    page = (folder / "metrics/report.html").read_text()
    assert all(f' id="{target}"' in page for target in ("theirs", *curve["target"]))
