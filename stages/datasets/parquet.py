"""Parquet in the Hub's layout, one row an image: a file, a folder of files, or files on the Hub.

Columns: `image` (or `img`), a struct of encoded `bytes` (PNG, JPEG, whatever Pillow reads) and optionally `path`;
optionally `image_id` (strings or integers; without it the row's number, counted over all files), `label` (integers) and
`caption` (or `text`; strings).
Others are not looked at.
"""

import io
import os
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal, Self

import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image
from pydantic import model_validator

from stages.command import InputError
from stages.datasets.frame import Entry
from stages.datasets.hub import Hub, fetch, verify
from stages.datasets.images import Images, decode, gather
from stages.tables import image_ids, read_parquet

IMAGE = ("image", "img")
CAPTION = ("caption", "text")


class ParquetEntry(Entry):
    """An entry of the `datasets` registry.

    path : a file or a folder; with `hub` stages/datasets/hub.py.
    files : the pattern of the files' paths below the folder, or in the repository, where `*` matches `/` too.
    """

    source: Literal["parquet"]
    files: str = "*.parquet"
    hub: Hub | None = None

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if self.hub and Path(self.path).suffix != ".py":
            raise ValueError(f"path and hub name two places: keep {self.path}, or path: stages/datasets/hub.py")
        return self


def read(entry: ParquetEntry) -> Images:
    """The images in the order of the files' paths and their rows.

    Raises InputError naming the file and the column or image at fault.
    """
    files = _files(entry)
    place = Path(os.path.commonpath(files))
    table = _table(place, files)
    ids = image_ids(place, table) if "image_id" in table.column_names else [str(row) for row in range(table.num_rows)]
    files_of = table.column("file").to_pylist()

    def name(number: int) -> str:
        return f"{files_of[number]}: image '{ids[number]}'"

    pixels = gather(_pictures(table, name), len(ids), entry, name)
    captions = table.column("caption").to_pylist() if "caption" in table.column_names else None
    return Images(ids, pixels, table.column("label").to_pylist(), table.column("path").to_pylist(), captions)


def _files(entry: ParquetEntry) -> list[Path]:
    """The file itself, or those of the folder or the repository, sorted.  Raises InputError where there are none."""
    place = fetch(entry.hub, entry.files) if entry.hub else Path(entry.path)
    if not entry.hub and not place.is_dir():
        return [place]
    within = {file.relative_to(place).as_posix(): file for file in sorted(place.rglob("*"))}
    files = [file for name, file in within.items() if fnmatchcase(name, entry.files)]
    if not files:
        raise InputError(f"{place}: no files match '{entry.files}' (`files` in the dataset's entry of params.yaml)")
    if entry.hub:
        for file in files:
            verify(file)
    return files


def _table(place: Path, files: list[Path]) -> pa.Table:
    """The rows of all files.  Raises InputError where there are none, or where only some files have `image_id`."""
    tables = [_rows(file) for file in files]
    for column in ("image_id", "caption"):
        having = [column in table.column_names for table in tables]
        if len(set(having)) > 1:
            raise InputError(f"{files[having.index(False)]}: no column '{column}', which other files beside it have")
    table = pa.concat_tables(tables)
    if not table.num_rows:
        raise InputError(f"{place}: has no rows")
    return table


def _rows(file: Path) -> pa.Table:
    """A file's rows: `file`, `bytes`, `path`, `label` and, if it has them, `image_id`.  Raises InputError."""
    table = read_parquet(file)
    name = next((name for name in IMAGE if name in table.column_names), None)
    if name is None:
        raise InputError(f"{file}: no column 'image' or 'img' (there is {', '.join(table.column_names) or 'nothing'})")
    column = table.column(name)
    if not pa.types.is_struct(column.type) or column.type.get_field_index("bytes") < 0:
        raise InputError(f"{file}: column '{name}' is {column.type}: needs a struct of bytes and path")
    encoded = pc.struct_field(column, "bytes")
    if not (pa.types.is_binary(encoded.type) or pa.types.is_large_binary(encoded.type)):
        raise InputError(f"{file}: column '{name}' has bytes of type {encoded.type}: needs encoded images")
    has_paths = column.type.get_field_index("path") >= 0
    missing = pa.nulls(table.num_rows, pa.string())
    rows = {
        "file": pa.repeat(str(file), table.num_rows).dictionary_encode(),
        "bytes": encoded.cast(pa.large_binary()),
        "path": pc.struct_field(column, "path").cast(pa.string()) if has_paths else missing,
        "label": _labels(file, table),
    }
    ids = {"image_id": image_ids(file, table)} if "image_id" in table.column_names else {}
    return pa.table(rows | ids | _captions(file, table))


def _captions(file: Path, table: pa.Table) -> dict[str, pa.ChunkedArray]:
    name = next((name for name in CAPTION if name in table.column_names), None)
    if name is None:
        return {}
    column = table.column(name)
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        raise InputError(f"{file}: column '{name}' is {column.type}: needs strings")
    return {"caption": column.cast(pa.string())}


def _labels(file: Path, table: pa.Table) -> pa.ChunkedArray | pa.Array:
    if "label" not in table.column_names:
        return pa.nulls(table.num_rows, pa.int64())
    labels = table.column("label")
    if not pa.types.is_integer(labels.type):
        raise InputError(f"{file}: column 'label' is {labels.type}: needs integers")
    return labels.cast(pa.int64())


def _pictures(table: pa.Table, name: Callable[[int], str]) -> Iterator[Image.Image]:
    for number, data in enumerate(table.column("bytes")):
        if not data.as_py():
            raise InputError(f"{name(number)}: has no bytes: the file must hold the images, not only their paths")
        yield decode(io.BytesIO(data.as_py()), name(number))
