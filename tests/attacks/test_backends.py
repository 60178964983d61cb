"""Scoring by shards: read as they are needed, in batches that fit, with the same scores whatever the backend."""

import io
import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from conftest import REPOSITORY, tiny_params, write_params
from tqdm import tqdm

from leakgauge.attacks import scorer as module
from leakgauge.attacks.scorer import Job, Scorer, fitting_batch, out_of_memory
from leakgauge.compute import best_device, computed_on
from leakgauge.config import section
from leakgauge.errors import InputError
from leakgauge.files import npy
from leakgauge.options import Score
from leakgauge.scoring import Shards, score_here, score_options
from leakgauge.tables import RowReader, read_metadata, read_table, write_table
from stages.score import score

TARGET = "digits_ddpm"


def job(role: str = "holdout", **options: object) -> Job:
    """What `score` would do in the working directory."""
    chosen = section("score", Score, TARGET).model_copy(update=options)
    return Job(TARGET, Path(f"models/target/{TARGET}"), Path(f"data/roles/{TARGET}/{role}.parquet"), chosen)


def scorer(role: str = "holdout", **options: object) -> Scorer:
    return Scorer(job(role, **options), torch.device("cpu"))


@pytest.mark.parametrize(("start", "stop"), [(0, 1), (0, 10), (3, 4), (3, 5), (4, 8), (2, 9), (9, 10)])
def test_a_range_of_rows_is_read_whatever_row_groups_it_lies_in(start, stop, tmp_path, monkeypatch):
    monkeypatch.setattr("leakgauge.tables.ROW_GROUP", 4)
    table = pa.table({"a": range(10), "b": [str(i) for i in range(10)]})
    write_table(tmp_path / "table.parquet", table, {})
    reader = RowReader(tmp_path / "table.parquet", ["b"])
    assert len(reader) == 10
    assert reader.file.num_row_groups == 3
    for _ in range(2):
        assert reader.rows(start, stop).column("b").to_pylist() == [str(i) for i in range(start, stop)]


def test_row_groups_of_large_rows_are_small(tmp_path, monkeypatch):
    monkeypatch.setattr("leakgauge.tables.ROW_GROUP_BYTES", 1000)
    write_table(tmp_path / "table.parquet", pa.table({"a": [b"x" * 300] * 10}), {})
    assert RowReader(tmp_path / "table.parquet", ["a"]).file.metadata.row_group(0).num_rows == 3


def test_only_the_row_group_in_use_is_held(tmp_path, monkeypatch):
    monkeypatch.setattr("leakgauge.tables.ROW_GROUP", 100)
    write_table(tmp_path / "table.parquet", pa.table({"a": np.random.default_rng(0).integers(0, 9, 10_000)}), {})
    reader = RowReader(tmp_path / "table.parquet", ["a"])
    for start in range(0, 10_000, 50):
        reader.rows(start, start + 50)
        assert reader.held is not None
        assert len(reader.held[1]) == 100


def test_an_image_keeps_its_score_whatever_its_shard_and_batch(audit):
    whole = scorer(shard=150, batch_size=150)
    expected = whole.score(whole.read(0))
    for shard, size in ((50, 17), (7, 7), (64, "auto")):
        other = scorer(shard=shard, batch_size=size)
        scores = np.concatenate([other.score(other.read(start)) for start in other.starts])
        np.testing.assert_allclose(scores, expected, rtol=2e-4)


def rows_of(scores: bytes) -> np.ndarray:
    return np.load(io.BytesIO(scores), allow_pickle=False)


def test_the_local_backend_saves_each_shard_as_it_is_done_and_counts_images(audit):
    here = scorer(shard=40, batch_size=16)
    saved: dict[int, int] = {}
    with tqdm(disable=True, total=150) as bar:
        seen = []
        bar.update = seen.append
        score_here(here, list(here.starts), lambda start, scores, _: saved.update({start: len(rows_of(scores))}), bar)
    assert saved == {0: 40, 40: 40, 80: 40, 120: 30}
    assert sum(seen) == 150
    assert max(seen) == 16


@pytest.mark.parametrize("batch_size", [5, 150])
def test_the_number_of_threads_changes_a_score_by_rounding_alone(audit, batch_size):
    before, scores = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            here = scorer(shard=150, batch_size=batch_size)
            scores.append(here.score(here.read(0)))
    finally:
        torch.set_num_threads(before)
    np.testing.assert_allclose(scores[1], scores[0], rtol=2e-4)
    np.testing.assert_allclose(scores[2], scores[0], rtol=2e-4)


def test_a_score_table_says_what_it_was_computed_on(audit):
    facts = read_metadata(Path(f"data/scores/{TARGET}/member.parquet"))["computed_on"]
    assert facts == computed_on(best_device())
    assert facts["torch"] == version("torch")
    assert facts["diffusers"] == version("diffusers")
    if not torch.cuda.is_available():
        assert (facts["device"], facts["name"]) == ("cpu", torch.backends.cpu.get_cpu_capability())


def test_a_score_table_without_an_image_was_computed_on_nothing(audit):
    images = Path(f"data/roles/{TARGET}/member.parquet")
    write_table(images, read_table(images)[:0], read_metadata(images))
    score(TARGET, "member")
    path = Path(f"data/scores/{TARGET}/member.parquet")
    assert read_table(path).num_rows == 0
    assert read_metadata(path)["computed_on"] is None


def test_shards_of_two_kinds_of_machine_are_not_one_table(tmp_path):
    shards, here = Shards(tmp_path, range(0, 20, 10)), computed_on(torch.device("cpu"))
    shards.save(0, npy(np.ones((10, 1))), here)
    with pytest.raises(InputError, match="a cluster needs nodes of one kind; remove the folder to start afresh"):
        shards.save(10, npy(np.ones((10, 1))), here | {"name": "another"})
    shards.save(10, npy(np.ones((10, 1))), here)
    assert (shards.missing, shards.computed_on) == ([], here)


def test_work_begun_on_another_kind_of_machine_is_not_gone_on_with(audit, monkeypatch):
    """A run is killed after its first shard, and resumed elsewhere: every shard is scored there."""
    done = []

    def stop_after_the_first(self: Shards, start: int, scores: bytes, place: dict[str, str]) -> None:
        save(self, start, scores, place)
        done.append(start)
        if len(done) == 1:
            raise KeyboardInterrupt

    save = Shards.save
    monkeypatch.setattr(Shards, "save", stop_after_the_first)
    with pytest.raises(KeyboardInterrupt):
        score(TARGET, "member")
    other = computed_on(best_device()) | {"name": "another"}
    monkeypatch.setattr("leakgauge.scoring.computed_on", lambda device: other)
    score(TARGET, "member")
    assert done == [0, 0, 50]
    assert read_metadata(Path(f"data/scores/{TARGET}/member.parquet"))["computed_on"] == other


def test_a_batch_is_a_power_of_two_that_fits_and_never_more_than_a_shard(audit, monkeypatch):
    here = scorer()
    image = here.read(0, 1)
    target = here.denoiser.with_condition(image.conditioning)
    needed = module._activations(target, image.pixels)
    for images in (1, 3, 8, 100):
        monkeypatch.setattr(module, "CPU_BYTES", needed * images)
        assert fitting_batch(target, image.pixels, 64) == min(2 ** int(np.log2(images)), 64)
    monkeypatch.setattr(module, "CPU_BYTES", 1)
    assert fitting_batch(target, image.pixels, 64) == 1


def test_where_memory_runs_out_the_batch_is_halved_with_a_warning_and_nothing_is_lost(audit, monkeypatch, capsys):
    here = scorer(shard=50, batch_size=50)
    expected, score_batch = here.score(here.read(0)), module.score_batch

    def cramped(target, x0, ids, attacks):
        if len(ids) > 15:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return score_batch(target, x0, ids, attacks)

    monkeypatch.setattr(module, "score_batch", cramped)
    np.testing.assert_allclose(here.score(here.read(0)), expected, rtol=2e-4)
    assert here.batch_size == 12
    assert capsys.readouterr().err.count("warning") == 2


def test_where_not_even_one_image_fits_it_says_so(audit, monkeypatch):
    def full(*args: object) -> None:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    monkeypatch.setattr(module, "score_batch", full)
    here = scorer(shard=4, batch_size=4)
    with pytest.raises(MemoryError, match="out of memory at batch size 1"):
        here.score(here.read(0))


def test_another_error_is_no_lack_of_memory(audit, monkeypatch):
    def broken(*args: object) -> None:
        raise RuntimeError("shapes cannot be multiplied")

    monkeypatch.setattr(module, "score_batch", broken)
    here = scorer()
    with pytest.raises(RuntimeError, match="multiplied"):
        here.score(here.read(0))


CRAMPED = """
import resource, sys, torch
from pathlib import Path
from leakgauge.attacks.scorer import Job, Scorer
from leakgauge.config import section
from leakgauge.options import Score

torch.set_num_threads(1)
given = section("score", Score, "digits_ddpm").model_dump()
given["attacks"] |= {"t_error": {"interval": 10, "last": 0}, "pia": [], "pian": [], "naive_loss": [], "sima": []}
options = Score.model_validate(given | {"shard": 8400, "batch_size": 8400})
here = Scorer(Job("digits_ddpm", Path("target"), Path("many.parquet"), options), torch.device("cpu"))
shard = here.read(0)
here.score(shard[:2])
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 100 * 2**20, resource.RLIM_INFINITY))
scores = here.score(shard)
print(len(scores), here.batch_size)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space")
def test_a_process_that_really_has_too_little_memory_goes_on_with_smaller_batches(audit, tmp_path):
    images = read_table(Path(f"data/roles/{TARGET}/holdout.parquet"))
    write_table(Path("many.parquet"), pa.concat_tables([images] * 56), {})  # 8400 images
    Path("target").symlink_to(Path(f"models/target/{TARGET}").absolute())
    done = subprocess.run(
        [sys.executable, "-c", CRAMPED], env={"PYTHONPATH": str(REPOSITORY)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    count, size = map(int, done.stdout.split())
    assert count == 8400
    assert size < 8400
    assert "do not fit the memory" in done.stderr


def test_the_backend_is_no_part_of_what_scores_are(audit):
    """DVC does not watch it, and unfinished work of one backend is gone on with by the other."""
    watched = Path(f"data/config/{TARGET}/score.json")
    before = watched.read_bytes()
    params = tiny_params()
    params["score"]["backend"] = "ray"
    write_params(params)
    assert watched.read_bytes() == before
    assert score_options(TARGET).backend == "ray"
    definition = (REPOSITORY / "dvc.yaml").read_text().split("  score:\n    desc")[1].split("  fit:")[0]
    assert "score.json" in definition
    assert "params:" not in definition


def test_a_target_may_have_a_backend_of_its_own(audit):
    params = tiny_params()
    params["targets"][TARGET]["score"] = {"backend": "ray"}
    write_params(params)
    assert score_options(TARGET).backend == "ray"
    assert "backend" not in json.loads(Path(f"data/config/{TARGET}/score.json").read_text())


def test_what_cannot_be_computed_at_all_is_no_lack_of_memory():
    assert out_of_memory(RuntimeError("could not create a primitive"))
    assert not out_of_memory(RuntimeError("could not create a primitive descriptor for a convolution"))


def test_a_damaged_table_of_images_is_named(audit, refusal):
    path = Path(f"data/roles/{TARGET}/holdout.parquet")
    path.write_bytes(path.read_bytes()[:-100])
    assert refusal(score, target=TARGET, role="holdout").startswith(
        "stages.score: data/roles/digits_ddpm/holdout.parquet: not a readable Parquet"
    )
