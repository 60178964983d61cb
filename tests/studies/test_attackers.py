"""How many auxiliary images, and how large an attacker: the bags are those that the library fits."""

import numpy as np
import pytest
from test_measurement import ASKED, study

from leakgauge.bags import BagRunner, Scored
from leakgauge.errors import InputError
from leakgauge.inference.conformal import fpr_range
from leakgauge.options import Learner
from leakgauge.quantile.inputs import Inputs
from studies.auxiliary_size.__main__ import AuxiliarySize, realised, subsets
from studies.auxiliary_size.__main__ import rows as by_size
from studies.common.audits import Audit
from studies.common.runner import Study
from studies.width.__main__ import Width, parameters
from studies.width.__main__ import rows as by_width

LEARNERS = {"gbm": {"kind": "gbm", "trees": 5}, "resnet": {"kind": "resnet", "width": 4, "epochs": 1}}


@pytest.fixture
def audit(random_images) -> Audit:
    """A model of which 40 images of noise are members, 100 auxiliary and 60 holdout."""
    rng, parts = np.random.default_rng(0), {}
    for role, rows in {"member": range(40), "auxiliary": range(40, 140), "holdout": range(140, 200)}.items():
        pixels = random_images[list(rows)]
        scores = pixels.std(axis=(1, 2, 3)) / 20 + rng.standard_normal(len(rows)) - 2 * (role == "member")
        features = np.stack([pixels.mean(axis=(1, 2, 3)), pixels.std(axis=(1, 2, 3))], axis=1).astype(np.float32)
        hashes = np.array([f"image {row}" for row in rows])
        parts[role] = Scored(Inputs(pixels, features), hashes, {"t_error_t10": scores})
    return Audit(3, 9, parts)


@pytest.fixture
def asked(audit, tmp_path, monkeypatch):
    """A study of this one model, with some options."""
    monkeypatch.setattr(Study, "audits", lambda *_: [audit])
    return lambda own: study(tmp_path, size=4, own=own, **LEARNERS)


def sizes(*counts: int | str) -> AuxiliarySize:
    return AuxiliarySize(view="x", seeds=[3], counts=list(counts))


def test_all_auxiliary_images_give_the_bag_of_the_library_and_fewer_that_of_a_random_subset(audit, asked, tmp_path):
    of = asked(sizes("all", 60))
    few, every = by_size(of)
    assert (few["auxiliary"], every["auxiliary"], every["seed"]) == (60, 100, 3)
    order = np.random.default_rng(0).permutation(100)
    for row, subset in ((few, np.sort(order[:60])), (every, np.arange(100))):
        runner = BagRunner(audit.roles, 0, tmp_path / "again")
        fitted = runner.fit(of.learner("gbm"), 4, ["t_error_t10"], subset, "test")
        scores = fitted.judge().membership_score
        assert row["out_of_bag_loss"] == fitted.out_of_bag_loss
        assert row["auc"] == pytest.approx((scores["member"][:, None] > scores["holdout"]).mean())
    assert few["out_of_bag_loss"] != every["out_of_bag_loss"]


def test_a_smaller_subset_is_part_of_a_larger_one(audit, asked):
    small, large = subsets(asked(sizes(80, 50, 80)), audit)
    assert set(small) < set(large)
    assert (len(small), len(large)) == (50, 80)


def test_the_realised_fpr_is_counted_and_left_out_where_too_few_images_calibrate(audit, asked):
    result = asked(sizes("all")).fit(audit.roles, ["t_error_t10"], "one").judge()
    found = realised(result, ASKED)
    assert found["realised_fpr"] == (result.p_value["holdout"] <= 0.1).mean()
    assert (found["realised_fpr_expected_low"], found["realised_fpr_expected_high"]) == fpr_range(
        result.calibration_size, 60, 0.1, 0.95
    )
    assert np.isnan(list(realised(result, ASKED.model_copy(update={"fpr": 0.005})).values())).all()


@pytest.mark.parametrize("count", [49, 101])
def test_a_subset_that_cannot_be_is_one_line_that_names_the_option(count, audit, asked):
    with pytest.raises(
        InputError, match=rf"auxiliary_size\.counts: {count} images asked for: needs at least 50 and at "
    ):
        subsets(asked(sizes(count)), audit)


def widths(learner: str) -> Width:
    return Width(view="x", seeds=[3], learner=learner, bag_size=2, widths=[4, 2, 4])


def test_a_width_gives_the_bag_of_a_resnet_so_wide_and_its_parameters_are_counted(audit, asked, tmp_path):
    narrow, wide = by_width(asked(widths("resnet")))
    assert (narrow["width"], wide["width"]) == (2, 4)
    assert 0 < narrow["parameters"] < wide["parameters"]
    learner = Learner.model_validate(LEARNERS["resnet"] | {"width": 2})
    fitted = study(tmp_path / "again", size=2, resnet=learner.model_dump()).fit(audit.roles, ["t_error_t10"], "one")
    assert narrow["out_of_bag_loss"] == fitted.out_of_bag_loss
    assert narrow["parameters"] == parameters(audit.roles["auxiliary"].inputs, learner.root)


def test_a_learner_of_another_kind_has_no_width(asked):
    with pytest.raises(InputError, match=r"width\.learner: learner 'gbm' is a gbm, not a resnet"):
        next(by_width(asked(widths("gbm"))))
