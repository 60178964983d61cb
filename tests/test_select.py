"""A score is chosen on images set apart, and those are reported nowhere."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from conftest import tiny_params, write_params

from leakgauge.inference.metrics import rank_candidates, selection_split
from leakgauge.tables import read_metadata, read_table, write_table
from stages.evaluate import evaluate
from stages.report import report
from stages.select import select

TARGET = "digits_ddpm"
CHOICE = Path(f"data/selection/{TARGET}.json")
FIGURES = Path(f"metrics/selection/{TARGET}.json")
APART = Path(f"data/selection/{TARGET}.parquet")


def choose(**options) -> dict:
    """Run `select` with these options; what it chose and measured."""
    params = tiny_params()
    params["select"] |= options
    write_params(params)
    select(TARGET)
    return json.loads(FIGURES.read_text())


def plant(column: str, role: str, values: np.ndarray) -> None:
    path = Path(f"data/scores/{TARGET}/{role}.parquet")
    table = read_table(path)
    table = table.set_column(table.column_names.index(column), column, pa.array(values))
    write_table(path, table, read_metadata(path))


def test_seed_and_name_alone_decide_who_is_set_apart():
    ids = [f"image-{i}" for i in range(10_000)]
    apart = selection_split(ids, 0.3, seed=0)
    assert 0.28 < apart.mean() < 0.32
    assert selection_split(ids[::-1], 0.3, seed=0).tolist() == apart[::-1].tolist()
    assert selection_split(ids[:100], 0.3, seed=0).tolist() == apart[:100].tolist(), "more images move none"
    assert 0.5 < (selection_split(ids, 0.3, seed=1) == apart).mean() < 0.65
    assert not selection_split(ids, 0.0, seed=0).any()


def scores() -> tuple[pd.DataFrame, pd.DataFrame]:
    """`sharp` catches half of the members before any false positive; `broad` has the larger AUC."""
    holdout = pd.DataFrame({"sharp": np.arange(1.0, 11), "broad": np.arange(2.0, 12)})
    member = pd.DataFrame({"sharp": [0, 0, 20, 20], "broad": [1.0, 2.5, 2.6, 2.7]})
    return member, holdout


@pytest.mark.parametrize(("criterion", "best", "value"), [("auc", "broad", 37 / 40), (0.1, "broad", 1.0)])
def test_candidates_are_ranked_by_the_criterion(criterion, best, value):
    ranked = rank_candidates(*scores(), criterion, 0.95)
    assert ranked["score"][0] == best
    assert ranked["value"][0] == pytest.approx(value)
    assert ranked["ci_low"][0] < value <= ranked["ci_high"][0]


def test_a_tpr_and_an_auc_may_disagree():
    member, holdout = scores()
    member["broad"] += 1
    assert rank_candidates(member, holdout, "auc", 0.95)["score"][0] == "broad"
    assert rank_candidates(member, holdout, 0.1, 0.95)["score"][0] == "sharp"


def test_swapped_labels_choose_another_score():
    member, holdout = scores()
    assert rank_candidates(holdout, member, "auc", 0.95)["score"][0] == "sharp"


def test_by_default_nothing_is_set_apart_and_nothing_chosen(audit):
    assert json.loads(CHOICE.read_text()) == {"score": None}
    assert read_table(APART).num_rows == 0
    assert read_table(APART).column_names == ["image_id", "role"]
    assert json.loads(FIGURES.read_text()) == {"score": None, "candidates": 0, "members": 0, "holdout": 0}


@pytest.mark.parametrize("criterion", ["auc", {"tpr_at_fpr": 0.1}])
def test_the_score_that_tells_members_is_chosen_on_the_images_set_apart_alone(criterion, audit):
    options = {"share": 0.4, "criterion": criterion, "candidates": ["pia_*", "loss_t20"]}
    choose(**options)
    apart = set(read_table(APART).column("image_id").to_pylist())
    rng = np.random.default_rng(0)
    for role, lowest in (("member", 0), ("holdout", 5)):
        ids = read_table(Path(f"data/scores/{TARGET}/{role}.parquet")).column("image_id").to_pylist()
        known = np.array([name in apart for name in ids])
        noise = rng.uniform(10, 20, len(ids))
        plant("pia_t20", role, np.where(known, lowest + rng.uniform(0, 1, len(ids)), noise))
        plant("loss_t20", role, np.where(known, noise, lowest + rng.uniform(0, 1, len(ids))))  # tells the others
    figures = choose(**options)
    assert json.loads(CHOICE.read_text()) == {"score": "pia_t20"}, "fit is told this and nothing else"
    assert (figures["score"], figures["candidates"], figures["value"]) == ("pia_t20", 2, 1.0)
    assert list(figures["by_score"]) == ["pia_t20", "loss_t20"]
    assert figures["members"] + figures["holdout"] == len(apart)


def test_images_set_apart_are_in_no_verdict_and_no_figure(audit):
    before = read_table(Path(f"data/verdicts/{TARGET}.parquet")).to_pandas()
    figures = choose(share=0.4)
    evaluate(TARGET)
    report()
    apart = set(read_table(APART).column("image_id").to_pylist())
    rows = read_table(Path(f"data/verdicts/{TARGET}.parquet")).to_pandas()
    left = before[~before["image_id"].isin(apart)].reset_index(drop=True)
    assert rows.equals(left), "what is left is judged as before"
    metrics = json.loads(Path(f"metrics/{TARGET}.json").read_text())
    for learner in metrics.values():
        assert learner["members"] == 60 - figures["members"]
        assert learner["holdout"] == 150 - figures["holdout"]
    images = pd.read_csv(f"metrics/plots/{TARGET}/conditional_fpr.csv").query("nominal == 0.1 and learner == 'gbm'")
    assert images.groupby("group_by")["images"].sum().tolist() == [150 - figures["holdout"]] * 2
    page = Path("metrics/report.html").read_text()
    assert f"{figures['members']} members and {figures['holdout']} holdout images were set apart" in page


def test_the_same_images_give_the_same_bytes(audit):
    choose(share=0.4)
    before = [path.read_bytes() for path in (CHOICE, FIGURES, APART)]
    choose(share=0.4)
    assert [path.read_bytes() for path in (CHOICE, FIGURES, APART)] == before


def refused(refusal, **options) -> str:
    params = tiny_params()
    params["select"] |= options
    write_params(params)
    before = APART.read_bytes()
    line = refusal(select, target=TARGET)
    assert APART.read_bytes() == before
    return line


def test_too_small_a_share_is_refused(audit, refusal):
    line = refused(refusal, share=0.1)
    assert "params.yaml: select.share: 0.1 sets " in line
    assert "of 60 member images apart; a choice needs at least 20" in line


def test_a_candidate_that_no_score_is_named_is_refused_with_those_there_are(audit, refusal):
    line = refused(refusal, candidates=["t_error_*", "piaa_*"])
    assert "params.yaml: select.candidates: no score column is named 'piaa_*'; there are t_error_t0" in line


def test_an_fpr_that_the_images_set_apart_cannot_resolve_is_refused(audit, refusal):
    line = refused(refusal, share=0.4, criterion={"tpr_at_fpr": 0.001})
    assert "params.yaml: select.criterion.tpr_at_fpr: 0.001 is below what" in line


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"criterion": "asr"}, "params.yaml: select.criterion: "),
        ({"criterion": {"tpr_at_fpr": 2.0}}, "params.yaml: select.criterion.tpr_at_fpr: Input should be less than 1"),
        ({"share": 1.0}, "params.yaml: select.share: Input should be less than 1, found 1.0"),
    ],
)
def test_a_fault_in_the_section_is_named(options, said, audit, refusal):
    assert said in refused(refusal, **options)
