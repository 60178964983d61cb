"""A table of z-scores: neither the cut of its row groups nor the order of its rows and columns changes a figure."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import TINY_LEARNERS

from leakgauge.errors import InputError
from leakgauge.inference.z_scores import ZTable
from leakgauge.tables import list_column, read_metadata, read_table, write_table
from stages.evaluate import evaluate

TARGET, SCORE = "digits_ddpm", "t_error_t10"
COUNTS = {"member": 6, "auxiliary": 9, "holdout": 4}
PLOTS = [f"metrics/plots/{TARGET}/{name}.csv" for name in ("roc", "alpha", "bag_size", "conditional_fpr", "timestep")]
WRITTEN = (f"data/verdicts/{TARGET}.parquet", f"metrics/{TARGET}.json", f"metrics/details/{TARGET}.json", *PLOTS)


def written() -> list[bytes]:
    return [Path(path).read_bytes() for path in WRITTEN]


def of_learner(learner: str) -> Path:
    return Path(f"data/z/{TARGET}/{learner}.parquet")


@pytest.mark.parametrize("rows", [1, 7, 64])
def test_small_row_groups_give_the_same_bytes(rows, audit):
    before = written()
    for path in Path(f"data/z/{TARGET}").glob("*.parquet"):
        pq.write_table(pq.read_table(path), path, row_group_size=rows)
    evaluate(TARGET)
    assert written() == before


def interleaved(roles: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An order of rows in which roles alternate at random, each with its rows in the order that they had."""
    order = np.empty(len(roles), dtype=np.int64)
    shuffled = rng.permutation(roles)
    for role in np.unique(roles):
        order[shuffled == role] = np.flatnonzero(roles == role)
    return order


@pytest.mark.parametrize("order", ["by name", "backwards", "interleaved", "one learner otherwise"])
def test_roles_may_stand_in_any_order(order, audit):
    before = written()
    for number, learner in enumerate(TINY_LEARNERS):
        if order == "one learner otherwise" and learner != "gbm":  # of a stack with another
            continue
        table = read_table(of_learner(learner))
        roles = table.column("role").to_numpy()
        rank = {"by name": roles, "backwards": np.array([-[*COUNTS].index(role) for role in roles])}
        if order in rank:
            rows = np.argsort(rank[order], kind="stable")
        else:
            rows = interleaved(roles, np.random.default_rng(number))
        assert not np.array_equal(rows, np.arange(len(rows)))
        write_table(of_learner(learner), table.take(rows), read_metadata(of_learner(learner)))
    evaluate(TARGET)
    assert written() == before


def table_of(counts: dict[str, int]) -> pa.Table:
    """z-scores of three attackers that tell the role and the place of their image."""
    roles = np.repeat(list(counts), list(counts.values()))
    place = np.concatenate([np.arange(count) for count in counts.values()])
    value = 100.0 * np.array([[*COUNTS].index(role) for role in roles]) + place
    attacker = np.arange(3) / 10
    return pa.table(
        {
            "image_id": [f"{role}-{number}" for role, number in zip(roles, place, strict=True)],
            "role": roles.tolist(),
            "out_of_bag": list_column(((place[:, None] + np.arange(3)) % 2).astype(bool)),
            "calibrates": pa.array((roles == "auxiliary") & (place % 3 > 0)),
            "loss.z": list_column((value[:, None] + attacker).astype(np.float32)),
            "loss.log_scale": list_column((-value[:, None] - attacker).astype(np.float32)),
        }
    )


@pytest.mark.parametrize("seed", range(20))
def test_rows_go_with_their_roles_whatever_their_order(seed, tmp_path):
    rng, table = np.random.default_rng(seed), table_of(COUNTS)
    order = interleaved(table.column("role").to_numpy(), rng)
    if seed % 2:  # role after role
        ranks = dict(zip(rng.permutation([*COUNTS]), range(3), strict=True))
        order = np.argsort([ranks[role] for role in table.column("role").to_pylist()], kind="stable")
    columns = rng.permutation(table.column_names).tolist()
    write_table(tmp_path / "z", table.take(order).select(columns), {"bag": {"scores": ["loss"]}})
    found = ZTable.open(tmp_path / "z")
    z, log_scale = found.read("loss"), found.read("loss", "log_scale")
    for number, (role, count) in enumerate(COUNTS.items()):
        expected = 100 * number + np.arange(count)[:, None] + np.arange(3) / 10
        np.testing.assert_allclose(z[role], expected, rtol=1e-6)
        np.testing.assert_array_equal(log_scale[role], -z[role])
        assert found.ids[role].to_pylist() == [f"{role}-{place}" for place in range(count)]
    place = np.arange(COUNTS["auxiliary"])
    np.testing.assert_array_equal(found.out_of_bag, (place[:, None] + np.arange(3)) % 2 == 1)
    np.testing.assert_array_equal(found.calibrates, place % 3 > 0)


def test_a_role_without_images_has_no_rows(tmp_path):
    write_table(tmp_path / "z", table_of({"auxiliary": 9, "holdout": 4}), {"bag": {"scores": ["loss"]}})
    found = ZTable.open(tmp_path / "z")
    assert found.read("loss")["member"].shape == (0, 3)
    assert found.judge(found.read("loss")).membership_score["member"].shape == (0,)
    found.check_images("member", pa.chunked_array([[]], pa.string()), Path("none"))


def test_a_scale_that_attackers_do_not_predict_is_refused(audit):
    with pytest.raises(
        InputError, match=rf"resnet\.parquet: has no column {SCORE}\.log_scale: its attackers predict qua"
    ):
        ZTable.open(of_learner("resnet")).read(SCORE, "log_scale")


@pytest.mark.parametrize(("rows", "role"), [(slice(1, None), "member"), (slice(None, -1), "holdout")])
def test_z_scores_of_other_images_are_refused(rows, role, audit, refusal):
    path = of_learner("gbm")
    write_table(path, read_table(path)[rows], read_metadata(path))
    scores = f"data/scores/{TARGET}/{role}.parquet"
    assert f"{path}: its {role} image_ids do not match {scores}: run `dvc repro`" in refusal(evaluate, target=TARGET)
