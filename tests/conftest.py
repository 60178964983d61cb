"""Fixtures: a target whose ideal network is known, the reference target, a small finished audit, published scores."""

import contextlib
import copy
import io
import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from filelock import FileLock
from PIL import Image
from ruamel.yaml import YAML

from leakgauge import cli as command
from leakgauge.diffusion.denoiser import Denoiser
from leakgauge.diffusion.process import NoiseProcess
from leakgauge.errors import InputError

os.environ.setdefault("LOKY_MAX_CPU_COUNT", "1")  # to start a process costs more than what is fitted here
os.environ.setdefault("SOURCE_DATE_EPOCH", "1767225600")  # the page bears a date: tests may run over midnight
REPOSITORY = Path(__file__).parent.parent
REFERENCE = Path(__file__).parent / "reference"
TINY = {  # overrides that make the default audit small: {section: {key: value}}
    "split": {"member": 60, "auxiliary": 120, "holdout": 150},
    "target": {"block_out_channels": [8, 16], "steps": 12, "batch_size": 16, "checkpoint_every": 4},
    "score": {
        "shard": 50,
        "attacks": {
            "t_error": {"interval": 10, "last": 20},
            "pia": [20],
            "pian": [20],
            "naive_loss": [20],
            "sima": [0],
            "rediffuse": {"timesteps": [], "stride": 50, "draws": 10},
            "noise_seed": 0,
        },
    },
    "fit": {"bag_size": 5, "scores": ["t_error_t10"]},
    "report": {"exposed": 4},
}
TINY_LEARNERS = {
    "marginal": {},
    "gbm": {"trees": 4, "scale_trees": 2},
    "mlp": {"width": 8, "epochs": 2},
    "resnet": {"width": 4, "epochs": 1},
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first, so that at the end no core waits for one of them.

    By the name of the file, not the folder: neighbours in a folder wait for one fixture.
    """
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (item.path not in slow, item.path.name if item.path in slow else ""))


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that the first test process which needs it makes, and the others take.

    make : fills an empty folder, which is moved to its place when it is whole.
    """
    alone = factory.getbasetemp()
    shared = alone.parent if "PYTEST_XDIST_WORKER" in os.environ else alone
    with FileLock(shared / f"{name}.lock"):
        if not (shared / name).exists():
            making = shared / f"{name}.making"
            shutil.rmtree(making, ignore_errors=True)
            making.mkdir()
            make(making)
            making.rename(shared / name)
    return shared / name


def tiny_params() -> dict:
    """The repository's params.yaml with the overrides above; a learner of each kind."""
    params = YAML(typ="safe").load((REPOSITORY / "params.yaml").read_text())
    for section, values in TINY.items():
        params[section] |= copy.deepcopy(values)
    params["learners"] = {name: params["learners"][name] | values for name, values in TINY_LEARNERS.items()}
    params["targets"]["digits_ddpm"] = {"images": "digits", "model": params["targets"]["digits_ddpm"]["model"]}
    return params


def quick_params() -> dict:
    """The same with two learners, for tests that start every stage as a program."""
    params = tiny_params()
    params["learners"] = {name: params["learners"][name] for name in ("marginal", "gbm")}
    params["evaluate"]["stack"] = []
    return params


def dump_params(params: dict, folder: Path = Path()) -> None:
    """Write params.yaml."""
    with (folder / "params.yaml").open("w") as stream:
        YAML().dump(params, stream)


def write_params(params: dict, folder: Path = Path()) -> None:
    """Write params.yaml, and have `config` write what stages read, of targets whose options are valid."""
    from stages.config import config

    dump_params(params, folder)
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(None):
        patch.chdir(folder)
        for target in params["targets"]:
            with contextlib.suppress(InputError):
                config(target)


def change(section: str, **values) -> None:
    """The tiny audit with other options of a section, in params.yaml."""
    params = tiny_params()
    params[section] |= values
    write_params(params)


def change_attacks(**values) -> None:
    """The same with other attacks."""
    change("score", attacks=tiny_params()["score"]["attacks"] | values)


def learn(scores: list[str] | None = None, **evaluate: object) -> None:
    """The tiny audit's options where other scores are learnt, and with other options of `evaluate`."""
    from stages.config import config

    params = tiny_params()
    params["evaluate"] |= evaluate
    params["fit"]["scores"] = scores or params["fit"]["scores"]
    dump_params(params)
    config("digits_ddpm")


def ask_about(name: str, dataset: dict, params: dict, target: str = "digits_ddpm") -> dict:
    """Params with a set of suspects more, whose images an entry of `datasets` describes."""
    params = copy.deepcopy(params)
    params["datasets"][f"{name}_images"] = dataset
    params["suspects"] = {**params["suspects"], name: {"target": target, "images": f"{name}_images"}}
    return params


def answer_about(name: str) -> dict:
    """What the stages say of a set of suspects, in full."""
    from stages.images import prepare_images
    from stages.score_suspects import score_suspects
    from stages.suspects import suspects

    prepare_images(f"{name}_images")
    score_suspects(name)
    suspects(name)
    return json.loads(Path(f"metrics/details/suspects/{name}.json").read_text())


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
def family(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Name of a family of diffusion models -> the folder of a tiny pipeline, written once."""
    from families import write_family

    root = tmp_path_factory.mktemp("families")
    return lambda name: root / name if (root / name).exists() else write_family(name, root / name)


@pytest.fixture(scope="session")
def finished_audit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which every stage has run on the tiny configuration, called as functions; to be copied."""
    return made_once(tmp_path_factory, "finished_audit", _audit)


def _audit(folder: Path) -> None:
    from stages.check import check
    from stages.copies import copies
    from stages.evaluate import evaluate
    from stages.fit import fit
    from stages.images import prepare_images
    from stages.predict import predict
    from stages.report import report
    from stages.score import score
    from stages.split import split
    from stages.target import target

    write_params(tiny_params(), folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        prepare_images("digits")
        split("digits_ddpm")
        check("digits_ddpm")
        target("digits_ddpm")
        for role in ("member", "auxiliary", "holdout"):
            score("digits_ddpm", role)
        for learner in TINY_LEARNERS:
            fit("digits_ddpm", learner)
            predict("digits_ddpm", learner)
        evaluate("digits_ddpm")
        copies("digits_ddpm")
        report()


@pytest.fixture(scope="session")
def finished_clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository in which `dvc repro` has run everything once, the results committed; a copy for this process."""
    made = made_once(tmp_path_factory, "finished_clone", _clone)
    return shutil.copytree(made, tmp_path_factory.mktemp("clone") / "clone", symlinks=True)


def _clone(folder: Path) -> None:
    from pipeline import clone, commit, repro

    executed = repro(clone(folder, quick_params()))
    assert len(executed) == len(set(executed)) == 16
    commit(folder, "audit")


@pytest.fixture
def audit(finished_audit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A private copy of the finished audit, as the working directory."""
    folder = tmp_path / "audit"
    shutil.copytree(finished_audit, folder)
    monkeypatch.chdir(folder)
    return folder


def encoded(pixels: np.ndarray, form: str = "PNG") -> bytes:
    """An image as the bytes of a file.  pixels : (H, W, C) or (H, W) uint8."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format=form)
    return stream.getvalue()


def write_photos(ids: list, pixels: np.ndarray, path: Path = Path("photos.parquet")) -> None:
    """A dataset in the Hub's layout."""
    images = [{"bytes": encoded(image), "path": f"{image_id}.png"} for image_id, image in zip(ids, pixels, strict=True)]
    pq.write_table(pa.table({"image_id": ids, "image": images, "label": [i % 10 for i in range(len(ids))]}), path)


@dataclass
class Elsewhere:
    """A target of which only scores are known, in the working directory; prepared, not yet split."""

    ids: np.ndarray  # (N,) int
    scores: pd.DataFrame  # image_id, is_member and two scores

    def hand_over(self, table: pd.DataFrame, name: str = "scores.csv", **split: object) -> None:
        """Write a file of scores and the params.yaml that names it, with overrides of `split`."""
        table.to_csv(name, index=False) if name.endswith(".csv") else table.to_parquet(name, index=False)
        params = tiny_params()
        params["datasets"]["photos"] = {"source": "parquet", "path": "photos.parquet"}
        overrides = {"split": split, "target": {"scores": ["loss", "distance"]}, "fit": {"scores": ["loss"]}}
        params["targets"]["theirs"] = {"images": "photos", "model": name, **overrides}
        write_params(params)


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Elsewhere:
    """200 photos, 50 of them members, 60 auxiliary images to be drawn, and the file `scores.csv`."""
    from stages.images import prepare_images

    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    ids = rng.permutation(np.arange(1000, 1200))
    write_photos(ids.tolist(), rng.integers(0, 256, (200, 8, 8, 3), dtype=np.uint8))
    is_member = np.arange(200) < 50
    loss = rng.lognormal(np.where(is_member, -1, 0), 1)
    table = pd.DataFrame({"image_id": ids, "is_member": is_member, "loss": loss, "distance": rng.random(200) + 0.1})
    audit = Elsewhere(ids, table)
    audit.hand_over(table, auxiliary=60, holdout="rest")
    prepare_images("photos")
    return audit


def marginal_figures(target: str) -> dict:
    """The metrics of learner `marginal` on a target of scores, from its split on; params.yaml has no other learner."""
    from stages.check import check
    from stages.evaluate import evaluate
    from stages.fit import fit
    from stages.predict import predict
    from stages.score import score
    from stages.split import split
    from stages.target import target as take

    split(target)
    check(target)
    take(target)
    for role in ("member", "auxiliary", "holdout"):
        score(target, role)
    fit(target, "marginal")
    predict(target, "marginal")
    evaluate(target)
    return json.loads(Path(f"metrics/details/{target}.json").read_text())["judges"]["marginal"]


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
