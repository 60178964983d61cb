"""examples/: a checkpoint of another training code, opened by its own package, is what that package says it is.

guided-diffusion and EDM are in no package index: of theirs, what runs without them is tested.
"""

import ast
import json
import pickle
import re
import shutil
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import REPOSITORY
from families import put_target, run_code
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from leakgauge.diffusion.denoiser import Denoiser
from leakgauge.diffusion.process import edm_process
from leakgauge.errors import InputError
from leakgauge.tables import read_table
from stages.score import score
from stages.target import target as make_target

EXAMPLES = REPOSITORY / "examples"
CODES = {  # folder: the packages whose modules its model.py opens
    "denoising_diffusion_pytorch": {"denoising_diffusion_pytorch"},
    "edm": {"training"},
    "guided_diffusion": {"guided_diffusion"},
    "monai": {"monai"},
}
CPU = torch.device("cpu")
NOISE = torch.Generator().manual_seed(0)
X0 = torch.rand(3, 1, 8, 8, generator=NOISE) * 2 - 1
EPSILON = torch.randn(3, 1, 8, 8, generator=NOISE)


@pytest.fixture(scope="module")
def ddpm():
    """The package denoising_diffusion_pytorch."""
    return pytest.importorskip("denoising_diffusion_pytorch", reason="its torchvision is made for one torch alone")


@pytest.fixture
def work(tmp_path, monkeypatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def document(code: str) -> str:
    return ast.get_docstring(ast.parse((EXAMPLES / code / "model.py").read_text())) or ""


def copied(code: str, config: dict) -> Path:
    """my_model, as the docstring asks for it."""
    shutil.copytree(EXAMPLES / code, "my_model")
    Path("my_model/config.json").write_text(json.dumps(config))
    return Path("my_model")


def convert(code: str) -> None:
    """Run the snippet of the docstring, in the working directory."""
    (snippet,) = re.findall(r"\n\n((?: {4}.*\n|\n)+)\n?(?=\S)", document(code))
    exec(textwrap.dedent(snippet), {})


def drawn(network: nn.Module) -> nn.Module:
    """The network with no weight that is zero, ready to be asked."""
    noise = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in network.parameters():
            weight += 0.1 * torch.randn(weight.shape, generator=noise)
    return network.eval()


def scores() -> Iterator[np.ndarray]:
    """The scores of the members of `theirs`, under the target and under networks that have learnt nothing."""
    put_target(Path("my_model"), batch_size=4)
    run_code()
    make_target("theirs")
    score("theirs", "member")
    for folder in ("scores", "null"):
        yield read_table(Path(f"data/{folder}/theirs/member.parquet")).drop_columns("image_id").to_pandas().to_numpy()


# denoising-diffusion-pytorch


def their_diffusion(ddpm, objective: str = "pred_v", **options: object):
    """A small one of the package, its checkpoint as its Trainer writes it, and my_model made of that."""
    from ema_pytorch import EMA  # as the Trainer

    config = {
        "unet": {"dim": 8, "dim_mults": [1, 2], "channels": 1, "attn_dim_head": 4, "full_attn": [False, True]},
        "diffusion": {"image_size": 8, "timesteps": 100, "objective": objective, **options},
    }
    unet = ddpm.Unet(**config["unet"] | {"dim_mults": (1, 2), "full_attn": (False, True)})
    diffusion = ddpm.GaussianDiffusion(unet, **config["diffusion"])
    ema = EMA(diffusion)
    drawn(ema.ema_model)
    Path("results").mkdir()
    torch.save({"step": 10, "model": diffusion.state_dict(), "ema": ema.state_dict()}, "results/model-10.pt")
    copied("denoising_diffusion_pytorch", config)
    convert("denoising_diffusion_pytorch")
    theirs = ema.ema_model.eval().double()
    theirs.model.float()  # the network as it is, what is made of its answer in float64
    theirs.model.register_forward_pre_hook(lambda _, inputs: (inputs[0].float(), *inputs[1:]))
    theirs.model.register_forward_hook(lambda _, inputs, output: output.double())
    return theirs


@pytest.mark.parametrize(
    ("objective", "schedule", "normalised"),
    [
        ("pred_v", "sigmoid", True),
        ("pred_noise", "linear", True),
        ("pred_x0", "cosine", False),
        ("pred_v", "cosine", False),
    ],
)
def test_denoising_diffusion_pytorch_is_opened_as_its_own_predictions_and_noise(
    ddpm, work, objective, schedule, normalised
):
    theirs = their_diffusion(ddpm, objective, beta_schedule=schedule, auto_normalize=normalised)
    ours = Denoiser.from_code(work / "my_model", CPU)
    assert ours.process.num_train_timesteps == 100
    images = theirs.normalize((X0.double() + 1) / 2)  # which it takes in [0, 1]
    for t in (0, 3, 40, 99):
        times = torch.full((3,), t)
        their_x = theirs.q_sample(images, times, EPSILON.double())
        our_x = ours.process.add_noise(X0.double(), EPSILON.double(), t)
        torch.testing.assert_close(in_their_range(our_x, ours, t, normalised), their_x, atol=1e-6, rtol=0)
        with torch.no_grad():
            expected = theirs.model_predictions(their_x, times).pred_noise
        assert_same_noise(ours, our_x, t, expected)


def assert_same_noise(ours: Denoiser, x: Tensor, t: int, expected: Tensor) -> None:
    """epsilon as it stands in x_t, times sigma: of float32 numbers, no more of it can be told.  x : (B, C, H, W)."""
    sigma = ours.process.sigma[t]
    torch.testing.assert_close(sigma * ours.epsilon(x.float(), t).double(), sigma * expected, atol=1e-5, rtol=0)


def in_their_range(x: Tensor, ours: Denoiser, t: int, normalised: bool) -> Tensor:
    """x_t of images in [-1, 1] as that of the same images in [0, 1]: both have the same noise."""
    return x if normalised else (x + ours.process.alpha[t]) / 2


@pytest.mark.parametrize(
    ("key", "value", "buffer"),
    [
        ("objective", "pred_noise", "loss_weight"),
        ("beta_schedule", "linear", "betas"),
        ("timesteps", 50, "size mismatch"),
    ],
)
def test_a_configuration_that_is_not_the_checkpoints_is_refused(ddpm, work, key, value, buffer):
    their_diffusion(ddpm)
    config = json.loads(Path("my_model/config.json").read_text())
    config["diffusion"][key] = value
    Path("my_model/config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=buffer):
        Denoiser.from_code(work / "my_model", CPU)


def test_images_are_scored_by_a_model_of_denoising_diffusion_pytorch(ddpm, work):
    their_diffusion(ddpm)
    for values in scores():
        assert len(values) == 6
        assert (np.isfinite(values) & (values > 0)).all()


def test_the_configuration_of_denoising_diffusion_pytorch_beside_its_model_is_one(ddpm):
    config = json.loads((EXAMPLES / "denoising_diffusion_pytorch/config.json").read_text())
    ddpm.GaussianDiffusion(ddpm.Unet(**config["unet"]), **config["diffusion"])


# MONAI


def their_network(prediction_type: str = "epsilon", between: tuple[int, int] = (0, 1), **options: object):
    """A small one of MONAI with its scheduler, its weights as torch.save writes them, and my_model made of that."""
    from monai.networks.nets import DiffusionModelUNet  # it takes seconds
    from monai.networks.schedulers import DDPMScheduler

    shape = {"spatial_dims": 2, "in_channels": 1, "out_channels": 1, "channels": [8, 16], "norm_num_groups": 4}
    blocks = {"num_res_blocks": 1, "attention_levels": [False, True], "num_head_channels": 8}
    process = {"num_train_timesteps": 100, "prediction_type": prediction_type, "clip_sample": False}
    config = {"network": {**shape, **blocks}, "scheduler": {**process, **options}, "range": between, "size": [8, 8]}
    network = drawn(DiffusionModelUNet(**config["network"]))
    torch.save(network.state_dict(), "model.pt")
    copied("monai", config)
    convert("monai")
    return network, DDPMScheduler(**config["scheduler"])


@pytest.mark.parametrize(
    ("predicts", "schedule", "between"),
    [
        ("epsilon", "linear_beta", (0, 1)),
        ("v_prediction", "scaled_linear_beta", (-1, 1)),
        ("sample", "cosine", (0, 1)),
        ("v_prediction", "linear_beta", (0, 1)),
    ],
)
def test_monai_is_opened_as_its_schedulers_predictions_and_noise(work, predicts, schedule, between):
    network, scheduler = their_network(predicts, between, schedule=schedule)
    ours = Denoiser.from_code(work / "my_model", CPU)
    assert ours.process.num_train_timesteps == 100
    images = X0 if between == (-1, 1) else (X0 + 1) / 2
    for t in (0, 3, 40, 99):
        their_x = scheduler.add_noise(images, EPSILON, torch.full((3,), t))
        our_x = ours.process.add_noise(X0.double(), EPSILON.double(), t)
        in_theirs = in_their_range(our_x, ours, t, between == (-1, 1))
        torch.testing.assert_close(in_theirs.float(), their_x, atol=1e-6, rtol=0)
        with torch.no_grad():
            output = network(in_theirs.float(), torch.full((3,), t)).double()
        x0 = scheduler.step(output, t, in_theirs)[1]
        signal = scheduler.alphas_cumprod[t].double()
        expected = (in_theirs - signal.sqrt() * x0) / (1 - signal).sqrt()
        assert_same_noise(ours, our_x, t, expected)


@pytest.mark.parametrize(
    "options",
    [{"num_class_embeds": 3}, {"with_conditioning": True, "cross_attention_dim": 4}, {"spatial_dims": 3}],
)
def test_a_network_of_monai_that_is_told_more_or_takes_volumes_is_refused(work, options):
    their_network()
    config = json.loads(Path("my_model/config.json").read_text())
    config["network"] |= options
    Path("my_model/config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="takes volumes, classes or a context"):
        Denoiser.from_code(work / "my_model", CPU)


def test_images_are_scored_by_a_model_of_monai(work):
    their_network()
    for values in scores():
        assert len(values) == 6
        assert (np.isfinite(values) & (values > 0)).all()


def test_the_configuration_of_monai_beside_its_model_is_one():
    from monai.networks.nets import DiffusionModelUNet
    from monai.networks.schedulers import DDPMScheduler

    config = json.loads((EXAMPLES / "monai/config.json").read_text())
    assert set(config) == {"network", "scheduler", "range", "size"}
    DDPMScheduler(**config["scheduler"])
    with torch.device("meta"):
        DiffusionModelUNet(**config["network"])


# EDM and guided-diffusion

NETWORKS = '''
import torch


class Ideal(torch.nn.Module):
    """The mean of x_0 that is known for data N(0.3, 0.5^2)."""

    def __init__(self, img_resolution, img_channels, use_fp16, label_dim=0, sigma_min=0, sigma_max=float("inf")):
        super().__init__()
        self.img_resolution, self.img_channels, self.label_dim = img_resolution, img_channels, label_dim
        self.sigma_min, self.sigma_max = sigma_min, sigma_max
        self.mean = torch.nn.Parameter(torch.tensor(0.0))

    def forward(self, x, sigma, class_labels=None):
        return (0.25 * x + sigma**2 * self.mean) / (0.25 + sigma**2)

    def round_sigma(self, sigma):
        return sigma
'''


def their_edm(**arguments: object) -> Path:
    """my_model with a network that is called as EDM's are."""
    sides = {"img_resolution": 8, "img_channels": 1}
    folder = copied("edm", {"class": "Ideal", "arguments": {**sides, **arguments, "use_fp16": True}})
    (folder / "training").mkdir()
    (folder / "training/networks.py").write_text(NETWORKS)
    save_file({"mean": torch.tensor(0.3)}, folder / "weights.safetensors")
    return folder.resolve()


def test_what_a_network_of_edm_says_of_x0_becomes_epsilon_on_the_row_of_sigma_of_its_sampler(work):
    ours = Denoiser.from_code(their_edm(), CPU)
    torch.testing.assert_close(ours.process.sigma, edm_process(0.002, 80.0, 7, 1000).sigma)
    assert (ours.process.alpha == 1).all()
    for t in (300, 600, 999):
        sigma = ours.process.sigma[t].item()
        x = X0 + sigma * EPSILON
        torch.testing.assert_close(ours.epsilon(x, t), sigma * (x - 0.3) / (0.25 + sigma**2), atol=1e-5, rtol=1e-4)


def test_the_row_of_sigma_stays_within_what_a_network_of_edm_takes_and_one_with_classes_is_refused(work):
    sigma = Denoiser.from_code(their_edm(sigma_min=0.02, sigma_max=50.0), CPU).process.sigma
    assert (sigma[0].item(), sigma[-1].item()) == (pytest.approx(0.02), pytest.approx(50.0))
    shutil.rmtree("my_model")
    with pytest.raises(InputError, match="label_dim: this network is told no labels"):
        Denoiser.from_code(their_edm(label_dim=10), CPU)


class Snapshot(nn.Linear):
    """A network that knows its arguments, as those of EDM do."""

    init_args = ()
    init_kwargs = {"in_features": 2, "out_features": 3}  # noqa: RUF012


def test_a_snapshot_of_edm_becomes_its_weights_and_its_arguments(work, monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES / "edm")
    from convert import convert as convert_snapshot

    network = Snapshot(2, 3)
    Path("snapshot.pkl").write_bytes(pickle.dumps({"ema": network}))
    convert_snapshot(Path("snapshot.pkl"), Path("my_model"))
    config = json.loads(Path("my_model/config.json").read_text())
    assert config == {"class": "Snapshot", "arguments": Snapshot.init_kwargs}
    weights = load_file("my_model/weights.safetensors")
    assert set(weights) == {"weight", "bias"}
    assert all(torch.equal(weights[name], value) for name, value in network.state_dict().items())


def test_a_checkpoint_of_guided_diffusion_becomes_its_weights(work):
    Path("my_model").mkdir()
    network = nn.Linear(2, 3)
    torch.save(network.state_dict(), "ema_0.9999_500000.pt")
    convert("guided_diffusion")
    weights = load_file("my_model/weights.safetensors")
    assert all(torch.equal(weights[name], value) for name, value in network.state_dict().items())


# All


def test_every_folder_is_known_here_and_in_the_guide():
    folders = {path.parent.name for path in EXAMPLES.glob("*/model.py")}
    assert folders == set(CODES)
    guide = (REPOSITORY / "docs/guides/models.md").read_text()
    assert set(re.findall(r"`examples/(\w+)`", guide)) == folders


@pytest.mark.parametrize("code", CODES)
def test_a_model_of_another_code_imports_that_code_and_what_is_here_anyway(code):
    tree = ast.parse((EXAMPLES / code / "model.py").read_text())
    found = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    found |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert {name.split(".")[0] for name in found} - {"torch", "safetensors"} - sys.stdlib_module_names == CODES[code]
    assert "Checked with" in document(code)
