"""Gains on the same images, groups of members, and their neighbours, by hand."""

import numpy as np
import pandas as pd
import pytest
from test_measurement import ASKED

from leakgauge.bags import Scored
from leakgauge.quantile.inputs import Inputs
from studies.common.audits import Audit
from studies.common.families import best_column
from studies.common.measurement import ONE_FOR_ALL, PER_IMAGE
from studies.exposure.members import by_group, correlations, found, nearest
from studies.uplift.paired import area, gain, tpr_at


def test_a_rule_gains_nothing_over_itself_and_the_interval_says_so():
    rng = np.random.default_rng(0)
    scores = {"member": rng.standard_normal(60) + 1, "holdout": rng.standard_normal(90)}
    assert gain(scores, scores, tpr_at(0.1), 0.95, 0) == [0, 0, 0]


def test_a_gain_on_the_same_images_is_known_better_than_on_others():
    rng = np.random.default_rng(0)
    base = {"member": rng.standard_normal(200) + 1, "holdout": rng.standard_normal(200)}
    better = base | {"member": base["member"] + 0.3}
    value, low, high = gain(better, base, area, 0.95, 0)
    assert 0 < low < value < high
    apart = gain(better, {role: rng.permutation(part) for role, part in base.items()}, area, 0.95, 0)
    assert high - low < apart[2] - apart[1]


def test_members_found_are_those_above_the_threshold_that_accuses_as_many_as_allowed():
    holdout = np.arange(10.0)
    assert found(np.array([7.5, 8.5, 8.0, 9.5]), holdout, 0.1).tolist() == [False, True, False, True]
    assert found(np.array([7.5, 8.5]), holdout, 0.25).tolist() == [True, True]


def test_the_nearest_neighbour_is_another_image_and_its_distance_a_root_mean_square():
    images = np.array([[0.0, 0.0], [3.0, 3.0], [10.0, 0.0]])
    assert nearest(images, images, itself=True) == pytest.approx([3, 3, np.sqrt(58 / 2)])
    assert nearest(images, np.array([[0.0, 4.0]]), itself=False) == pytest.approx(
        [np.sqrt(8), np.sqrt(5), np.sqrt((100 + 16) / 2)]
    )
    twins = np.zeros((2, 2))
    assert nearest(twins, twins, itself=True).tolist() == [0, 0]


@pytest.fixture
def members() -> pd.DataFrame:
    """Twenty members of two models; one rule finds the simple ones, the other every second."""
    complexity = np.tile(np.arange(10.0), 2)
    return pd.DataFrame(
        {
            **{"seed": np.repeat([0, 1], 10), "class": np.tile([0, 1], 10), "complexity": complexity},
            **{"nearest_member": complexity, "nearest_auxiliary": -complexity},
            **{"for_all": -complexity, "for_all_found": complexity < 4},
            **{"for_each": np.tile([3.0, 1.0], 10), "for_each_found": np.tile([True, False], 10)},
        }
    )


def test_groups_have_equally_many_members_and_their_rates_are_counted(members):
    table = by_group(members, 5, 0.95).set_index(["by", "rule", "group"]).sort_index()
    assert (table.loc["complexity"]["members"] == 4).all()
    assert table.loc[("complexity", ONE_FOR_ALL)]["tpr_count"].tolist() == [4, 4, 0, 0, 0]
    assert table.loc[("complexity", PER_IMAGE)]["tpr_count"].tolist() == [2] * 5
    assert table.loc[("class", PER_IMAGE)]["tpr"].tolist() == [1, 0]
    assert table.loc[("complexity", ONE_FOR_ALL, 2)][["low", "high"]].tolist() == [2, 3]


def test_margins_are_ranked_within_their_model(members):
    members.loc[members["seed"] == 1, "for_all"] += 1000  # another model's scale
    table = correlations(members, 0.95).set_index(["quantity", "rule"])
    assert table.loc[("complexity", ONE_FOR_ALL), "correlation"] == pytest.approx(-1)
    assert table.loc[("nearest_auxiliary", ONE_FOR_ALL), "correlation"] == pytest.approx(1)
    assert abs(table.loc[("complexity", PER_IMAGE), "correlation"]) < 0.4


def test_the_pilot_recommends_the_column_that_tells_its_members_best():
    def scored(**columns: list[float]) -> Scored:
        count = len(next(iter(columns.values())))
        inputs = Inputs(np.zeros((count, 1, 2, 2), np.uint8), np.zeros((count, 1), np.float32))
        return Scored(inputs, np.arange(count).astype(str), {name: np.array(v) for name, v in columns.items()})

    member = scored(pia_t20=[0.0, 3.0], pia_t50=[0.0, 1.0], pian_t20=[-9.0, -9.0])
    holdout = scored(pia_t20=[2.0, 4.0], pia_t50=[2.0, 4.0], pian_t20=[0.0, 0.0])
    assert best_column(Audit(0, 1, {"member": member, "holdout": holdout}), "pia_t", ASKED) == "pia_t50"
