"""What a network predicts: epsilon by hand, from the definitions, and as diffusers has it."""

import math

import pytest
import torch
from diffusers import (
    DDPMScheduler,
    EDMEulerScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    ScoreSdeVeScheduler,
)

from leakgauge.diffusion.process import (
    PREDICTIONS,
    NoiseProcess,
    edm_prediction,
    flow_matching,
    prediction_of,
    variance_exploding,
    variance_preserving,
)

ONE = torch.ones((), dtype=torch.float64)


@pytest.mark.parametrize(
    ("kind", "x", "said", "alpha", "sigma", "epsilon", "x0"),
    [  # worked by hand from x_0 = 2 and epsilon = -1
        ("epsilon", 0.4, -1.0, 0.6, 0.8, -1.0, None),
        ("sample", 0.4, 2.0, 0.6, 0.8, -1.0, 2.0),
        ("v_prediction", 0.4, -2.2, 0.6, 0.8, -1.0, 2.0),  # 0.6 (-1) - 0.8 (2)
        ("score", -1.0, 1 / 3, 1.0, 3.0, -1.0, None),  # 1 / 3
        ("velocity", 1.25, -3.0, 0.75, 0.25, -1.0, 2.0),  # -1 - 2
    ],
)
def test_epsilon_and_x0_follow_from_what_is_predicted(kind, x, said, alpha, sigma, epsilon, x0):
    prediction = PREDICTIONS[kind]
    assert prediction.epsilon(x * ONE, said * ONE, alpha, sigma).item() == pytest.approx(epsilon, rel=1e-12)
    assert prediction.scale(sigma) == 1
    if x0 is None:
        assert prediction.x0 is None
    else:
        assert prediction.x0(x * ONE, said * ONE, alpha, sigma).item() == pytest.approx(x0, rel=1e-12)


def test_an_edm_network_by_hand():
    prediction = edm_prediction(sigma_data=0.5)
    sigma, x0, epsilon = 1.2, 2.0, -1.0  # sigma^2 + sigma_data^2 = 1.3^2
    x = x0 + sigma * epsilon
    c_skip, c_out = 0.25 / 1.69, 1.2 * 0.5 / 1.3
    said = (x0 - c_skip * x) / c_out
    assert prediction.scale(sigma) == pytest.approx(1 / 1.3)
    assert prediction.epsilon(x * ONE, said * ONE, 1.0, sigma).item() == pytest.approx(epsilon, rel=1e-12)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("sigma", [0.002, 0.5, 80.0])
def test_an_edm_network_is_read_as_diffusers_reads_it(sigma, kind):
    scheduler = EDMEulerScheduler(prediction_type=kind)
    prediction = prediction_of(scheduler)
    x, said = torch.randn(2, 3, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    denoised = scheduler.precondition_outputs(x, said, sigma)
    torch.testing.assert_close(prediction.epsilon(x, said, 1.0, sigma), (x - denoised) / sigma)
    torch.testing.assert_close(prediction.scale(sigma) * x, scheduler.precondition_inputs(x, sigma))


def test_a_prediction_that_is_unknown_is_none():
    assert prediction_of(DDPMScheduler(prediction_type="noise")) is None
    assert prediction_of(EDMEulerScheduler(prediction_type="sample")) is None


@pytest.mark.parametrize("schedule", ["linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid", "laplace"])
def test_a_variance_preserving_process_has_the_levels_of_its_scheduler(schedule):
    scheduler = DDPMScheduler(beta_schedule=schedule)
    process = NoiseProcess.from_scheduler(scheduler)
    torch.testing.assert_close((process.alpha**2).float(), scheduler.alphas_cumprod, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(process.alpha**2 + process.sigma**2, torch.ones(1000, dtype=torch.float64))
    assert process.time(30) == 30


def test_a_process_without_signal_at_its_end_has_an_alpha_of_zero_there():
    for scheduler in (DDPMScheduler(rescale_betas_zero_snr=True), EulerDiscreteScheduler(rescale_betas_zero_snr=True)):
        process = NoiseProcess.from_scheduler(scheduler)
        assert (process.alpha[-1], process.sigma[-1]) == (0, 1)
        assert process.with_signal().num_train_timesteps == 999
    assert variance_preserving(DDPMScheduler().betas).with_signal().num_train_timesteps == 1000


def test_a_variance_exploding_process_has_the_levels_of_its_scheduler():
    scheduler = ScoreSdeVeScheduler(num_train_timesteps=500)
    process = NoiseProcess.from_scheduler(scheduler)
    torch.testing.assert_close(process.sigma.float(), scheduler.discrete_sigmas, rtol=1e-5, atol=0)
    assert (process.alpha == 1).all()
    assert process.time(7) == process.sigma[7].item()
    assert variance_exploding(0.01, 100.0, 5).sigma.tolist() == pytest.approx([0.01, 0.1, 1, 10, 100])


@pytest.mark.parametrize("schedule", ["karras", "exponential"])
def test_an_edm_process_has_the_levels_that_its_scheduler_samples_at(schedule):
    scheduler = EDMEulerScheduler(sigma_schedule=schedule, num_train_timesteps=40)
    process = NoiseProcess.from_scheduler(scheduler)
    scheduler.set_timesteps(40)
    torch.testing.assert_close(process.sigma.float(), scheduler.sigmas[:-1].flip(0), rtol=1e-5, atol=0)
    assert process.time(0) == pytest.approx(math.log(0.002) / 4)
    times = torch.tensor([process.time(t) for t in range(40)])
    torch.testing.assert_close(times, scheduler.timesteps.flip(0), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_a_flow_has_the_levels_of_its_scheduler(shift):
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    process = NoiseProcess.from_scheduler(scheduler)
    torch.testing.assert_close(process.sigma.float(), scheduler.sigmas.flip(0))
    torch.testing.assert_close(process.alpha + process.sigma, torch.ones(1000, dtype=torch.float64))
    assert process.time(249) == pytest.approx(scheduler.timesteps[-250].item())
    assert (process.alpha[-1], process.sigma[-1]) == (0, 1)


def test_a_shifted_flow_by_hand():
    assert flow_matching(3.0, 4).sigma.tolist() == pytest.approx([1 / 2, 3 / 4, 9 / 10, 1])
    assert flow_matching(1.0, 4).times.tolist() == [1, 2, 3, 4]
