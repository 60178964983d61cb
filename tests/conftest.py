"""Fixtures: a target whose ideal network is known, the reference target, and a small finished audit."""

import copy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from ruamel.yaml import YAML

from stages import command
from stages.diffusion.denoiser import Denoiser
from stages.diffusion.process import NoiseProcess
from stages.tables import ROLES, read_table, write_table

REPOSITORY = Path(__file__).parent.parent
REFERENCE = Path(__file__).parent / "reference"
TINY = {  # overrides that make the default audit small: {section: {key: value}}
    "split": {"member": 60, "auxiliary": 120, "holdout": 150},
    "train_target": {"block_out_channels": [8, 16], "steps": 12, "batch_size": 16, "checkpoint_every": 4},
    "score": {
        "batch_size": 50,
        "attacks": {
            "t_error": {"interval": 10, "last": 20},
            "pia": [20],
            "pian": [20],
            "naive_loss": [20],
            "sima": [0],
            "noise_seed": 0,
        },
    },
    "fit": {"bag_size": 5},
    "report": {"exposed": 4},
}
TINY_LEARNERS = {
    "marginal": {},
    "resnet": {"width": 4, "epochs": 1},
    "gbm": {"trees": 4, "scale_trees": 2},
}


def tiny_params() -> dict:
    """The repository's params.yaml with the overrides above; three learners."""
    params = YAML(typ="safe").load((REPOSITORY / "params.yaml").read_text())
    for section, values in TINY.items():
        params[section] |= copy.deepcopy(values)
    params["learners"] = {name: params["learners"][name] | values for name, values in TINY_LEARNERS.items()}
    return params


def write_params(params: dict, folder: Path = Path()) -> None:
    """Write params.yaml."""
    with (folder / "params.yaml").open("w") as stream:
        YAML().dump(params, stream)


def write_statistics(target: str) -> None:
    """data/statistics/<target>/<role>.parquet with one statistic, from the roles' images."""
    for role in ROLES:
        images = read_table(Path(f"data/roles/{target}/{role}.parquet"))
        bits = [8 * len(image["bytes"].as_py()) for image in images.column("image")]
        table = images.select(["image_id", "label"]).append_column("compressed_bits", pa.array(bits, pa.float32()))
        write_table(Path(f"data/statistics/{target}/{role}.parquet"), table, {"target": target})


class GaussianTarget:
    """The ideal epsilon for data N(mu, s^2 I), sigma_t (x - alpha_t mu) / (alpha_t^2 s^2 + sigma_t^2).

    Counts its calls.
    """

    def __init__(self, mu: float = 0.3, s: float = 0.5) -> None:
        betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
        alphas_cumprod = torch.cumprod(1 - betas, dim=0)
        self.process = NoiseProcess(alphas_cumprod.sqrt(), (1 - alphas_cumprod).sqrt())
        self.mu, self.s, self.calls = mu, s, 0

    def epsilon(self, x: torch.Tensor, t: int) -> torch.Tensor:
        self.calls += 1
        alpha, sigma = self.process.alpha[t], self.process.sigma[t]
        return sigma * (x - alpha * self.mu) / (alpha**2 * self.s**2 + sigma**2)

    def ddim(self, x: torch.Tensor, epsilon: torch.Tensor, start: int, end: int) -> torch.Tensor:
        return self.process.ddim(x, epsilon, start, end)


@pytest.fixture
def gaussian_target() -> GaussianTarget:
    return GaussianTarget()


@pytest.fixture(scope="session")
def reference_target() -> Denoiser:
    return Denoiser.from_pipeline(REFERENCE / "target", torch.device("cpu"))


@pytest.fixture(scope="session")
def finished_audit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which every stage has run on the tiny configuration, called as functions."""
    from stages.evaluate import evaluate
    from stages.fit import fit
    from stages.predict import predict
    from stages.prepare import prepare
    from stages.report import report
    from stages.score import score
    from stages.select import select
    from stages.split import split
    from stages.train_target import train_target

    folder = tmp_path_factory.mktemp("audit")
    write_params(tiny_params(), folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        prepare("digits")
        split("digits_ddpm")
        write_statistics("digits_ddpm")
        train_target("digits_ddpm")
        for role in ("member", "auxiliary", "holdout"):
            score("digits_ddpm", role)
        select("digits_ddpm")
        for learner in TINY_LEARNERS:
            fit("digits_ddpm", learner)
            predict("digits_ddpm", learner)
        evaluate("digits_ddpm")
        report()
    return folder


@pytest.fixture
def audit(finished_audit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A private copy of the finished audit, as the working directory."""
    folder = tmp_path / "audit"
    shutil.copytree(finished_audit, folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def refusal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Callable[..., str]:
    """Run a stage from its command line, expect it to refuse, and return the one line it said."""

    def refuse(stage: Callable[..., None], **arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["stage", *arguments.values()])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            command.run(stage, **dict.fromkeys(arguments, "an argument"))
        assert stop.value.code == 1
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1, lines
        return lines[0]

    return refuse


@pytest.fixture
def random_images() -> np.ndarray:
    """(200, 1, 8, 8) uint8: images of varying brightness and busyness."""
    rng = np.random.default_rng(0)
    base, spread = rng.uniform(60, 190, (200, 1, 1, 1)), rng.uniform(2, 50, (200, 1, 1, 1))
    return np.clip(base + spread * rng.standard_normal((200, 1, 8, 8)), 0, 255).astype(np.uint8)
