"""Tables in pieces: the same bytes however they are cut, and no more read than is asked for."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from leakgauge.errors import InputError
from leakgauge.tables import ROW_GROUP, list_column, read_groups, read_table, write_pieces, write_table

ROWS = 2 * ROW_GROUP + 100


@pytest.fixture
def table() -> pa.Table:
    """Of three row groups, with columns that are paged (long) and coded (few values)."""
    rng = np.random.default_rng(0)
    return pa.table(
        {
            "image_id": [f"image-{row}" for row in range(ROWS)],
            "role": rng.choice(["member", "holdout"], ROWS),
            "bytes": [rng.bytes(600) for _ in range(ROWS)],
            "z": list_column(rng.normal(size=(ROWS, 5))),
            "label": pa.array(np.where(np.arange(ROWS) % 7, np.arange(ROWS) % 10, None), pa.int64()),
        }
    )


@pytest.mark.parametrize("cuts", [[], [1], [ROW_GROUP], [ROW_GROUP, 2 * ROW_GROUP], [0, 5, 5, 4000, 9000, ROWS]])
def test_the_same_rows_give_the_same_bytes_however_they_are_cut(cuts, table, tmp_path):
    write_table(tmp_path / "whole", table, {"a": 1})
    pieces = [table.slice(start, end - start) for start, end in zip([0, *cuts], [*cuts, ROWS], strict=True)]
    write_pieces(tmp_path / "pieces", iter(pieces), {"a": 1})
    write_table(tmp_path / "chunks", pa.concat_tables(pieces), {"a": 1})
    assert (tmp_path / "pieces").read_bytes() == (tmp_path / "whole").read_bytes()
    assert (tmp_path / "chunks").read_bytes() == (tmp_path / "whole").read_bytes()


def test_row_groups_that_come_out_even_have_no_empty_one_behind_them(table, tmp_path):
    write_table(tmp_path / "table", table.slice(0, 2 * ROW_GROUP), {})
    found = pq.read_metadata(tmp_path / "table")
    assert [found.row_group(group).num_rows for group in range(found.num_row_groups)] == [ROW_GROUP, ROW_GROUP]


def test_a_table_without_rows_keeps_its_columns(table, tmp_path):
    write_pieces(tmp_path / "empty", [table.slice(0, 0), table.slice(0, 0)], {})
    assert read_table(tmp_path / "empty").schema.equals(table.schema)


def test_a_table_that_breaks_off_leaves_what_was_there(table, tmp_path):
    write_table(tmp_path / "table", table.slice(3), {})
    before = (tmp_path / "table").read_bytes()

    def pieces():
        yield table
        raise InputError("the second piece")

    with pytest.raises(InputError, match="the second piece"):
        write_pieces(tmp_path / "table", pieces(), {})
    assert (tmp_path / "table").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["table"]


def test_a_damaged_row_group_is_named(table, tmp_path):
    path = tmp_path / "table"
    write_table(path, table, {})
    damaged = bytearray(path.read_bytes())
    damaged[4:5000] = bytes(4996)
    path.write_bytes(damaged)
    with pytest.raises(InputError, match="table: not a readable Parquet file"):
        list(read_groups(path, ["image_id"]))
