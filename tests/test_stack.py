"""A stack: weights that are known, from learners that are known."""

import numpy as np
import pytest

from leakgauge.inference.fusion import fit_stack
from stages.stack import stack

RNG = np.random.default_rng(0)
TRUTH, NOISE = RNG.standard_normal(20_000), RNG.standard_normal(20_000)
OBSERVED = TRUTH + 0.3 * RNG.standard_normal(20_000)


def test_a_learner_that_knows_gets_all_the_weight_and_the_scale_is_that_of_its_errors():
    location, scale = np.stack([TRUTH, NOISE]), np.ones((2, 20_000))
    fitted = fit_stack(location, scale, OBSERVED)
    assert fitted.location == pytest.approx([1, 0], abs=0.02)
    combined = fitted.combine(location, scale)
    assert combined[1] == pytest.approx(np.full(20_000, 0.3), rel=0.03)


def test_two_learners_with_errors_of_their_own_are_weighted_by_their_precision():
    errors = np.array([[0.4], [0.8]]) * RNG.standard_normal((2, 20_000))
    fitted = fit_stack(OBSERVED + errors, np.ones((2, 20_000)), OBSERVED)
    assert fitted.location == pytest.approx([0.8, 0.2], abs=0.02)  # 1 / 0.16 against 1 / 0.64


def test_a_scale_that_is_right_is_kept_and_one_that_tells_nothing_is_not():
    right, wrong = np.exp(RNG.uniform(-1, 1, (2, 20_000)))
    observed = right * RNG.standard_normal(20_000)
    fitted = fit_stack(np.zeros((2, 20_000)), np.stack([right, wrong]), observed)
    assert fitted.scale == pytest.approx([1, 0], abs=0.05)
    assert fitted.offset == pytest.approx(0, abs=0.03)


def test_a_stack_of_unknown_learners_or_of_quantiles_is_refused(audit, refusal):
    from conftest import tiny_params, write_params

    for learners, said in ((["oracle"], "stack.of: no learner 'oracle'"), (["gbm", "resnet"], "predicts quantiles")):
        params = tiny_params()
        params["stack"]["of"] = learners
        write_params(params)
        assert said in refusal(stack, target="digits_ddpm")
