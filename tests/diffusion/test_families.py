"""Every family of diffusion models behind one epsilon(x_t, t): closed forms, agreement with diffusers, properties."""

import json
import shutil
from inspect import signature
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import diffusers
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from conftest import tiny_params, write_params, write_photos
from diffusers import (
    DDIMPipeline,
    DDIMScheduler,
    DDPMScheduler,
    DiTPipeline,
    DPMSolverMultistepScheduler,
    EDMEulerScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    LDMPipeline,
    SchedulerMixin,
    ScoreSdeVeScheduler,
)
from families import FAMILIES, TEXTS, open_family, put_target
from PIL import Image

from leakgauge.attacks.t_error import t_errors
from leakgauge.diffusion import loading
from leakgauge.diffusion.denoiser import Denoiser
from leakgauge.diffusion.process import PREDICTIONS, NoiseProcess, prediction_of
from leakgauge.diffusion.training import draw
from leakgauge.errors import InputError
from leakgauge.tables import read_table
from stages.check import check
from stages.evaluate import evaluate
from stages.fit import fit
from stages.images import prepare_images
from stages.predict import predict
from stages.report import report
from stages.score import score
from stages.split import split
from stages.target import target as make_target

PIXELS = torch.randint(0, 256, (4, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
WHOLE = (  # from end to end
    *("sample", "v", "ve", "edm", "flow", "by_class", "dit", "latent_vq", "latent_kl", "latent_tiny"),
    *("text", "sdxl", "sd3", "flux", "chroma", "pixart", "hunyuan", "sana", "lumina"),
)
OPTIONS = {  # of section `score`: no image has a caption; the first t-errors of an EDM are lost in another layout
    **{name: {"condition": "none"} for name in TEXTS},
    "edm": {"channels_last": False},
    "edm_v": {"channels_last": False},
    "edm_solver": {"channels_last": False},
}
SCHEDULERS = {
    "epsilon": DDPMScheduler(),
    "sample": DDPMScheduler(prediction_type="sample"),
    "v_to_noise_alone": DDPMScheduler(prediction_type="v_prediction", rescale_betas_zero_snr=True),
    "ve": ScoreSdeVeScheduler(num_train_timesteps=1000, sigma_max=50.0),
    "edm": EDMEulerScheduler(),
    "flow": FlowMatchEulerDiscreteScheduler(),
    "flow_shifted": FlowMatchEulerDiscreteScheduler(shift=3.0),
}


PRESERVING = [name for name in loading.SCHEDULERS if not name.startswith(("ScoreSde", "EDM", "FlowMatch"))]
FLOW_SOLVERS = [name for name in PRESERVING if "use_flow_sigmas" in signature(getattr(diffusers, name)).parameters]


class IdealNetwork(torch.nn.Module):
    """What a perfectly trained network of a family says of data N(mu, s^2 I), from what such a network is told."""

    def __init__(self, scheduler: SchedulerMixin, mu: float = 0.3, s: float = 0.5) -> None:
        super().__init__()
        self.scheduler, self.mu, self.s = scheduler, mu, s

    def forward(self, x: torch.Tensor, timestep: torch.Tensor) -> SimpleNamespace:
        time, config = timestep.double()[:, None, None, None], self.scheduler.config
        if isinstance(self.scheduler, ScoreSdeVeScheduler):  # told sigma
            return SimpleNamespace(sample=-(x - self.mu) / (self.s**2 + time**2))
        if isinstance(self.scheduler, FlowMatchEulerDiscreteScheduler):  # told 1000 sigma
            epsilon, x0 = self.parts(x, 1 - time / 1000, time / 1000)
            return SimpleNamespace(sample=epsilon - x0)
        if isinstance(self.scheduler, EDMEulerScheduler):  # told log(sigma) / 4, and x_t divided by its spread
            sigma = (4 * time).exp()
            x = x * (sigma**2 + config.sigma_data**2).sqrt()
            c_skip = config.sigma_data**2 / (sigma**2 + config.sigma_data**2)
            c_out = sigma * config.sigma_data / (sigma**2 + config.sigma_data**2).sqrt()
            return SimpleNamespace(sample=(self.parts(x, 1.0, sigma)[1] - c_skip * x) / c_out)
        signal = self.scheduler.alphas_cumprod.double()[timestep][:, None, None, None]
        alpha, sigma = signal.sqrt(), (1 - signal).sqrt()
        epsilon, x0 = self.parts(x, alpha, sigma)
        said = {"epsilon": epsilon, "sample": x0, "v_prediction": alpha * epsilon - sigma * x0}
        return SimpleNamespace(sample=said[config.prediction_type])

    def parts(self, x, alpha, sigma) -> tuple[torch.Tensor, torch.Tensor]:
        """epsilon and x_0 as expected given x_t."""
        variance = alpha**2 * self.s**2 + sigma**2
        distance = x - alpha * self.mu
        return sigma * distance / variance, self.mu + alpha * self.s**2 * distance / variance


@pytest.mark.parametrize("scheduler", SCHEDULERS.values(), ids=SCHEDULERS)
def test_t_errors_of_an_ideal_network_follow_the_closed_form(scheduler):
    network = IdealNetwork(scheduler)
    process = NoiseProcess.from_scheduler(scheduler)
    target = Denoiser(network, process, torch.device("cpu"), prediction_of(scheduler))
    x0 = torch.randn(5, 1, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    interval, count = 50, 6

    def gain(start: int, end: int) -> float:
        """What a DDIM move multiplies the distance x_t - alpha_t mu by."""
        alpha, sigma = process.alpha[start].item(), process.sigma[start].item()
        c = sigma / (alpha**2 * network.s**2 + sigma**2)  # epsilon = c (x_t - alpha_t mu)
        return process.alpha[end].item() * (1 - sigma * c) / alpha + process.sigma[end].item() * c

    found = t_errors(target, x0, interval, count, target.epsilon(x0, 0))
    distance = (x0 - process.alpha[0].item() * network.mu).square().sum((1, 2, 3))
    for n in range(count):
        up, down = gain(n * interval, (n + 1) * interval), gain((n + 1) * interval, n * interval)
        torch.testing.assert_close(found[:, n], distance * (1 - up * down) ** 2, rtol=1e-4, atol=0)
        distance = distance * up**2


@pytest.mark.parametrize("scheduler", SCHEDULERS.values(), ids=SCHEDULERS)
def test_an_ideal_network_draws_the_distribution_it_was_trained_on(scheduler, monkeypatch):
    monkeypatch.setattr("leakgauge.diffusion.training.STEPS", 500)  # fewer make the spread too small
    network = IdealNetwork(scheduler, mu=0.3, s=0.2)
    process = NoiseProcess.from_scheduler(scheduler)
    target = Denoiser(network, process, torch.device("cpu"), prediction_of(scheduler))
    images = draw(target, (1, 16, 16), seed=0, count=16) / 127.5 - 1
    assert images.shape == (16, 16, 16, 1)
    assert images.mean() == pytest.approx(0.3, abs=0.02)  # three standard errors of the mean are 0.01
    assert images.std() == pytest.approx(0.2, rel=0.05)


def said(target: Denoiser, x: torch.Tensor, time: float | torch.Tensor) -> torch.Tensor:
    """What the network itself says, without anything of ours."""
    return target.network(x, torch.as_tensor(time)).sample


def scheduler_of(folder: Path, kind: type[SchedulerMixin]) -> SchedulerMixin:
    return kind.from_pretrained(folder, subfolder="scheduler")


def test_what_a_network_says_of_epsilon_is_taken_bit_for_bit(family):
    target = open_family(family("epsilon"))
    x = target.encode(PIXELS)
    assert torch.equal(x, PIXELS.float() / 127.5 - 1.0)
    assert torch.equal(target.epsilon(x, 30), said(target, x, 30))
    alpha, sigma = target.process.alpha, target.process.sigma
    x0 = (x - sigma[30].item() * target.epsilon(x, 30)) / alpha[30].item()
    expected = alpha[40].item() * x0 + sigma[40].item() * target.epsilon(x, 30)
    assert torch.equal(target.ddim(x, target.epsilon(x, 30), 30, 40), expected)


@pytest.mark.parametrize("name", ["epsilon", "sample", "v"])
def test_a_move_down_is_a_ddim_step_of_diffusers(name, family):
    target, scheduler = open_family(family(name)), scheduler_of(family(name), DDIMScheduler)
    scheduler.set_timesteps(20)  # 950, 900, ..., 0
    x = target.encode(PIXELS)
    expected = scheduler.step(said(target, x, 300), 300, x).prev_sample
    torch.testing.assert_close(target.ddim(x, target.epsilon(x, 300), 300, 250), expected, rtol=1e-4, atol=1e-5)


def test_a_move_down_is_an_euler_step_of_diffusers(family):
    target = open_family(family("euler"))
    scheduler = EulerDiscreteScheduler(prediction_type="v_prediction", timestep_spacing="leading")
    scheduler.set_timesteps(20)
    t, end = (int(t) for t in scheduler.timesteps[14:16])
    x = target.encode(PIXELS)
    unscaled = x / target.process.alpha[t].item()  # x_0 + (sigma / alpha) epsilon
    scaled = scheduler.scale_model_input(unscaled, scheduler.timesteps[14])
    torch.testing.assert_close(scaled, x, rtol=1e-5, atol=1e-6)
    expected = scheduler.step(said(target, x, t), scheduler.timesteps[14], unscaled).prev_sample
    found = target.ddim(x, target.epsilon(x, t), t, end) / target.process.alpha[end].item()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["edm", "edm_v"])
def test_a_move_down_is_an_edm_euler_step_of_diffusers(name, family):
    target, scheduler = open_family(family(name)), scheduler_of(family(name), EDMEulerScheduler)
    scheduler.set_timesteps(1000)  # the grid of training, from noisy to clean
    x = 3 * target.encode(PIXELS)
    time = scheduler.timesteps[999 - 600]
    expected = scheduler.step(said(target, scheduler.scale_model_input(x, time), time), time, x).prev_sample
    torch.testing.assert_close(target.ddim(x, target.epsilon(x, 600), 600, 599), expected, rtol=1e-4, atol=1e-5)


def test_a_move_down_is_a_flow_step_of_diffusers(family):
    target, scheduler = open_family(family("flow")), scheduler_of(family("flow"), FlowMatchEulerDiscreteScheduler)
    scheduler.set_timesteps(1000)
    x = target.encode(PIXELS)
    time = scheduler.timesteps[999 - 600]
    expected = scheduler.step(said(target, x, time), time, x).prev_sample
    torch.testing.assert_close(target.ddim(x, target.epsilon(x, 600), 600, 599), expected, rtol=1e-4, atol=1e-5)


def test_a_move_down_is_the_drift_of_a_score_sde_step_of_diffusers_without_its_noise(family):
    """The ODE drifts by sigma (sigma - sigma') of the score, the SDE by sigma^2 - sigma'^2."""
    target, scheduler = open_family(family("ve")), scheduler_of(family("ve"), ScoreSdeVeScheduler)
    t, x = 700, target.encode(PIXELS)
    sigma, below = target.process.sigma[t].item(), target.process.sigma[t - 1].item()
    stepped = scheduler.step_pred(said(target, x, sigma), torch.tensor((t + 0.5) / 999), x).prev_sample_mean
    drift = target.ddim(x, target.epsilon(x, t), t, t - 1) - x
    torch.testing.assert_close(drift * (sigma + below) / sigma, stepped - x, rtol=1e-3, atol=1e-6)


def test_a_learned_variance_is_left_out_as_diffusers_does(family):
    target = open_family(family("learned_variance"))
    scheduler = scheduler_of(family("learned_variance"), DDPMScheduler)
    x = target.encode(PIXELS)
    output = said(target, x, 300)
    assert output.shape[1] == 2 * x.shape[1]
    expected = scheduler.step(output, 300, x).pred_original_sample
    found = target.x0(x, target.epsilon(x, 300), 300)
    torch.testing.assert_close(found.clamp(-1, 1), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", PRESERVING)
def test_noise_levels_of_every_variance_preserving_scheduler_are_its_alphas_cumprod(name):
    scheduler = getattr(diffusers, name)()
    process = NoiseProcess.from_scheduler(scheduler)
    assert process.times is None, "the network is told t"
    torch.testing.assert_close(process.alpha.square().float(), scheduler.alphas_cumprod, rtol=2e-5, atol=1e-6)
    torch.testing.assert_close(process.sigma.square().float(), 1 - scheduler.alphas_cumprod, rtol=2e-5, atol=1e-6)
    assert prediction_of(scheduler) is PREDICTIONS["epsilon"]


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("name", FLOW_SOLVERS)
def test_a_flow_of_a_solver_has_the_sigmas_and_times_of_its_own_sampling(name, shift):
    kind = getattr(diffusers, name)
    scheduler = kind(use_flow_sigmas=True, flow_shift=shift, prediction_type="flow_prediction")
    process = NoiseProcess.from_scheduler(scheduler)
    scheduler.set_timesteps(999)  # our grid without its first or, but for UniPC, its last sigma
    start = 0 if name.startswith("UniPC") else 1
    sigma, times = (levels.flip(0)[start : start + 999] for levels in (process.sigma, process.times))
    torch.testing.assert_close(scheduler.sigmas[:999].double(), sigma, rtol=0, atol=2e-6)
    behind = times - scheduler.timesteps
    assert behind.min() >= 0
    assert behind.max() <= 1, "theirs lose one where a product that should be whole lies a rounding error below"
    assert (behind == 0).double().mean() > 0.7
    assert prediction_of(scheduler) is PREDICTIONS["velocity"]
    assert prediction_of(kind(use_flow_sigmas=True, prediction_type="v_prediction")) is None


@pytest.mark.parametrize(
    "name", ["FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler", "FlowMatchLCMScheduler"]
)
def test_a_flow_has_the_sigmas_and_times_of_its_scheduler(name):
    scheduler = getattr(diffusers, name)(shift=3.0)
    process = NoiseProcess.from_scheduler(scheduler)
    torch.testing.assert_close(process.sigma.flip(0).float(), scheduler.sigmas)
    torch.testing.assert_close(process.times.flip(0).float(), scheduler.timesteps)


@pytest.mark.parametrize("schedule", ["karras", "exponential"])
@pytest.mark.parametrize("name", ["EDMEulerScheduler", "EDMDPMSolverMultistepScheduler"])
def test_an_edm_has_the_sigmas_and_times_of_its_scheduler(name, schedule):
    scheduler = getattr(diffusers, name)(sigma_schedule=schedule)
    scheduler.set_timesteps(1000)
    process = NoiseProcess.from_scheduler(scheduler)
    torch.testing.assert_close(process.sigma.flip(0).float(), scheduler.sigmas[:1000], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(process.times.flip(0).float(), scheduler.timesteps[:1000], rtol=1e-4, atol=1e-5)


def test_a_move_down_is_a_flow_step_of_dpm_solver(family):
    target = open_family(family("dpm_solver_flow"))
    scheduler = DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0, solver_order=1
    )
    scheduler.set_timesteps(999)
    x, t = target.encode(PIXELS), 600
    place = 998 - t
    assert scheduler.timesteps[place] == target.process.time(t)
    scheduler._step_index = place
    expected = scheduler.step(said(target, x, scheduler.timesteps[place]), scheduler.timesteps[place], x).prev_sample
    torch.testing.assert_close(target.ddim(x, target.epsilon(x, t), t, t - 1), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        *((name, (8, 8)) for name in ("epsilon", "latent_vq", "dit", *TEXTS)),
        *((name, (16, 8)) for name in TEXTS if name != "sdxl"),
        ("sdxl", (16, 24)),
    ],
)
def test_moves_from_noise_to_an_image_are_the_sampling_of_the_pipeline_itself(name, size, family):
    captions, target = ["a", "", "a a", "a"], open_family(family(name))
    if name in TEXTS:
        target = target.with_condition(target.conditioning_of([None] * 4, captions, "given"))
        pipeline = text_pipeline(family(name))
        arguments = {"prompt": captions, "guidance_scale": 1.0, "height": size[0], "width": size[1]}
    else:
        kind = {"epsilon": DDIMPipeline, "latent_vq": LDMPipeline, "dit": DiTPipeline}[name]
        pipeline = kind.from_pretrained(family(name))
        arguments = {"class_labels": [0, 1, 2, 3], "guidance_scale": 1.0} if name == "dit" else {"batch_size": 4}
    pipeline.set_progress_bar_config(disable=True)
    pipeline.check_inputs = lambda *_, **__: None  # some ask for sides of 32 pixels
    if name == "hunyuan":
        pipeline.vae_scale_factor = 8  # for which its pipeline counts patches
        arguments |= {"height": 4 * size[0], "width": 4 * size[1], "original_size": size, "target_size": size}
        arguments["use_resolution_binning"] = False
    if name == "lumina":
        pipeline.vae_scale_factor = 2  # which its pipeline takes to be 8
    if name == "sana":
        arguments["complex_human_instruction"] = None
    if name.startswith(("pixart", "sana")):
        arguments |= {"use_resolution_binning": False, "clean_caption": False}
    if name == "pixart":
        pipeline.transformer.register_to_config(sample_size=128)  # which its pipeline takes for additional conditions
    if name.startswith("flux"):
        arguments["guidance_scale"] = 3.5  # an input of the network: nothing is guided
    if isinstance(pipeline.scheduler, FlowMatchEulerDiscreteScheduler):
        timesteps = [999, 666, 333, 0]
        arguments["sigmas"] = [(t + 1) / 1000 for t in timesteps]
    else:
        offset = 1 if name == "text" else 0  # Stable Diffusion's `steps_offset`
        timesteps = [offset + 200 * step for step in reversed(range(5))]
    arguments |= {"generator": torch.Generator().manual_seed(0), "output_type": "np"}
    theirs = recorded(getattr(pipeline, "transformer", None) or pipeline.unet)
    expected = pipeline(**arguments, num_inference_steps=len(timesteps)).images

    ours = recorded(target.network)
    x = torch.randn((4, *target.x0_shape(*size)), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        for start, end in zip(timesteps, [*timesteps[1:], None], strict=True):
            epsilon = target.epsilon(x, start)
            x = target.x0(x, epsilon, start) if end is None else target.ddim(x, epsilon, start, end)
        found = (target.decode(x) + 1) / 2
    np.testing.assert_allclose(found.permute(0, 2, 3, 1).numpy(), expected, rtol=0, atol=2e-4)
    twice = len(ours) - len(theirs)  # where nothing is left of x_0, the network is asked once more
    assert twice == (target.process.alpha[timesteps[0]] == 0)
    for our, their in zip(ours[twice:], theirs, strict=True):
        assert our.keys() == their.keys()
        torch.testing.assert_close(our, their, rtol=1e-4, atol=1e-5)


def recorded(network: torch.nn.Module) -> list[dict[str, torch.Tensor]]:
    """Grows by one at each call of a network: the conditions that it is called with, and what it returns."""
    calls: list[dict[str, torch.Tensor]] = []

    def record(module: object, args: object, kwargs: dict, output: object) -> None:
        named = {**kwargs, **(kwargs.get("added_cond_kwargs") or {})}
        conditions = {name: value for name, value in named.items() if name not in ("timestep", "hidden_states")}
        tensors = {name: value for name, value in conditions.items() if isinstance(value, torch.Tensor)}
        calls.append(tensors | {"output": output[0]})

    network.register_forward_hook(record, with_kwargs=True)
    return calls


OPTIONAL = ("safety_checker", "image_encoder", "feature_extractor", "text_encoder_3", "tokenizer_3")  # parts


def text_pipeline(folder: Path) -> diffusers.DiffusionPipeline:
    """The pipeline of a folder, by the class in its index."""
    kind = getattr(diffusers, json.loads((folder / "model_index.json").read_text())["_class_name"])
    parts = signature(kind).parameters
    return kind.from_pretrained(
        folder, **{part: None for part in OPTIONAL if part in parts and not (folder / part).exists()}
    )


@pytest.mark.parametrize("name", FAMILIES)
def test_a_round_trip_returns_to_its_start_as_steps_shrink(name, family):
    target = open_family(family(name))
    with torch.inference_mode():
        start = target.encode(PIXELS)
        missed = [(around(target, start, 200, 360, step) - start).norm().item() for step in (80, 40, 20, 10)]
    assert all(fine < 0.65 * coarse for coarse, fine in pairwise(missed)), missed  # of first order: about one half


@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "lumina"])  # which counts its mask's ones
def test_every_input_of_a_network_lies_on_its_device(name, family):
    meta = torch.device("meta")  # any other would do; without numbers, and without a GPU
    target = Denoiser.from_pipeline(family(name), meta)
    bound = target.with_condition(target.condition.sample_conditions(4))
    x = bound.encode(PIXELS)
    assert x.device == bound.epsilon(x, 50).device == bound.decode(x).device == meta


def around(target: Denoiser, x: torch.Tensor, low: int, high: int, step: int) -> torch.Tensor:
    """Up from `low` to `high` and back."""
    for t in range(low, high, step):
        x = target.ddim(x, target.epsilon(x, t), t, t + step)
    for t in range(high, low, -step):
        x = target.ddim(x, target.epsilon(x, t), t, t - step)
    return x


@pytest.mark.parametrize("name", ["zero_snr", "flow"])
def test_a_move_from_noise_alone_takes_x0_from_the_network(name, family):
    target = open_family(family(name))
    x = target.encode(PIXELS)
    assert target.process.alpha[999] == 0
    torch.testing.assert_close(target.epsilon(x, 999), x)  # x_T is nothing but noise
    output = said(target, x, target.process.time(999))
    x0 = -output if name == "zero_snr" else x - output
    expected = target.process.add_noise(x0, x, 900)
    torch.testing.assert_close(target.ddim(x, target.epsilon(x, 999), 999, 900), expected, rtol=1e-4, atol=1e-5)


def test_latents_are_the_scaled_mode_of_the_encoder(family):
    x = PIXELS.float() / 127.5 - 1
    target = open_family(family("latent_kl"))
    posterior = target.autoencoder.model.encode(x).latent_dist
    assert (posterior.std > 0).all()  # there was something to draw
    torch.testing.assert_close(target.encode(PIXELS), 0.7 * posterior.mean)
    target = open_family(family("sdxl_empty"))
    mean, spread = torch.tensor([-0.3, 0.1, 0.2, 0.0]), torch.tensor([0.5, 2.0, 1.5, 1.0])
    mode = target.autoencoder.model.encode(x).latent_dist.mode()
    torch.testing.assert_close(target.encode(PIXELS), 0.7 * (mode - mean[:, None, None]) / spread[:, None, None])
    target = open_family(family("latent_tiny"))
    torch.testing.assert_close(target.encode(PIXELS), 1.5 * (target.autoencoder.model.encode(x).latents - 0.1))
    target = open_family(family("sana"))
    torch.testing.assert_close(target.encode(PIXELS), 0.4 * target.autoencoder.model.encode(x).latent)
    target = open_family(family("latent_vq"))
    latents = target.encode(PIXELS)
    quantised = 0.7 * target.autoencoder.model.quantize(latents / 0.7)[0]
    assert not torch.allclose(latents, quantised)
    torch.testing.assert_close(latents, 0.7 * target.autoencoder.model.encode(x).latents)


@pytest.mark.parametrize("name", ["by_class", "dit"])
def test_epsilon_depends_on_the_class_of_each_image_alone(name, family):
    target = open_family(family(name))
    x = target.encode(PIXELS)
    nothing = [None] * 4
    classes = target.conditioning_of([3, 1, 4, 1], nothing, "given")
    other = target.conditioning_of([3, 1, 5, 1], nothing, "given")
    same = target.with_condition(classes).epsilon(x, 50) == target.with_condition(other).epsilon(x, 50)
    assert same.flatten(1).all(1).tolist() == [True, True, False, True]
    null = {"by_class": 10, "dit": 1000}[name]
    assert target.conditioning_of([None, 2], nothing[:2], "none").tolist() == [null, null]


@pytest.mark.parametrize("name", TEXTS)
def test_epsilon_depends_on_the_caption_of_each_image_alone(name, family):
    target, nothing = open_family(family(name)), [None] * 4
    x = target.encode(PIXELS)
    captions = target.conditioning_of(nothing, ["a", "", "a a", "a"], "given")
    other = target.conditioning_of(nothing, ["a", "", "a", "a"], "given")
    same = target.with_condition(captions).epsilon(x, 50) == target.with_condition(other).epsilon(x, 50)
    assert same.flatten(1).all(1).tolist() == [True, True, False, True]
    none = target.with_condition(target.conditioning_of(nothing, nothing, "none")).epsilon(x, 50)
    empty = target.with_condition(captions).epsilon(x, 50)
    assert torch.equal(empty[1], none[1]) == (name not in ("sdxl", "lumina")), "zeros, and without a system prompt"


@pytest.mark.parametrize("name", TEXTS)
def test_captions_are_embedded_as_the_pipeline_itself_embeds_them(name, family):
    pipeline, prompts = text_pipeline(family(name)), ["a", "", "a a a a a a a a"]
    found, none = (open_family(family(name)).condition.embed(texts) for texts in (prompts, [None]))
    if name == "text":
        expected = {"encoder_hidden_states": pipeline.encode_prompt(prompts, "cpu", 1, False)[0]}
    elif name.startswith(("pixart", "sana", "lumina")):
        states, mask, no_states, no_mask = pipeline.encode_prompt(prompts)
        expected = {"encoder_hidden_states": states, "encoder_attention_mask": mask}
        torch.testing.assert_close(
            none, {"encoder_hidden_states": no_states[:1], "encoder_attention_mask": no_mask[:1]}, rtol=1e-5, atol=1e-5
        )
    elif name == "hunyuan":
        states, _, mask, _ = pipeline.encode_prompt(prompts)
        states_t5, _, mask_t5, _ = pipeline.encode_prompt(prompts, text_encoder_index=1)
        expected = {"encoder_hidden_states": states, "text_embedding_mask": mask}
        expected |= {"encoder_hidden_states_t5": states_t5, "text_embedding_mask_t5": mask_t5}
    elif name == "chroma":
        states, _, mask, *_ = pipeline.encode_prompt(prompts, do_classifier_free_guidance=False)
        expected = {"encoder_hidden_states": states, "attention_mask": mask}
    elif name.startswith("flux"):
        states, pooled, _ = pipeline.encode_prompt(prompts, None)
        expected = {"encoder_hidden_states": states, "pooled_projections": pooled}
    elif name.startswith("sd3"):
        states, _, pooled, _ = pipeline.encode_prompt(prompts, None, None, do_classifier_free_guidance=False)
        expected = {"encoder_hidden_states": states, "pooled_projections": pooled}
    else:
        states, no_states, pooled, no_pooled = pipeline.encode_prompt(prompts)
        expected = {"encoder_hidden_states": states, "text_embeds": pooled}
        torch.testing.assert_close(none, {"encoder_hidden_states": no_states[:1], "text_embeds": no_pooled[:1]})
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)  # theirs are encoded together


@pytest.mark.parametrize("name", ["text", "sdxl", "sd3", "flux"])
def test_a_token_of_several_vectors_is_expanded_where_the_pipeline_expands_it(name, family, tmp_path):
    pipeline, prompts = text_pipeline(family(name)), ["a <mine>"]
    for number in ("", "_2"):
        tokenizer, encoder = (getattr(pipeline, part + number, None) for part in ("tokenizer", "text_encoder"))
        if type(tokenizer).__name__ == "CLIPTokenizer":
            tokenizer.add_tokens(["<mine>", "<mine>_1"])
            encoder.resize_token_embeddings(len(tokenizer))
            torch.nn.init.normal_(encoder.get_input_embeddings().weight[-2:])
    pipeline.save_pretrained(tmp_path / name)
    found = open_family(tmp_path / name).condition.embed(prompts)
    if name == "flux":
        states, pooled, _ = pipeline.encode_prompt(prompts, None)
        expected = {"encoder_hidden_states": states, "pooled_projections": pooled}
    elif name == "sd3":
        states, _, pooled, _ = pipeline.encode_prompt(prompts, None, None, do_classifier_free_guidance=False)
        expected = {"encoder_hidden_states": states, "pooled_projections": pooled}
    elif name == "sdxl":
        states, _, pooled, _ = pipeline.encode_prompt(prompts)
        expected = {"encoder_hidden_states": states, "text_embeds": pooled}
    else:
        expected = {"encoder_hidden_states": pipeline.encode_prompt(prompts, "cpu", 1, False)[0]}
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_captions_of_a_parquet_file_reach_the_scores(family, audit, monkeypatch):
    monkeypatch.setattr("leakgauge.diffusion.training.STEPS", 5)
    rng = np.random.default_rng(0)
    names = list(range(200))
    write_photos(names, rng.integers(0, 256, (200, 8, 8), dtype=np.uint8))
    plain = pq.read_table("photos.parquet")
    scores = {}
    for kind, texts in {"alike": ["a"] * 200, "one differs": ["a a"] + ["a"] * 199}.items():
        pq.write_table(plain.append_column("text", pa.array(texts)), "photos.parquet")
        params = tiny_params()
        params["datasets"]["photos"] = {"source": "parquet", "path": "photos.parquet"}
        params["targets"]["digits_ddpm"] = {"images": "photos", "model": str(family("text"))}
        params["split"] |= {"member": 60, "auxiliary": 100, "holdout": "rest"}
        write_params(params)
        prepare_images("photos")
        for stage in (split, check, make_target):
            stage("digits_ddpm")
        tables = []
        for role in ("member", "auxiliary", "holdout"):
            score("digits_ddpm", role)
            tables.append(read_table(Path(f"data/scores/digits_ddpm/{role}.parquet")).to_pandas())
        scores[kind] = pd.concat(tables).set_index("image_id")["t_error_t10"]
    differs = scores["alike"] != scores["one differs"]
    assert differs[differs].index.tolist() == ["0"]


@pytest.mark.parametrize("name", FAMILIES)
def test_a_target_of_any_family_is_taken_and_scored(name, family, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("leakgauge.diffusion.training.STEPS", 5)
    put_target(family(name), batch_size=4, **OPTIONS.get(name, {}))
    make_target("theirs")
    score("theirs", "member")
    table = read_table(Path("data/scores/theirs/member.parquet"))
    values = table.drop_columns("image_id").to_pandas()
    assert values.shape == (6, 7)
    assert (np.isfinite(values) & (values > 0)).all(axis=None)
    assert values.nunique().min() == 6
    with Image.open("metrics/samples/theirs.png") as sheet:
        generated = np.asarray(sheet)[:, sheet.width // 2 :]
    assert len(np.unique(generated)) > 16


@pytest.mark.parametrize("name", ["by_class", "dit"])
def test_each_image_is_scored_under_its_own_label_whatever_its_batch(name, family, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(family(name), "models/target/theirs")

    def scores(**options: object) -> np.ndarray:
        put_target(Path("theirs"), **options)
        score("theirs", "member")
        return read_table(Path("data/scores/theirs/member.parquet")).drop_columns("image_id").to_pandas().to_numpy()

    labels = scores(batch_size=6)  # 9, 8, ..., 4
    np.testing.assert_allclose(scores(batch_size=2), labels, rtol=2e-4)
    others, none = scores(batch_size=6, label=8), scores(batch_size=6, condition="none")
    assert (labels != others).all(axis=1).all()
    assert (labels != none).all(axis=1).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", WHOLE)
def test_an_audit_of_any_family_goes_from_its_folder_to_the_report(name, family, audit, monkeypatch):
    monkeypatch.setattr("leakgauge.diffusion.training.STEPS", 5)
    params = tiny_params()
    overrides = {"score": OPTIONS.get(name, {})}
    params["targets"]["digits_ddpm"] = {"images": "digits", "model": str(family(name)), **overrides}
    params["learners"], params["evaluate"]["stack"] = {"marginal": {"kind": "marginal"}}, []
    write_params(params)
    for kind in ("data/checks", "data/null", "data/scores", "data/z", "data/verdicts", "metrics"):
        shutil.rmtree(kind)
    check("digits_ddpm")
    make_target("digits_ddpm")
    for role in ("member", "auxiliary", "holdout"):
        score("digits_ddpm", role)
    fit("digits_ddpm", "marginal")
    predict("digits_ddpm", "marginal")
    evaluate("digits_ddpm")
    report()
    figures = json.loads(Path("metrics/details/digits_ddpm.json").read_text())["judges"]["marginal"]
    assert figures["auc_ci_low"] - 0.1 < 0.5 < figures["auc_ci_high"] + 0.1, "random weights know no member"
    assert figures["holdout"] == 150
    assert "Can these figures be trusted?" in Path("metrics/report.html").read_text()


@pytest.mark.parametrize("name", ["sdxl", "sd3", "pixart", "lumina"])
def test_a_network_of_text_takes_other_sizes_than_its_usual_one_and_says_so(
    name, family, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    for size in (8, 16):
        put_target(family(name), size, condition="none")
        make_target("theirs")
        said = capsys.readouterr().err
        assert ("makes images of 8x8, these are 16x16" in said) == (size == 16)
    score("theirs", "member")
    assert np.isfinite(read_table(Path("data/scores/theirs/member.parquet")).to_pandas()["t_error_t0"]).all()
    target = Denoiser.from_pipeline(family(name), torch.device("cpu"))
    sides = 2 if name == "sdxl" else 4  # a transformer's token is of 2 x 2 latents
    target.check_images(Path("theirs"), 1, 8 + sides, 8)
    with pytest.raises(InputError, match=f"takes images whose sides divide by {sides}, the dataset has 8x9"):
        target.check_images(Path("theirs"), 1, 9, 8)
