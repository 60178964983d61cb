"""Checkpoints of pytorch-ddpm: the same network after conversion, and nothing made up or left out.

The network is written down here once more, from the description of the format, and independently of diffusers.
"""

import copy
import os
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import tiny_params, write_params
from diffusers import DDPMPipeline
from torch import Tensor

from leakgauge.diffusion.denoiser import Denoiser
from leakgauge.diffusion.process import NoiseProcess
from leakgauge.diffusion.pytorch_ddpm import pytorch_ddpm_pipeline
from leakgauge.errors import InputError
from leakgauge.files import file_hash
from stages.score import score
from stages.target import target as make_target

TARGET = "digits_ddpm"
MODEL = Path(f"models/target/{TARGET}")
REFERENCE = Path(os.environ.get("LEAKGAUGE_REFERENCE", "")) / "pytorch_ddpm"
FLAGS = {
    "T": 20,
    "ch": 32,
    "ch_mult": [1, 2],
    "attn": [1],
    "num_res_blocks": 1,
    "dropout": 0.1,
    "beta_1": 0.001,
    "beta_T": 0.05,
    "mean_type": "epsilon",
    "img_size": 8,
}


class Weights(dict):
    """A checkpoint's weights, each drawn when the network first asks for it."""

    def __init__(self, flags: dict, channels: int) -> None:
        self.flags, self.channels, self.generator = flags, channels, torch.Generator().manual_seed(0)
        frequencies = torch.exp(-torch.arange(0, flags["ch"], 2) / flags["ch"] * np.log(10000))
        angles = torch.arange(flags["T"]).float()[:, None] * frequencies  # (T, ch / 2)
        self["time_embedding.timembedding.0.weight"] = torch.stack([angles.sin(), angles.cos()], -1).flatten(1)

    def pair(self, name: str, *shape: int) -> tuple[Tensor, Tensor]:
        if f"{name}.weight" not in self:
            spread = 1 / np.sqrt(np.prod(shape[1:]))
            self[f"{name}.weight"] = torch.randn(shape, generator=self.generator) * spread
            self[f"{name}.bias"] = torch.randn(shape[0], generator=self.generator) * 0.1
        return self[f"{name}.weight"], self[f"{name}.bias"]

    def norm(self, name: str, x: Tensor) -> Tensor:
        return F.group_norm(x, 32, *self.pair(name, x.shape[1]), eps=1e-5)

    def conv(self, name: str, x: Tensor, out: int, kernel: int = 3, stride: int = 1) -> Tensor:
        return F.conv2d(x, *self.pair(name, out, x.shape[1], kernel, kernel), stride=stride, padding=kernel // 2)

    def linear(self, name: str, x: Tensor, out: int) -> Tensor:
        return F.linear(x, *self.pair(name, out, x.shape[1]))

    def attention(self, name: str, x: Tensor) -> Tensor:
        h, width = self.norm(f"{name}.group_norm", x), x.shape[1]
        q, k, v = (self.conv(f"{name}.proj_{one}", h, width, kernel=1).flatten(2) for one in "qkv")  # (B, C, HW)
        weight = torch.softmax(q.transpose(1, 2) @ k / np.sqrt(width), dim=-1)  # (B, HW, HW): a row a query
        return x + self.conv(f"{name}.proj", (v @ weight.transpose(1, 2)).view_as(x), width, kernel=1)

    def residual(self, name: str, x: Tensor, time: Tensor, out: int, attention: bool) -> Tensor:
        h = self.conv(f"{name}.block1.2", F.silu(self.norm(f"{name}.block1.0", x)), out)
        h = h + self.linear(f"{name}.temb_proj.1", F.silu(time), out)[:, :, None, None]
        h = self.conv(f"{name}.block2.3", F.silu(self.norm(f"{name}.block2.0", h)), out)
        h = h + (x if x.shape[1] == out else self.conv(f"{name}.shortcut", x, out, kernel=1))
        return self.attention(f"{name}.attn", h) if attention else h


def epsilon(weights: Weights, x: Tensor, t: Tensor) -> Tensor:
    """The forward pass.  x : (B, C, H, W); t : (B,) int64."""
    flags, blocks = weights.flags, weights.flags["num_res_blocks"]
    widths, place = [flags["ch"] * multiple for multiple in flags["ch_mult"]], "time_embedding.timembedding"
    time = weights.linear(f"{place}.1", weights[f"{place}.0.weight"][t], 4 * flags["ch"])
    time = weights.linear(f"{place}.3", F.silu(time), 4 * flags["ch"])
    h = weights.conv("head", x, flags["ch"])
    skips, number = [h], 0
    for level, width in enumerate(widths):
        for _ in range(blocks):
            h = weights.residual(f"downblocks.{number}", h, time, width, level in flags["attn"])
            skips.append(h)
            number += 1
        if level < len(widths) - 1:
            h = weights.conv(f"downblocks.{number}.main", h, width, stride=2)
            skips.append(h)
            number += 1
    h = weights.residual("middleblocks.0", h, time, widths[-1], attention=True)
    h = weights.residual("middleblocks.1", h, time, widths[-1], attention=False)
    number = 0
    for level, width in reversed(list(enumerate(widths))):
        for _ in range(blocks + 1):
            h = torch.cat([h, skips.pop()], dim=1)
            h = weights.residual(f"upblocks.{number}", h, time, width, level in flags["attn"])
            number += 1
        if level:
            h = weights.conv(f"upblocks.{number}.main", h.repeat_interleave(2, 2).repeat_interleave(2, 3), width)
            number += 1
    return weights.conv("tail.2", F.silu(weights.norm("tail.0", h)), weights.channels)


def network(channels: int = 1, **changed: object) -> Weights:
    """A network with all its weights."""
    weights = Weights(FLAGS | changed, channels)
    side = weights.flags["img_size"]
    epsilon(weights, torch.zeros(1, channels, side, side), torch.tensor([0]))
    return weights


def hand_over(flags: dict, checkpoint: object, folder: Path = Path("theirs")) -> Path:
    """Write a folder as its trainer does."""
    folder.mkdir(exist_ok=True)
    torch.save(checkpoint, folder / "ckpt.pt")
    pairs = [(name, one) for name, value in flags.items() for one in (value if isinstance(value, list) else [value])]
    (folder / "flagfile.txt").write_text("".join(f"--{name}={value}\n" for name, value in pairs))
    return folder


def checkpoint_of(weights: Weights, prefix: str = "") -> dict:
    ema = {f"{prefix}{name}": weight.clone() for name, weight in weights.items()}
    return {"net_model": {name: weight + 1 for name, weight in ema.items()}, "ema_model": ema, "step": 5}


@pytest.fixture(scope="module")
def weights() -> Weights:
    return network()


@pytest.mark.parametrize(
    ("channels", "flags"),
    [
        (1, {}),
        (3, {"ch_mult": [1, 2, 2], "attn": [0, 2], "num_res_blocks": 2}),
        (3, {"ch_mult": [1, 3, 2], "attn": [], "T": 7}),
    ],
)
def test_the_converted_network_is_the_one_of_the_format(channels, flags, tmp_path):
    weights = network(channels, **flags)
    unet = pytorch_ddpm_pipeline(hand_over(weights.flags, checkpoint_of(weights), tmp_path)).unet
    side, last = weights.flags["img_size"], weights.flags["T"] - 1
    x = torch.randn(3, channels, side, side, generator=torch.Generator().manual_seed(1))
    t = torch.tensor([0, 3, last])
    with torch.inference_mode():
        expected = epsilon(weights, x, t)
        assert expected.std() > 0.1
        torch.testing.assert_close(unet(x, t).sample, expected, rtol=0, atol=1e-5)


@pytest.mark.skipif(not REFERENCE.is_dir(), reason="needs LEAKGAUGE_REFERENCE, a folder with pytorch_ddpm/")
def test_it_predicts_what_its_own_code_predicts():
    unet, expected = pytorch_ddpm_pipeline(REFERENCE).unet, np.load(REFERENCE / "epsilon.npz")
    with torch.inference_mode():
        found = unet(torch.from_numpy(expected["x"]), torch.from_numpy(expected["t"])).sample
    np.testing.assert_allclose(found, expected["epsilon"], rtol=0, atol=1e-5)


def test_its_noise_is_linear_in_beta(weights, tmp_path):
    pipeline = pytorch_ddpm_pipeline(hand_over(FLAGS, checkpoint_of(weights), tmp_path))
    alphas_cumprod = np.cumprod(1 - np.linspace(0.001, 0.05, 20))
    process = NoiseProcess.from_scheduler(pipeline.scheduler)
    np.testing.assert_allclose(process.alpha.square(), alphas_cumprod, rtol=1e-7)
    assert pipeline.scheduler.config.prediction_type == "epsilon"
    assert pipeline.scheduler.config.variance_type == "fixed_large", "its default"


def test_what_it_predicts_and_the_noise_of_sampling_are_said_in_diffusers_words(weights, tmp_path):
    flags = FLAGS | {"mean_type": "xstart", "var_type": "fixedsmall"}
    config = pytorch_ddpm_pipeline(hand_over(flags, checkpoint_of(weights), tmp_path)).scheduler.config
    assert (config.prediction_type, config.variance_type) == ("sample", "fixed_small")


def test_the_averaged_weights_are_taken_under_either_name(weights, tmp_path):
    plain = pytorch_ddpm_pipeline(hand_over(FLAGS, checkpoint_of(weights), tmp_path)).unet.state_dict()
    parallel = hand_over(FLAGS, checkpoint_of(weights, prefix="module."), tmp_path)
    (parallel / "ckpt.pt").rename(parallel / "ckpt-step5.pt")  # as some are published
    prefixed = pytorch_ddpm_pipeline(parallel).unet.state_dict()
    assert all(torch.equal(plain[name], prefixed[name]) for name in plain)
    assert torch.equal(plain["conv_in.weight"], weights["head.weight"])
    assert len(plain) == len(weights)


def use(folder: Path) -> None:
    params = tiny_params()
    params["targets"][TARGET]["model"] = str(folder)
    params["score"]["attacks"] |= {"t_error": {"interval": 5, "last": 10}, "pia": [10], "pian": [], "naive_loss": []}
    params["fit"]["scores"] = ["t_error_t5"]
    write_params(params)


def test_it_becomes_a_target_that_diffusers_opens_and_every_stage_takes(weights, audit):
    use(hand_over(FLAGS, checkpoint_of(weights)))
    make_target(TARGET)
    before = file_hash(MODEL)
    make_target(TARGET)
    assert file_hash(MODEL) == before
    assert not list(MODEL.rglob("*.pt"))
    score(TARGET, "holdout")
    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        found = Denoiser.from_pipeline(MODEL, torch.device("cpu")).epsilon(x, 7)
    torch.testing.assert_close(found, epsilon(weights, x, torch.tensor([7, 7])), rtol=0, atol=1e-5)
    pipeline = DDPMPipeline.from_pretrained(MODEL)
    pipeline.set_progress_bar_config(disable=True)
    drawn = pipeline(batch_size=2, num_inference_steps=4, output_type="np").images
    assert drawn.shape == (2, 8, 8, 1)
    assert np.isfinite(drawn).all()


def test_a_bad_checkpoint_is_one_line_and_the_old_target_stays(weights, audit, refusal):
    checkpoint = checkpoint_of(weights)
    del checkpoint["ema_model"]["tail.2.bias"]
    use(hand_over(FLAGS, checkpoint))
    before = file_hash(MODEL)
    line = refusal(make_target, target=TARGET)
    assert "theirs/ckpt.pt: does not fit flagfile.txt" in line
    assert "lacks 1 weights, the first is 'tail.2.bias'" in line
    assert file_hash(MODEL) == before


def set_nan(checkpoint: dict) -> None:
    checkpoint["ema_model"]["head.weight"][0, 0, 0, 0] = float("nan")


DAMAGES: list[tuple[Callable[[dict], object], str]] = [
    (
        lambda c: c.pop("ema_model"),
        "has no 'ema_model', the averaged weights that are attacked (it has net_model, step)",
    ),
    (lambda c: c["ema_model"].update(extra=torch.ones(1)), "has besides 1 weights, the first is 'extra'"),
    (
        lambda c: c["ema_model"].update({"middleblocks.1.attn.proj.bias": torch.ones(64)}),
        "has besides 1 weights, the first is 'middleblocks.1.attn.proj.bias'",
    ),
    (set_nan, "weights are not finite (NaN or inf in 'head.weight')"),
    (lambda c: c["ema_model"].update({"tail.0.bias": "none"}), "'tail.0.bias' is no tensor"),
    (
        lambda c: c["ema_model"].update({"tail.0.bias": torch.ones(31)}),
        "'tail.0.bias' is of shape (31,), expected (32,)",
    ),
    (
        lambda c: c["ema_model"].update({"head.weight": torch.ones(32)}),
        "'head.weight' is of shape (32,), expected (32, ",
    ),
    (lambda c: c["ema_model"].clear(), "holds no weights"),
]


@pytest.mark.parametrize(("damage", "said"), DAMAGES, ids=[said for _, said in DAMAGES])
def test_weights_that_are_not_that_networks_are_refused(damage, said, weights, tmp_path):
    checkpoint = checkpoint_of(weights)
    damage(checkpoint)
    with pytest.raises(InputError) as error:
        pytorch_ddpm_pipeline(hand_over(FLAGS, checkpoint, tmp_path))
    assert f"{tmp_path / 'ckpt.pt'}: " in str(error.value)
    assert said in str(error.value)


class Payload:
    """What a pickle does when it is opened as one."""

    def __reduce__(self) -> tuple:
        return warnings.warn, ("a pickle was run",)


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 half a zip file", None])
def test_a_file_that_is_no_checkpoint_is_refused_and_never_run(content, weights, tmp_path):
    hand_over(FLAGS, {"ema_model": Payload()}, tmp_path)
    if content is not None:
        (tmp_path / "ckpt.pt").write_bytes(content)
    with warnings.catch_warnings(action="error"), pytest.raises(InputError) as error:
        pytorch_ddpm_pipeline(tmp_path)
    assert f"{tmp_path / 'ckpt.pt'}: not a checkpoint of tensors that torch can read" in str(error.value)
    assert "weights_only" not in str(error.value)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"T": None}, "--T: is missing"),
        ({"ch_mult": None}, "--ch_mult: is missing"),
        ({"mean_type": None}, "--mean_type: is missing"),
        ({"mean_type": "xprev"}, "--mean_type: Input should be 'epsilon' or 'xstart', found 'xprev'"),
        ({"ch": "many"}, "--ch: Input should be a valid integer"),
        ({"ch": 16}, "--ch: Input should be a multiple of 32"),
        ({"ch_mult": [2, 2]}, "--ch_mult=2: the first level must be as wide as --ch"),
        ({"attn": [2]}, "--attn=2: there are 2 levels"),
        ({"img_size": 9}, "--img_size=9 does not halve 1 times"),
    ],
)
def test_flags_that_are_missing_or_not_to_be_are_named(changed, said, weights, tmp_path):
    flags = {name: value for name, value in (copy.deepcopy(FLAGS) | changed).items() if value is not None}
    with pytest.raises(InputError) as error:
        pytorch_ddpm_pipeline(hand_over(flags, checkpoint_of(weights), tmp_path))
    assert f"{tmp_path / 'flagfile.txt'}: {said}" in str(error.value)


@pytest.mark.parametrize(
    "changed", [{"attn": [0]}, {"attn": []}, {"num_res_blocks": 2}, {"ch_mult": [1, 1]}, {"T": 10}, {"ch": 64}]
)
def test_flags_of_another_network_are_refused(changed, weights, tmp_path):
    with pytest.raises(InputError, match=r"does not fit flagfile\.txt"):
        pytorch_ddpm_pipeline(hand_over(FLAGS | changed, checkpoint_of(weights), tmp_path))


@pytest.mark.parametrize(
    ("lost", "said"),
    [("flagfile.txt", "flagfile.txt: not found"), ("ckpt.pt", "expected a folder with ckpt.pt and flagfile.txt")],
)
def test_a_lost_file_is_named(lost, said, weights, tmp_path):
    hand_over(FLAGS, checkpoint_of(weights), tmp_path)
    (tmp_path / lost).unlink()
    with pytest.raises(InputError, match=said):
        pytorch_ddpm_pipeline(tmp_path)
