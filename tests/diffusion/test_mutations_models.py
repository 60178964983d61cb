"""Whatever a model's configuration, a file of scores or an option says: finite numbers, or one InputError.

Seeded mutations of everything that a user can hand over of a model: hundreds of files that make no sense, each opened
as the pipeline opens it.  Never another exception, never a hang, never memory without end.
"""

import io
import json
import resource
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from conftest import tiny_params
from test_pytorch_ddpm import FLAGS, checkpoint_of, hand_over, network

from leakgauge.attacks.columns import problem, score_columns
from leakgauge.attacks.registry import score_batch
from leakgauge.config import validated
from leakgauge.diffusion.denoiser import Denoiser
from leakgauge.diffusion.loading import filled_in
from leakgauge.diffusion.pipelines import copy_pipeline
from leakgauge.diffusion.pytorch_ddpm import FLAGFILE, pytorch_ddpm_pipeline
from leakgauge.diffusion.training import train
from leakgauge.errors import InputError
from leakgauge.imports import read_roles, read_scores
from leakgauge.options import Attacks, TargetOptions
from leakgauge.scoring import _table

CPU = torch.device("cpu")
SECONDS, MEMORY = 20, 2 * 2**30  # more than any mutation may take
VALUES = (
    *(None, True, False, 0, 1, -1, 2, 3, 7, 0.5, -0.5, 10**9, 10**30, 1e300, float("nan"), float("inf")),
    *("", "junk", "3", "silu", [], [0], [None], ["junk"], [[[]]], [1, 2], [8, 16, 32], {}, {"a": {"b": []}}),
)
DOCUMENTS = (b"", b"{", b"[]", b"null", b"3", b'"junk"', b"\xff\xfe", b"{}", b"[" * 2000, b'{"_class_name": []}')
ATTACKS = {
    "t_error": {"interval": 1, "last": 2},
    "pia": [1],
    "pian": [1],
    "naive_loss": [1],
    "sima": [0],
    "rediffuse": {"timesteps": [], "stride": 1, "draws": 1},
    "noise_seed": 0,
}


class HangError(BaseException):
    """Nothing may catch it."""


@contextmanager
def bounded() -> Iterator[None]:
    """At most so many seconds, and so much more memory than now."""

    def stop(*_: object) -> None:
        raise HangError

    before, old = signal.signal(signal.SIGALRM, stop), resource.getrlimit(resource.RLIMIT_AS)
    if sys.platform == "linux":
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, old[1]))
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, old)


class Ends:
    """How attempts ended, each in a sound result or refused in one line; `check` fails where any ended otherwise."""

    def __init__(self) -> None:
        self.sound, self.refused, self.faults = 0, 0, list[str]()

    def note(self, what: object, attempt: Callable[[], None]) -> None:
        try:
            with bounded():
                attempt()
            self.sound += 1
        except InputError:
            self.refused += 1
        except BaseException as error:
            self.faults.append(f"{what}: {type(error).__name__}: {str(error)[:200]}")

    def check(self, least: int = 5) -> None:
        assert not self.faults, "\n".join([f"{len(self.faults)} faults", *self.faults])
        assert min(self.sound, self.refused) >= least, "both happen, or the mutations test nothing"


def mutated(document: bytes, rng: np.random.Generator, count: int) -> Iterator[tuple[str, bytes]]:
    """Mutations of a JSON document: every key dropped once, then keys with other values, and other documents."""
    config = json.loads(document)
    keys = [key for key in config if key != "_diffusers_version"]
    for key in keys:
        yield f"without {key}", json.dumps({name: value for name, value in config.items() if name != key}).encode()
    for _ in range(count):
        key, value = str(rng.choice([*keys, "added"])), VALUES[rng.integers(len(VALUES))]
        yield f"{key}: {value!r}", json.dumps(config | {key: value}).encode()
    for document_of_others in DOCUMENTS:
        yield repr(document_of_others[:20]), document_of_others
    for place in rng.integers(1, len(document), 5):
        yield f"cut at {place}", document[:place]


def opened(folder: Path) -> None:
    """Open a pipeline and score one image, as `target` and `score` do."""
    target, size = Denoiser.from_pipeline(folder, CPU), (8, 8)
    filled_in(folder)
    target.check_images(folder, 1, *size)
    target.check_runs(folder, *size)
    attacks = Attacks.model_validate(ATTACKS)
    if wrong := problem(attacks, target.process.num_train_timesteps):
        raise InputError(wrong)
    pixels = torch.arange(64, dtype=torch.uint8).reshape(1, 1, *size)
    told = target.with_condition(target.condition.sample_conditions(1))
    with torch.inference_mode():
        scores = score_batch(told, told.encode(pixels), ["image"], attacks).numpy()
    _table(folder, ["image"], scores, list(score_columns(attacks)))


@pytest.mark.parametrize(
    ("name", "file", "count"),
    [
        ("epsilon", "unet/config.json", 120),
        ("ve", "unet/config.json", 20),
        ("by_class", "unet/config.json", 20),
        ("text", "unet/config.json", 40),
        ("sdxl", "unet/config.json", 30),
        ("dit", "transformer/config.json", 60),
        ("pixart", "transformer/config.json", 30),
        ("sd3_no_t5", "transformer/config.json", 30),
        ("flux", "transformer/config.json", 30),
        ("chroma", "transformer/config.json", 20),
        ("hunyuan", "transformer/config.json", 30),
        ("sana", "transformer/config.json", 30),
        ("sana", "vae/config.json", 40),
        ("lumina", "transformer/config.json", 30),
        ("latent_tiny", "vqvae/config.json", 40),
        ("latent_kl", "vqvae/config.json", 60),
        ("latent_vq", "vqvae/config.json", 40),
        ("epsilon", "scheduler/scheduler_config.json", 60),
        ("zero_snr", "scheduler/scheduler_config.json", 20),
        ("dpm_solver", "scheduler/scheduler_config.json", 30),
        ("dpm_solver_flow", "scheduler/scheduler_config.json", 30),
        ("euler", "scheduler/scheduler_config.json", 30),
        ("ve", "scheduler/scheduler_config.json", 30),
        ("edm", "scheduler/scheduler_config.json", 40),
        ("flow", "scheduler/scheduler_config.json", 40),
    ],
)
def test_a_mutated_configuration_is_scored_or_refused(name, file, count, family, tmp_path):
    folder = shutil.copytree(family(name), tmp_path / name)
    document, rng = (folder / file).read_bytes(), np.random.default_rng(len(name) + count)
    opened(folder)
    ends = Ends()
    for what, mutation in mutated(document, rng, count):
        (folder / file).write_bytes(mutation)
        ends.note(f"{name}, {file}, {what}", lambda: opened(folder))
    ends.check()


def test_a_mutated_index_is_copied_or_refused(family, tmp_path):
    folder = shutil.copytree(family("latent_kl"), tmp_path / "theirs")
    document, ends = (folder / "model_index.json").read_bytes(), Ends()
    for number, (what, mutation) in enumerate(mutated(document, np.random.default_rng(0), 20)):
        (folder / "model_index.json").write_bytes(mutation)
        ends.note(what, lambda number=number: opened_copy(folder, tmp_path / str(number)))
    ends.check()


def opened_copy(folder: Path, copy: Path) -> None:
    copy_pipeline(folder, copy)
    opened(copy)


def test_a_mutated_flagfile_is_converted_or_refused(tmp_path):
    folder, rng = hand_over(FLAGS, checkpoint_of(network()), tmp_path / "theirs"), np.random.default_rng(0)
    lines = (folder / FLAGFILE).read_text().splitlines()

    def converted() -> None:
        shutil.rmtree(tmp_path / "made", ignore_errors=True)
        pytorch_ddpm_pipeline(folder).save_pretrained(tmp_path / "made")
        opened(tmp_path / "made")

    ends = Ends()
    for number in range(120):
        place = int(rng.integers(len(lines)))
        name = lines[place].partition("=")[0]
        value = VALUES[rng.integers(len(VALUES))]
        changed = [[], [f"{name}={value}"], [name], [lines[place]] * 2, [f"{name}=1e-4"], ["\x00"]][number % 6]
        (folder / FLAGFILE).write_text("\n".join([*lines[:place], *changed, *lines[place + 1 :]]))
        ends.note(changed, converted)
    ends.check()


ROWS = pd.DataFrame(
    {
        "image_id": [f"{n:03d}" for n in range(24)],
        "is_member": [1, 0] * 12,
        "role": ["member", "auxiliary", "member", "holdout"] * 6,
        "loss": np.random.default_rng(0).lognormal(size=24),
    }
)


def read(path: Path) -> None:
    read_roles(path)
    scores = read_scores(path, ["loss"])
    assert len(set(scores.ids)) == len(scores.ids)
    assert all((np.isfinite(values) & (values > 0)).all() for values in scores.columns.values())


def test_a_mutated_csv_of_scores_is_read_or_refused(tmp_path):
    rng, path = np.random.default_rng(0), tmp_path / "scores.csv"
    sound, ends = ROWS.to_csv(index=False).encode(), Ends()
    cells = (*VALUES, "007", "1e400", "0x10", "1,5", '"', "\n", "\ufeff", " 1", "member", "2")
    for number in range(300):
        table, row, column = ROWS.astype(object), int(rng.integers(24)), str(rng.choice(ROWS.columns))
        table[column] = table[column].where(table.index != row, str(cells[rng.integers(len(cells))]))
        data = [
            table.to_csv(index=False).encode(),
            table.drop(columns=column).to_csv(index=False).encode(),
            ROWS.rename(columns={column: str(cells[rng.integers(len(cells))])}).to_csv(index=False).encode(),
            sound[: rng.integers(len(sound))],
            flipped(sound, rng),
            ROWS.to_csv(index=bool(number % 4), sep=str(rng.choice([";", "\t", ","]))).encode(),
        ][number % 6]
        path.write_bytes(data)
        ends.note(data, lambda: read(path))
    ends.check()


def flipped(data: bytes, rng: np.random.Generator) -> bytes:
    """The same with a few bytes at random."""
    changed = bytearray(data)
    for place in rng.integers(len(changed), size=3):
        changed[place] = rng.integers(256)
    return bytes(changed)


COLUMNS = {  # of any type that a Parquet file may have
    "null": pa.nulls(24),
    "bool": pa.array([True, False] * 12),
    "int8": pa.array(range(24), pa.int8()),
    "uint64": pa.array([2**64 - 1 - n for n in range(24)], pa.uint64()),
    "half": pa.array(np.linspace(0, 1, 24).astype(np.float16)),
    "nan": pa.array([float("nan"), *np.linspace(1, 2, 23)]),
    "missing": pa.array([None, *np.linspace(1, 2, 23)]),
    "huge": pa.array([1e308] * 23 + [1.0]),
    "tiny": pa.array([5e-324] * 23 + [1.0]),
    "text": pa.array(["member"] * 24),
    "words": pa.array(["member", "holdout"] * 12).dictionary_encode(),
    "list": pa.array([[n] for n in range(24)]),
    "struct": pa.array([{"a": n} for n in range(24)]),
    "decimal": pa.array(list(range(24)), pa.int64()).cast(pa.decimal128(21, 2)),
    "date": pa.array(list(range(24)), pa.date32()),
    "bytes": pa.array([bytes([n]) for n in range(24)]),
    "map": pa.array([[("a", n)] for n in range(24)], pa.map_(pa.string(), pa.int64())),
}


def test_a_mutated_parquet_of_scores_is_read_or_refused(tmp_path):
    rng, path, ends = np.random.default_rng(0), tmp_path / "scores.parquet", Ends()
    sound = pa.Table.from_pandas(ROWS, preserve_index=False)
    for name in ROWS.columns:
        for kind, values in COLUMNS.items():
            pq.write_table(sound.set_column(sound.column_names.index(name), name, values), path)
            ends.note(f"{name} as {kind}", lambda: read(path))
        pq.write_table(sound.append_column(name, sound.column(name)), path)
        ends.note(f"{name} twice", lambda: read(path))
        pq.write_table(sound.drop_columns([name]), path)
        ends.note(f"no {name}", lambda: read(path))
    stream = io.BytesIO()
    pq.write_table(sound, stream)
    for number in range(150):
        data = stream.getvalue()
        path.write_bytes(flipped(data, rng) if number % 3 else data[: rng.integers(len(data))])
        ends.note(f"bytes {number}", lambda: read(path))
    ends.check()


OPTIONS = {  # values of section `target` that are odd, but not costly
    "seed": [-5, 2**62, 2**70, 1.5, None],
    "block_out_channels": [[1], [7], [3, 5], [8, 16, 32], [8, 8, 8, 8, 8], [], [0], "8"],
    "layers_per_block": [2, 0, "1"],
    "attention": [True, None],
    "dropout": [0.999, 1.0, -1.0],
    "num_train_timesteps": [1, 2, 0, 10**9, 10**30],
    "beta_schedule": ["squaredcos_cap_v2", "sigmoid"],
    "steps": [1, 2, 3, 4, 5, 6, 0, -1],
    "batch_size": [1, 1000, 0, 2.5],
    "learning_rate": [1e-300, 1e30, 0.0, float("nan"), float("inf")],
    "warmup_steps": [0, 5, 10**9, -1],
    "decay": ["linear", "none"],
    "max_grad_norm": [1e-300, 1e300, float("inf")],
    "ema_decay": [1e-300, 1 - 1e-15, 1.0],
    "checkpoint_every": [1, 5, 10**9],
    "hub": [{}, {"repo": "a/b", "revision": "0" * 40}],
    "leave_out": [["*"], "junk"],
    "scores": [[], ["["]],
}


def test_options_of_training_are_trained_with_or_refused(tmp_path):
    defaults = tiny_params()["target"] | {"steps": 5, "batch_size": 4, "block_out_channels": [8, 8]}
    pixels = torch.arange(6 * 64).remainder(256).to(torch.uint8).reshape(6, 1, 8, 8)

    def trained(values: dict) -> None:
        options = validated(TargetOptions, values, lambda key: key)
        shutil.rmtree(tmp_path / "work", ignore_errors=True)
        pipeline, losses = train(pixels, options, tmp_path / "work")
        assert losses.shape == (options.steps,)
        pipeline.save_pretrained(tmp_path / "work/made")
        opened(tmp_path / "work/made")

    changes = [{name: value} for name, values in OPTIONS.items() for value in values]
    ends = Ends()
    for change in [{}, *changes]:
        ends.note(change, lambda change=change: trained(defaults | change))
    ends.check()
