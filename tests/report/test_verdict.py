"""The verdict: its states by hand, its sentences, and how often it calls a target leaky that leaks nothing."""

import numpy as np
import pytest

from leakgauge.inference import roc
from leakgauge.inference.metrics import level_name, membership_metrics
from leakgauge.report.verdict import (
    FEWEST_FALSE_POSITIVES,
    SET_TITLES,
    TITLES,
    WIDTH,
    epsilon_sentence,
    failing_of,
    gain_sentence,
    lines,
    lower_bound_alone,
    set_verdict,
    verdict_of,
)
from leakgauge.report.words import check_rows

ENDS = ("", "_ci_low", "_ci_high")
IMAGES = {"member": 200, "auxiliary": 597, "holdout": 1000}
EXPOSED = [{"image_id": f"photo-{number}.png", "p_value": 0.0017 * number} for number in range(1, 6)]


def of_ends(name: str, *values: float | None) -> dict[str, float | None]:
    return dict(zip((f"{name}{end}" for end in ENDS), values, strict=True))


def headline(**others) -> dict:
    """By hand: 47 % (38 to 56) of the members at 1 % FPR, 32 % by one threshold."""
    figures = {"judge": "stack", "fpr": 0.01, "baseline": "marginal"}
    figures |= of_ends("tpr", 0.47, 0.38, 0.56) | of_ends("auc", 0.9, 0.88, 0.92)
    figures |= of_ends("baseline_tpr", 0.32, 0.25, 0.41) | of_ends("gain", 0.15, 0.06, 0.24)
    figures |= {"realised_fpr": 0.008, "realised_fpr_expected_low": 0.002, "realised_fpr_expected_high": 0.019}
    return figures | of_ends("auc_gain", 0.03, 0.01, 0.05) | others


def verdict(failing=(), images=IMAGES, **others) -> dict:
    return verdict_of(headline(**others), images, failing, 9, EXPOSED, 0.95)


def test_the_sentence_says_what_an_attacker_identifies_at_which_false_positive_rate():
    found = verdict()
    assert found["state"] == "leaks"
    assert found["sentence"] == (
        "At 1 % false alarms an attacker identifies 47 % (95 % interval: 38 to 56) of the training images."
    )
    assert gain_sentence(found) == (
        "One threshold for all images: 32 %. Thresholds for each image: at 1 % false alarms more (+15.0 points, +6.0 "
        "to +24.0); over all rates of false alarms more (AUC +0.030, +0.010 to +0.050)."
    )


def test_a_difference_is_called_clear_only_where_its_interval_leaves_out_zero():
    unclear = gain_sentence(verdict(**of_ends("gain", -0.02, -0.14, 0.17)))
    assert "at 1 % false alarms no clear difference (-2.0 points, -14.0 to +17.0)" in unclear
    fewer = gain_sentence(verdict(**of_ends("gain", -0.12, -0.14, -0.01)))
    assert "at 1 % false alarms fewer (-12.0 points, -14.0 to -1.0)" in fewer


@pytest.mark.parametrize(
    ("tpr_low", "auc_low", "state"),
    [(0.011, 0.6, "leaks"), (0.011, 0.49, "leaks"), (0.009, 0.51, "leaks"), (0.01, 0.5, "none_found")],
)
def test_a_target_leaks_where_either_interval_lies_above_chance(tpr_low, auc_low, state):
    found = verdict(**of_ends("tpr", 0.02, tpr_low, 0.2), **of_ends("auc", 0.55, auc_low, 0.7))
    assert found["state"] == state


def test_a_failing_check_takes_the_verdict_away_whatever_the_figures():
    found = verdict(failing=["blind_member"])
    assert found["state"] == "no_verdict"
    assert found["sentence"] == (
        "9 checks, 1 failure: blind_member. The figures may show something other than leakage."
    )
    assert "47" not in found["sentence"]


def test_a_difference_that_a_bootstrap_cannot_vouch_for_is_not_given():
    found = verdict(images=IMAGES | {"holdout": 200}, **of_ends("gain", 0.15, -1.0, 1.0))
    assert gain_sentence(found) == (
        "One threshold for all images: 32 %; 200 holdout images are too few to tell a difference."
    )


def test_without_members_nothing_is_said_of_leakage():
    nothing = {
        name: None for figure in ("tpr", "auc", "gain", "auc_gain", "baseline_tpr") for name in of_ends(figure, 0, 0, 0)
    }
    found = verdict(images=IMAGES | {"member": 0}, **nothing)
    assert found["state"] == "members_unknown"
    assert "AUC" not in "\n".join(lines("mine", found))


def test_a_holdout_that_cannot_resolve_the_rate_is_said_to_and_the_auc_speaks():
    found = verdict(
        images=IMAGES | {"holdout": 60}, **of_ends("tpr", None, None, None), **of_ends("gain", None, None, None)
    )
    assert found["state"] == "leaks"
    assert found["sentence"].startswith("60 holdout images cannot resolve 1 % false alarms. An attacker ranks")
    assert "0.90 (0.88 to 0.92)" in found["sentence"]


def test_fewer_than_five_expected_false_positives_leave_a_lower_bound_alone():
    found = verdict(images=IMAGES | {"holdout": 200})
    assert "47 % (at least 38) of the training images" in found["sentence"]


def test_ten_lines_at_most_say_it_on_a_terminal():
    printed = lines("mine", verdict())
    assert printed[0] == "mine: THE MODEL REVEALS WHICH IMAGES IT WAS TRAINED ON"
    assert len(printed) <= 10
    assert max(map(len, printed)) <= WIDTH
    assert printed[-1] == (
        "exposed       photo-1.png, photo-2.png, photo-3.png, photo-4.png, photo-5.png (p <= 0.0085)"
    )
    assert all(line.isascii() for line in printed)


@pytest.mark.parametrize(
    ("p_value", "failing", "state"), [(0.04, [], "used"), (0.06, [], "no_evidence"), (1e-9, ["x"], "no_verdict")]
)
def test_a_set_of_suspects_is_called_used_at_the_confidence_asked_for(p_value, failing, state):
    figures = {"suspects": 40, "distinct": 38, "p_value": p_value, "named": 7, **of_ends("fraction", 0.8, 0.6, 0.95)}
    found = set_verdict(figures, failing, 0.95, 0.1)
    assert found["state"] == state
    if state == "used":
        assert found["sentence"] == (
            "About 80 % (60 to 95) of 40 images were used (p = 0.04 if none was). 7 are named; of those named at most "
            "10 % were not used, on average."
        )


def test_without_members_the_share_of_a_set_is_a_lower_bound():
    figures = {"suspects": 40, "distinct": 40, "p_value": 1e-12, "named": 7, **of_ends("fraction", None, 0.6, None)}
    assert set_verdict(figures, [], 0.95, 0.1)["sentence"].startswith("At least 60 % of 40 images were used (p < 1e-9")


def test_a_share_without_a_lower_end_is_not_called_at_least_nothing():
    """Of members that look like other images here, and of none known where no suspect stands out."""
    figures = {"suspects": 20, "distinct": 20, "p_value": 0.005, "named": 0, **of_ends("fraction", None, 0.0, 1.0)}
    sentence = set_verdict(figures, [], 0.95, 0.1)["sentence"]
    assert sentence.startswith("How many of 20 images were used cannot be told (p = 0.005 if none was).")


def test_a_bound_alone_is_given_where_inference_gives_one():
    assert FEWEST_FALSE_POSITIVES == roc.FEWEST_FALSE_POSITIVES
    rng = np.random.default_rng(0)
    for holdout, fpr in ((499, 0.01), (500, 0.01), (100, 0.05), (99, 0.05)):
        found = roc.tpr_at_fpr(rng.normal(size=50), rng.normal(size=holdout), fpr, 0.95)
        assert found is not None
        assert lower_bound_alone(fpr, holdout) == (found.high == 1), (holdout, fpr)


BOUND = {"epsilon": 1.923, "most": 4.216, "guesses": 150, "correct": 140, "pairs": 300}


def test_the_bound_on_epsilon_is_said_with_the_guesses_it_rests_on_and_not_where_a_check_fails():
    of = verdict() | {"epsilon_bound": BOUND}
    assert "not (epsilon, 0)-differentially private with an epsilon below 1.92: of 300 pairs" in epsilon_sentence(of)
    assert "140 of the 150 surest guesses" in epsilon_sentence(of)
    assert "at most 4.22" in epsilon_sentence(of)
    said = [line.split() for line in lines("mine", of)]
    assert ["epsilon", "at", "least", "1.92,"] in [words[:4] for words in said]
    assert epsilon_sentence(of | {"epsilon_bound": None}) == ""
    none = of | {"epsilon_bound": BOUND | {"epsilon": 0.0, "correct": 80}}
    assert epsilon_sentence(none).startswith("No bound: of 300 pairs")
    assert not any(line.startswith("epsilon") for line in lines("mine", none))
    failing = verdict(failing=["blind_member"]) | {"epsilon_bound": BOUND}
    assert epsilon_sentence(failing) == "No bound while a check fails."
    assert not any(line.startswith("epsilon") for line in lines("mine", failing))


def test_every_state_has_a_title():
    assert {verdict()["state"], "none_found", "no_verdict", "members_unknown"} == set(TITLES)
    assert set(SET_TITLES) == {"used", "no_evidence", "no_verdict"}


@pytest.mark.parametrize(("members", "holdout", "fpr"), [(200, 1000, 0.01), (200, 499, 0.01), (30, 45, 0.1)])
def test_a_target_that_leaks_nothing_is_called_leaky_in_one_audit_of_twenty_at_most(members, holdout, fpr):
    """By simulation: both intervals together, members and holdout from one distribution; of the second the TPR has a
    lower bound alone."""
    rng = np.random.default_rng(0)
    calls = 0
    draws = 400
    images = {"member": members, "auxiliary": 597, "holdout": holdout}
    for _ in range(draws):
        found = membership_metrics(rng.normal(size=members), rng.normal(size=holdout), (fpr,), 0.95)
        figures = of_ends("tpr", *(found[f"tpr_at_fpr_{level_name(fpr)}{end}"] for end in ENDS)) | {"fpr": fpr}
        figures |= of_ends("auc", *(found[f"auc{end}"] for end in ENDS))
        calls += verdict(images=images, **figures)["state"] == "leaks"
    assert calls / draws <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / draws), calls
    assert calls, "a rule that never calls anything leaky would pass too"


def test_a_check_without_words_of_its_own_is_listed_and_alarms_by_its_name():
    found = {"watermark_member": {"p_value": 1e-6, "fails": True}, "blind_member": {"auc": None, "fails": False}}
    assert failing_of(found) == ["watermark_member"]
    first, second, null = check_rows(found)
    assert (first.what, first.fails, first.found) == ("watermark member", True, "p = 1e-06")
    assert not second.possible
    assert not null.possible, "no target, no null check"
