"""The score that judges is chosen on a share of members and holdout, and that share is reported nowhere."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from conftest import TINY_LEARNERS, dump_params, learn, tiny_params

from leakgauge.draws import share_by_name
from leakgauge.inference.selection import rank_candidates, selection_split
from leakgauge.inference.supervised import SUPERVISED
from leakgauge.options import Evaluate
from leakgauge.tables import read_metadata, read_table, write_table
from stages.config import config
from stages.evaluate import evaluate
from stages.fit import fit
from stages.predict import predict
from stages.report import report

TARGET = "digits_ddpm"
MEASURED = ("member", "holdout")
VERDICTS, METRICS = Path(f"data/verdicts/{TARGET}.parquet"), Path(f"metrics/details/{TARGET}.json")


def chosen(**options: object) -> dict:
    """What `evaluate` says of its choice."""
    learn(["pia_t20", "loss_t20"], score="selected", **options)
    evaluate(TARGET)
    return json.loads(METRICS.read_text())["selection"]


def scored(role: str) -> Path:
    return Path(f"data/scores/{TARGET}/{role}.parquet")


def apart(role: str, share: float) -> np.ndarray:
    """(N,) bool: the images of a role that the choice is made on."""
    ids = read_table(scored(role)).column("image_id").to_pylist()
    return selection_split(TARGET, ids, role, Evaluate(selection=share))


@pytest.fixture
def learnt(audit) -> None:
    """Every learner has learnt two scores."""
    learn(["pia_t20", "loss_t20"])
    for learner in TINY_LEARNERS:
        fit(TARGET, learner)
        predict(TARGET, learner)


def plant(column: str, role: str, values: np.ndarray) -> None:
    table = read_table(scored(role))
    table = table.set_column(table.column_names.index(column), column, pa.array(values))
    write_table(scored(role), table, read_metadata(scored(role)))


def plant_opposites(share: float) -> None:
    """Of the images of the choice pia_t20 alone tells members, of the others loss_t20."""
    rng = np.random.default_rng(0)
    for role, lowest in (("member", 0), ("holdout", 5)):
        known = apart(role, share)
        noise, told = rng.uniform(10, 20, len(known)), lowest + rng.uniform(0, 1, len(known))
        plant("pia_t20", role, np.where(known, told, noise))
        plant("loss_t20", role, np.where(known, noise, told))
    for learner in TINY_LEARNERS:
        predict(TARGET, learner)


def test_seed_and_name_alone_decide_who_is_of_the_choice():
    ids = [f"image-{i}" for i in range(10_000)]
    of_choice = share_by_name(ids, 0.3, seed=0)
    assert 0.28 < of_choice.mean() < 0.32
    assert share_by_name(ids[::-1], 0.3, seed=0).tolist() == of_choice[::-1].tolist()
    assert share_by_name(ids[:100], 0.3, seed=0).tolist() == of_choice[:100].tolist(), "more images move none"
    assert 0.5 < (share_by_name(ids, 0.3, seed=1) == of_choice).mean() < 0.65
    assert not share_by_name(ids, 0.0, seed=0).any()


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


def test_by_default_nothing_is_chosen_and_the_first_score_judges(audit):
    found = json.loads(METRICS.read_text())
    assert found["selection"] == {"score": "t_error_t10", "chosen": None}
    assert all((of["members"], of["holdout"]) == (60, 150) for of in found["judges"].values())


@pytest.mark.parametrize("criterion", ["auc", {"tpr_at_fpr": 0.1}])
def test_the_score_that_tells_members_is_chosen_on_the_images_of_the_choice_alone(criterion, learnt):
    plant_opposites(0.4)
    selection = chosen(selection=0.4, criterion=criterion)
    assert (selection["score"], selection["chosen"]) == ("pia_t20", "pia_t20")
    assert (selection["candidates"], selection["value"]) == (2, 1.0)
    assert list(selection["by_score"]) == ["pia_t20", "loss_t20"]
    for role, name in (("member", "members"), ("holdout", "holdout")):
        assert selection[name] == apart(role, 0.4).sum()
    judges = json.loads(METRICS.read_text())["judges"]
    assert 0.3 < judges["marginal"]["auc"] < 0.7, "elsewhere the chosen score tells nothing"


def test_every_learner_is_judged_by_the_chosen_score(learnt):
    plant_opposites(0.4)
    rows = {}
    for score in ("selected", "pia_t20", "loss_t20"):
        learn(["pia_t20", "loss_t20"], score=score, selection=0.4)
        evaluate(TARGET)
        rows[score] = read_table(VERDICTS).to_pandas()
    assert rows["selected"].equals(rows["pia_t20"]), "how the name was found changes nothing"
    for judge in (*TINY_LEARNERS, "stack"):
        one, other = (
            rows[score].loc[rows[score]["learner"] == judge, "membership_score"].to_numpy()
            for score in ("selected", "loss_t20")
        )
        assert not np.array_equal(one, other)


def test_images_of_the_choice_are_in_no_verdict_figure_or_curve(learnt):
    learn(["pia_t20", "loss_t20"])
    evaluate(TARGET)
    before = read_table(VERDICTS).to_pandas()
    learn(["pia_t20", "loss_t20"], score="pia_t20", selection=0.4, curve_fpr=0.1)
    evaluate(TARGET)
    report()
    of_choice, counts = set(), {}
    for role in MEASURED:
        known = apart(role, 0.4)
        of_choice |= set(np.array(read_table(scored(role)).column("image_id").to_pylist())[known])
        counts[role] = int((~known).sum())
    rows = read_table(VERDICTS).to_pandas()
    both = before[~before["image_id"].isin(of_choice)], rows
    left, rows = (of[of["learner"] != SUPERVISED].infer_objects() for of in both)  # raw verdicts: none is null
    assert rows.equals(left.reset_index(drop=True)), "what is left is judged as before"
    for figures in json.loads(METRICS.read_text())["judges"].values():
        assert (figures["members"], figures["holdout"]) == (counts["member"], counts["holdout"])
    plots = Path(f"metrics/plots/{TARGET}")
    images = pd.read_csv(plots / "conditional_fpr.csv").query("nominal == 0.1 and learner == 'gbm'")
    assert images.groupby("group_by")["images"].sum().tolist() == [counts["holdout"]] * 2
    alpha = pd.read_csv(plots / "alpha.csv")
    np.testing.assert_allclose(alpha["fpr"], alpha["fpr_count"] / counts["holdout"], rtol=1e-5)
    np.testing.assert_allclose(alpha["tpr"], alpha["tpr_count"] / counts["member"], rtol=1e-5)
    for name, column, role in (
        ("roc", "fpr", "holdout"),
        ("bag_size", "tpr_min", "member"),
        ("timestep", "tpr", "member"),
    ):
        hits = pd.read_csv(plots / f"{name}.csv")[column] * counts[role]
        assert np.isfinite(hits).all()
        np.testing.assert_allclose(hits, hits.round(), atol=1e-3, err_msg=name)
    chosen_on = {role: len(apart(role, 0.4)) - counts[role] for role in MEASURED}
    verdict = json.loads(Path("metrics/summary.json").read_text())[TARGET]
    assert {role: verdict["images"][role] for role in MEASURED} == counts, "no image on which the score was chosen"
    page = Path("metrics/report.html").read_text()
    assert f"{chosen_on['member']} members and {chosen_on['holdout']} holdout images" in page


def test_the_same_images_give_the_same_bytes(learnt):
    written = []
    for _ in range(2):
        chosen(selection=0.4)
        written.append([VERDICTS.read_bytes(), METRICS.read_bytes()])
    assert written[0] == written[1]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"selection": 0.1}, "evaluate.selection: 0.1 takes "),
        ({"selection": 0.4, "criterion": {"tpr_at_fpr": 0.001}}, "evaluate.criterion.tpr_at_fpr: 0.001 is below what "),
    ],
)
def test_a_choice_that_cannot_be_made_is_refused_and_the_old_verdicts_stay(options, said, audit, refusal):
    learn(**{"score": "selected"} | options)
    before = VERDICTS.read_bytes()
    line = refusal(evaluate, target=TARGET)
    assert f"params.yaml: {said}" in line
    assert ("a choice needs at least 20" in line) == (options == {"selection": 0.1})
    assert VERDICTS.read_bytes() == before


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"criterion": "asr"}, "evaluate.criterion: "),
        ({"criterion": {"tpr_at_fpr": 2.0}}, "evaluate.criterion.tpr_at_fpr: Input should be less than 1"),
        ({"selection": 1.0}, "evaluate.selection: Input should be less than 1, found 1.0"),
        ({"score": "selected"}, "evaluate.score: selected, but nothing can be: evaluate.selection must be above 0"),
        ({"score": "pia_t21"}, "evaluate.score: pia_t21 was not learnt; fit.scores are t_error_t10"),
    ],
)
def test_a_fault_in_the_options_is_named(options, said, tmp_path, monkeypatch, refusal):
    monkeypatch.chdir(tmp_path)
    params = tiny_params()
    params["evaluate"] |= options
    dump_params(params)
    assert f"params.yaml: {said}" in refusal(config, target=TARGET)
