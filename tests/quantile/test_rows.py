"""Rows in a file: the same values as in memory, mapped and not copied."""

import resource
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from conftest import tiny_params
from numpy.lib import format as npy

from leakgauge.compute import spread
from leakgauge.errors import InputError
from leakgauge.quantile import inputs as inputs_module
from leakgauge.quantile.bag import Learner, attacker_class
from leakgauge.quantile.base import Resample
from leakgauge.quantile.inputs import PART, Inputs, TrainingSet, read_base, read_inputs, write_rows
from leakgauge.tables import decode_images, image_table, read_features, read_table, write_table

TARGET = "digits_ddpm"
ROLE, FEATURES, SCORES = (
    Path(f"data/{folder}/{TARGET}/auxiliary.parquet") for folder in ("roles", "features", "scores")
)

NUMBERS = np.arange(10)[:, None]


@pytest.mark.parametrize("shape", [(50, 3, 4, 5), (50, 7)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_rows_of_a_file_are_those_of_the_array(shape, dtype, tmp_path):
    values = np.random.default_rng(0).integers(0, 200, shape).astype(dtype)
    rows = write_rows(tmp_path / "rows.npy", len(values), (values[start : start + 20] for start in range(0, 50, 20)))
    assert (rows.shape, rows.dtype, len(rows)) == (values.shape, values.dtype, 50)
    for wanted in (slice(None), slice(40, 60), np.array([3, 3, 49, 0]), values.reshape(50, -1)[:, 0] > 90, slice(0, 0)):
        np.testing.assert_array_equal(rows[wanted], values[wanted])
    np.testing.assert_array_equal(np.load(tmp_path / "rows.npy"), values)


def test_what_was_written_before_is_not_written_again(tmp_path):
    def never():
        raise AssertionError
        yield

    write_rows(tmp_path / "rows.npy", 2, [NUMBERS[:2]])
    np.testing.assert_array_equal(write_rows(tmp_path / "rows.npy", 2, never())[:], NUMBERS[:2])


def test_a_write_that_was_killed_leaves_nothing_that_passes_for_the_whole(tmp_path):
    def killed():
        yield NUMBERS[:3]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_rows(tmp_path / "rows.npy", 6, killed())
    np.testing.assert_array_equal(write_rows(tmp_path / "rows.npy", 6, [NUMBERS[:6]])[:], NUMBERS[:6])


@pytest.mark.parametrize("left", [0, 4, 50, 200])
def test_a_torn_file_is_refused(left, tmp_path):
    path = tmp_path / "rows.npy"
    write_rows(path, 10, [NUMBERS])  # a header of 128 bytes and 80 of values
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(InputError, match=rf"^{path}: .+: delete it and run again$"):
        write_rows(path, 10, [NUMBERS])


def test_a_disk_that_takes_no_more_is_an_error_and_leaves_nothing(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, hard))  # the kernel refuses what goes beyond
    try:
        with pytest.raises(OSError, match="File too large"):
            write_rows(tmp_path / "rows.npy", 10, [NUMBERS])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())


def mapped_file(rows: np.ndarray) -> tuple[str, float]:
    """In a worker: the file that an array is mapped from, and what the array adds up to."""
    return str(rows.filename), float(rows.sum())


def test_workers_map_the_file_anew_and_get_no_copy(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    values = np.random.default_rng(0).integers(0, 100, (500, 300)).astype(np.float32)
    rows = write_rows(Path("rows.npy"), 500, [values])
    answers = spread(mapped_file, [(rows,), (rows[100:],), (rows[::3],)], "map")
    assert answers == [(str(tmp_path / "rows.npy"), values[part].sum()) for part in np.s_[:, 100:, ::3]]


def private() -> int:
    """Bytes of this process's own memory: pages of mapped files, which the system may take back, do not count."""
    return 1024 * int(Path("/proc/self/status").read_text().split("RssAnon:")[1].split()[0])


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's account of memory")
def test_rows_that_were_read_do_not_stay_in_memory(tmp_path):
    path, shape = tmp_path / "rows.npy", (60_000, 4096)
    with path.open("wb") as file:
        npy.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        file.truncate(file.tell() + shape[0] * shape[1])  # zeros that take no room on the disk
    rows = write_rows(path, shape[0], [])
    rows[:PART]
    before = private()
    for start in range(0, len(rows), PART):
        assert not rows[start : start + PART].any()
    assert private() - before < 2 * PART * shape[1], "235 MiB were read"


def test_inputs_in_files_are_those_in_memory(audit, tmp_path):
    inputs = read_inputs(ROLE, FEATURES, SCORES, ["t_error_t10"], needs_pixels=True, folder=tmp_path)
    np.testing.assert_array_equal(inputs.images[:], decode_images(read_table(ROLE)))
    np.testing.assert_array_equal(inputs.features[:], read_features(FEATURES)[1])


def test_several_row_groups_of_images_are_decoded_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr(inputs_module, "DECODED", 7)
    pixels = np.random.default_rng(0).integers(0, 256, (5000, 2, 2, 3), dtype=np.uint8)  # a row group has 4096
    names = [str(row) for row in range(5000)]
    images, features = tmp_path / "images.parquet", tmp_path / "features.parquet"
    write_table(images, image_table(names, pixels, [None] * 5000, [None] * 5000), {})
    table = read_table(images, ["image_id"]).append_column("mean", [pixels.mean((1, 2, 3)).astype(np.float32)])
    write_table(features, table, {})
    write_table(tmp_path / "scores", table.select(["image_id"]), {})
    inputs = read_inputs(images, features, tmp_path / "scores", ["t_error_t10"], needs_pixels=True, folder=tmp_path)
    np.testing.assert_array_equal(inputs.images[:], pixels.transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(inputs.features[:], table.column("mean").to_numpy()[:, None])


@pytest.mark.parametrize("kind", ["marginal", "gbm", "mlp", "resnet"])
def test_images_are_decoded_for_who_looks_at_them_alone(kind, audit, tmp_path, monkeypatch):
    def refuse(table):
        raise AssertionError("decoded")

    monkeypatch.setattr(inputs_module, "decode_images", refuse)
    needs_pixels = attacker_class(kind).needs_pixels
    if kind == "resnet":
        with pytest.raises(AssertionError, match="decoded"):
            read_inputs(ROLE, FEATURES, SCORES, ["t_error_t10"], needs_pixels, tmp_path)
    else:
        assert read_inputs(ROLE, FEATURES, SCORES, ["t_error_t10"], needs_pixels, tmp_path).images.size == 0


@pytest.mark.parametrize("kind", ["gbm", "mlp", "resnet"])
def test_learners_learn_the_same_from_files(kind, audit, tmp_path):
    options = Learner.model_validate(tiny_params()["learners"][kind]).root
    in_files = read_inputs(ROLE, FEATURES, SCORES, ["t_error_t10"], needs_pixels=True, folder=tmp_path)
    in_memory = Inputs(in_files.images[:], in_files.features[:])
    scores = in_memory.features[:, :2].astype(float)
    everyone = Resample(np.arange(len(scores)), np.zeros(len(scores), dtype=bool))
    said = [
        attacker_class(kind).fit(TrainingSet(inputs, scores, everyone), options, 0).predict(inputs).quantiles()
        for inputs in (in_files, in_memory)
    ]
    np.testing.assert_array_equal(*said)


def test_scores_under_a_base_are_all_of_them_and_the_own_of_those_learnt_in_their_order(tmp_path):
    drawn = np.random.default_rng(0).uniform(1, 2, (3, 4))
    names = ["a", "b", "a_base", "b_base"]
    table = {
        "image_id": ["x", "y", "z"],
        **dict(zip(names, drawn.T, strict=True)),
        "a_ratio": drawn[:, 0] / drawn[:, 2],
    }
    write_table(tmp_path / "scores", pa.table(table), {})
    under, own = read_base(tmp_path / "scores", ["b", "a_ratio", "a"])
    np.testing.assert_array_equal(under, np.log(drawn[:, 2:]).astype(np.float32))
    expected = np.stack([np.log(drawn[:, 3]), np.zeros(3), np.log(drawn[:, 2])], axis=1)
    np.testing.assert_array_equal(own, expected)
    write_table(tmp_path / "alone", pa.table({"image_id": ["x"], "a": [1.0]}), {})
    assert read_base(tmp_path / "alone", ["a"]) == ()
