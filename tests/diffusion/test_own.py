"""A model of one's own: its code is run where that is asked for, and nowhere else."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from families import put_target, run_code
from safetensors.torch import save_file
from torch import nn

from leakgauge.config import kind_of
from leakgauge.diffusion.denoiser import Denoiser, reinitialised, untrained
from leakgauge.diffusion.own import OwnNetwork
from leakgauge.errors import InputError
from leakgauge.tables import read_table
from stages.score import score
from stages.target import target as make_target

CODE = """
import torch
from pathlib import Path
from safetensors.torch import load_file
from layers import Network

Path("it_ran").touch()


def load(folder):
    network = Network()
    network.load_state_dict(load_file(folder / "weights.safetensors"))
    signal = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)
    return {"network": network, "alpha": signal.sqrt(), "sigma": (1 - signal).sqrt(), "shape": (1, 8, 8)}
"""
LAYERS = """
import torch
from torch import nn


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.into, self.out = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 1, 3, padding=1)
        self.of_time = nn.Parameter(torch.zeros(8, 1, 1))

    def forward(self, x, t):
        return self.out(torch.tanh(self.into(x) + self.of_time * t[:, None, None, None] / 1000))
"""


X = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def own(tmp_path, monkeypatch) -> Path:
    """A folder with code, a module beside it, and weights."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "model.py").write_text(CODE)
    (folder / "layers.py").write_text(LAYERS)
    noise = torch.Generator().manual_seed(1)
    shapes = {"into.weight": (8, 1, 3, 3), "into.bias": (8,), "out.weight": (1, 8, 3, 3), "out.bias": (1,)}
    shapes["of_time"] = (8, 1, 1)
    weights = {name: torch.randn(shape, generator=noise) / 3 for name, shape in shapes.items()}
    save_file(weights, folder / "weights.safetensors")
    return folder


def expected(folder: Path, t: int) -> torch.Tensor:
    """What the code computes, without anything of ours."""
    from safetensors.torch import load_file

    space: dict = {}
    exec(LAYERS, space)
    network = space["Network"]()
    network.load_state_dict(load_file(folder / "weights.safetensors"))
    with torch.no_grad():
        return network(X, torch.full((3,), t))


def test_epsilon_is_what_the_code_computes_and_the_noise_levels_are_its_own(own):
    target = Denoiser.from_code(own, torch.device("cpu"))
    for t in (0, 30, 999):
        torch.testing.assert_close(target.epsilon(X, t), expected(own, t))
    signal = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)
    torch.testing.assert_close(target.process.alpha, signal.sqrt())


def test_a_network_that_has_learnt_nothing_has_none_of_its_weights(own):
    target = Denoiser.from_code(own, torch.device("cpu"))
    fresh = dict(reinitialised(target.network, 0).named_parameters())
    again = dict(reinitialised(target.network, 0).named_parameters())
    for name, weight in target.network.named_parameters():
        assert not torch.isclose(fresh[name], weight).any(), name
        assert torch.equal(fresh[name], again[name]), "the seed decides"
    assert not torch.allclose(untrained(target, 0).epsilon(X, 30), target.epsilon(X, 30))


class RMSNorm(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels, 1, 1)), nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.weight * x / (x.square().mean(1, keepdim=True) + 1e-6).sqrt() + self.bias


class Mix(nn.Module):
    """A linear layer over channels without `reset_parameters`, times a constant that is no norm's."""

    def __init__(self, into: int, out: int) -> None:
        super().__init__()
        self.matrix, self.gain = nn.Parameter(torch.randn(out, into)), nn.Parameter(torch.full((out, 1, 1), 0.5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.gain * torch.einsum("oi,bihw->bohw", self.matrix, x)


class Normed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(Mix(1, 8), RMSNorm(8), nn.Tanh(), Mix(8, 1))

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


@pytest.mark.parametrize("trained", [False, True])
def test_norms_of_layers_that_cannot_draw_their_weights_stay_norms(trained):
    torch.manual_seed(0)
    network = OwnNetwork(Normed(), (1, 8, 8))
    if trained:
        for norm in (layer for layer in network.modules() if isinstance(layer, RMSNorm)):
            for weight in norm.parameters():
                nn.init.normal_(weight, mean=float(weight.mean()), std=0.05)
    fresh = reinitialised(network, 0)
    of_norm, first, last = fresh.network.layers[1], fresh.network.layers[0], fresh.network.layers[3]
    assert (of_norm.weight == 1).all()
    assert (of_norm.bias == 0).all()
    assert (first.gain == 0.5).all(), "a constant is nothing that was learnt"
    for layer, before in ((first, network.network.layers[0]), (last, network.network.layers[3])):
        assert not torch.isclose(layer.matrix, before.matrix).any()
    assert fresh(X, torch.zeros(3)).sample.std() > 0.1, "it depends on the image"


def test_the_folder_becomes_the_target_and_its_images_are_scored(own):
    put_target(own, batch_size=4)
    run_code()
    make_target("theirs")
    assert {path.name for path in Path("models/target/theirs").iterdir()} == {
        *("model.py", "layers.py", "weights.safetensors")
    }
    score("theirs", "member")
    values = read_table(Path("data/scores/theirs/member.parquet")).drop_columns("image_id").to_pandas()
    assert len(values) == 6
    assert (np.isfinite(values) & (values > 0)).all(axis=None)
    null = read_table(Path("data/null/theirs/member.parquet")).drop_columns("image_id").to_pandas()
    assert (np.isfinite(null) & (null > 0)).all(axis=None)


def test_two_models_whose_modules_have_one_name_are_two_and_nothing_is_written_beside_them(own, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.dont_write_bytecode", False)
    other = Path(shutil.copytree(own, tmp_path / "other"))
    (other / "layers.py").write_text(LAYERS.replace("torch.tanh", "torch.relu"))
    before = file_names(own)
    first, second = (Denoiser.from_code(folder, torch.device("cpu")).epsilon(X, 30) for folder in (own, other))
    torch.testing.assert_close(first, expected(own, 30))
    assert not torch.allclose(first, second)
    assert file_names(own) == before


def test_modules_of_a_folder_without_init_are_forgotten_too(own, tmp_path):
    (own / "package").mkdir()
    (own / "layers.py").rename(own / "package/layers.py")
    (own / "model.py").write_text(
        CODE.replace("from layers import Network", "from package import layers\nNetwork = layers.Network")
    )
    other = Path(shutil.copytree(own, tmp_path / "other"))
    (other / "package/layers.py").write_text(LAYERS.replace("torch.tanh", "torch.relu"))
    first, second = (Denoiser.from_code(folder, torch.device("cpu")).epsilon(X, 30) for folder in (own, other))
    assert not torch.allclose(first, second)


def file_names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def test_code_is_not_run_where_nothing_asks_for_it(own):
    assert kind_of(own) is None
    with pytest.raises(InputError):
        Denoiser.from_pipeline(own)
    assert not Path("it_ran").exists()


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('"shape": (1, 8, 8)', '"size": 8', "load returns no dictionary of alpha, network, shape, sigma"),
        ("network,", "network.forward,", "load: network is a method, no torch.nn.Module"),
        ("(1, 8, 8)", "(8, 8)", "load: shape is (8, 8), expected channels, height and width"),
        ('"sigma": (1 - signal).sqrt()', '"sigma": signal[:5]', "load: alpha and sigma are no rows of one length"),
        ('"sigma": (1 - signal).sqrt()', '"sigma": signal', "load: its noise does not rise"),
        ("network = Network()", "network = Network(3)", "load: TypeError: Network.__init__() takes 1 positional"),
        ("def load", "def open_it", "load: AttributeError: module 'own_model' has no attribute 'load'"),
        ("(signal.sqrt()", "(", "load: SyntaxError"),
        ("    return", "    network.of_time.data[0] = torch.nan\n    return", "not finite (NaN or inf in 'of_time')"),
    ],
)
def test_what_load_returns_that_is_no_model_is_refused(before, after, said, own):
    code = CODE.replace(before, after) if before in CODE else CODE + before
    (own / "model.py").write_text(code)
    with pytest.raises(InputError) as error:
        Denoiser.from_code(own)
    assert str(error.value).startswith(f"{own}/model.py: ")
    assert said in str(error.value)


def test_images_of_another_size_and_a_link_out_of_the_folder_are_refused(own, refusal):
    put_target(own, size=16)
    run_code()
    assert "mine: takes 8x8 1-channel images, the dataset has 16x16 1-channel" in refusal(make_target, target="theirs")
    (own / "secret").symlink_to("/etc/hostname")
    assert "secret: is a link to /etc/hostname" in refusal(make_target, target="theirs")
    assert not Path("models/target/theirs").exists()
