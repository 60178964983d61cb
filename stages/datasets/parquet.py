"""A Parquet file in the Hub's layout, one row an image: 8-bit grey or RGB, all of one size.

Columns: `image`, a struct of encoded `bytes` (PNG, JPEG, whatever Pillow reads) and optionally `path`; optionally
`image_id` (strings or integers; without it the row's number) and `label` (integers).  Others are not looked at.
"""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tqdm import tqdm

from stages.command import InputError
from stages.datasets.images import Images, decode, stack
from stages.tables import image_ids, read_parquet


def read(path: Path) -> Images:
    """The images in the file's order.  Raises InputError naming the file and the column or image at fault."""
    table = read_parquet(path)
    if "image" not in table.column_names:
        raise InputError(f"{path}: no column 'image' (there is {', '.join(table.column_names) or 'nothing'})")
    if not table.num_rows:
        raise InputError(f"{path}: has no rows")
    column = table.column("image")
    if not pa.types.is_struct(column.type) or column.type.get_field_index("bytes") < 0:
        raise InputError(f"{path}: column 'image' is {column.type}: needs a struct of bytes and path")
    numbers = [str(row) for row in range(table.num_rows)]
    ids = image_ids(path, table) if "image_id" in table.column_names else numbers
    pixels = _decode_all(path, ids, pc.struct_field(column, "bytes").to_pylist())
    has_paths = column.type.get_field_index("path") >= 0
    paths = pc.struct_field(column, "path").to_pylist() if has_paths else [None] * len(ids)
    return Images(ids, pixels, _labels(path, table), paths)


def _decode_all(path: Path, ids: list[str], encoded: list[bytes | None]) -> np.ndarray:
    """(N, H, W, C) uint8."""

    def name(number: int) -> str:
        return f"{path}: image '{ids[number]}'"

    images = []
    for number, data in enumerate(tqdm(encoded, desc="read images", unit="image", disable=None)):
        if not isinstance(data, bytes) or not data:
            raise InputError(f"{name(number)}: has no bytes: the file must hold the images, not only their paths")
        images.append(decode(io.BytesIO(data), name(number)))
    return stack(images, name)


def _labels(path: Path, table: pa.Table) -> list[int | None]:
    if "label" not in table.column_names:
        return [None] * table.num_rows
    labels = table.column("label")
    if not pa.types.is_integer(labels.type):
        raise InputError(f"{path}: column 'label' is {labels.type}: needs integers")
    return labels.to_pylist()
