"""What a bag says of images, read in pieces: neither their cut nor the order of the rows changes a figure."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import TINY_LEARNERS

from leakgauge.tables import read_metadata, read_table, write_table
from stages.evaluate import evaluate

TARGET = "digits_ddpm"
WRITTEN = (f"data/verdicts/{TARGET}.parquet", f"metrics/{TARGET}.json", f"metrics/plots/{TARGET}/bag_size.csv")


def written() -> list[bytes]:
    return [Path(path).read_bytes() for path in WRITTEN]


@pytest.mark.parametrize("rows", [1, 7, 64])
def test_small_row_groups_give_the_same_bytes(rows, audit):
    before = written()
    for path in [*Path(f"data/predictions/{TARGET}").glob("*.parquet"), Path(f"data/stacks/{TARGET}.parquet")]:
        pq.write_table(pq.read_table(path), path, row_group_size=rows)
    evaluate(TARGET)
    assert written() == before


def test_roles_may_stand_in_any_order(audit):
    before = written()
    for learner in TINY_LEARNERS:
        path = Path(f"data/predictions/{TARGET}/{learner}.parquet")
        table = read_table(path)
        order = np.argsort(table.column("role").to_numpy(), kind="stable")  # auxiliary, holdout, member
        write_table(path, table.take(order), read_metadata(path))
    evaluate(TARGET)
    assert written() == before


def test_predictions_for_other_images_are_refused(audit, refusal):
    path = Path(f"data/predictions/{TARGET}/gbm.parquet")
    write_table(path, read_table(path).slice(1), read_metadata(path))
    assert f"{path}: predicts for other member images than are scored" in refusal(evaluate, target=TARGET)
