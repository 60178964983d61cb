"""A table whose bytes have changed is refused, wherever in its rows that happened."""

import struct

import numpy as np
import pyarrow as pa
import pytest

from leakgauge.errors import InputError
from leakgauge.tables import read_table, write_table


@pytest.mark.parametrize("flipped", [0x01, 0xFF], ids=["a bit", "a byte"])
def test_a_change_anywhere_in_the_rows_is_noticed(flipped, tmp_path):
    path, rng = tmp_path / "table.parquet", np.random.default_rng(0)
    table = pa.table({"image_id": [f"{i}" for i in range(100)], "loss": rng.random(100), "role": ["a", "b"] * 50})
    write_table(path, table, {})
    whole, written = path.read_bytes(), read_table(path)
    footer = len(whole) - 8 - struct.unpack("<I", whole[-8:-4])[0]
    refused = 0
    for place in range(footer):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ flipped]) + whole[place + 1 :])
        try:
            assert read_table(path).equals(written), place  # what changed was no row's
        except InputError:
            refused += 1
    assert refused > 0.9 * footer
