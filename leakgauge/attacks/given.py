"""Where scores go, and scores from elsewhere, which are taken as they are; without torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from leakgauge.attacks.columns import NETWORK_COLUMNS, Columns
from leakgauge.errors import InputError
from leakgauge.files import file_hash
from leakgauge.tables import read_table, write_table


@dataclass(frozen=True)
class Outputs:
    """Where scores go."""

    scores: Path  # a table, a column a score
    null: Path  # a table of the images that were also scored under untrained networks: network_0, ..., perhaps base
    facts: dict[str, Any]  # for the metadata of both


def take_scores(given: Path, images: Path, ids: list[str], out: Outputs) -> None:
    """Write the rows of a file of scores, for the images of a table and in their order; of the networks no row.

    ids : the images' names in the file.  Raises InputError where one has no row.
    """
    table, own = read_table(given), read_table(images, ["image_id"])
    rows = pc.index_in(pa.array(ids, pa.string()), value_set=table.column("image_id").combine_chunks())
    if rows.null_count:
        first = ids[pc.index(rows.is_null(), True).as_py()]
        raise InputError(
            f"{given}: has no scores of {rows.null_count} images of {images}, the first is '{first}': score them too"
        )
    columns: Columns = {name: {"definition": "as given", "network_calls": 0} for name in table.column_names[1:]}
    # new suspects do not make it another target
    facts = {**out.facts, "target_sha256": file_hash(given.with_name("scores.parquet")), "columns": columns}
    facts |= {"precision": None, "moved_by_precision": 0.0, "conditioned_on": None, "computed_on": None}
    null = pa.table({"image_id": pa.array([], pa.string()), **dict.fromkeys(NETWORK_COLUMNS, np.empty(0))})
    write_table(out.null, null, facts)
    write_table(out.scores, table.take(rows).set_column(0, "image_id", own.column("image_id")), facts)
