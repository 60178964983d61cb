"""Tables of images in the layout of the Hugging Face Hub, one row an image, whatever the format of their files.

Columns: `image` (or `img`), a struct of encoded `bytes` (PNG, JPEG, whatever Pillow reads) and optionally `path`;
optionally `image_id` (strings or integers; without it the row's number, counted over all files), `label` (integers)
and `caption` (or `text`; strings). Others are not taken, and listed.
"""

import io
import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from leakgauge.datasets.images import CAPTION, Entry, Images, collate, decode, listed
from leakgauge.errors import InputError
from leakgauge.tables import image_ids

IMAGE = ("image", "img")
Column: TypeAlias = pa.Array | pa.ChunkedArray
FEW, MANY = 16, 2**16  # rows at a time, with their images' bytes and without: far below Arrow's limit of 2 GiB


@dataclass(frozen=True)
class Tables:
    """How files of one format are read; both raise InputError naming a missing or damaged file.

    schema : of a file.  batches : a file's rows, at most so many at a time, with the columns named or with more; a
        field of a struct is named `<struct>.<field>`.
    """

    schema: Callable[[Path], pa.Schema]
    batches: Callable[[Path, list[str], int], Iterator[pa.Table]]


@dataclass(frozen=True)
class Columns:
    """Which columns of a file are taken, by name.  image_id, label, caption, unit : None where none is."""

    image: str
    has_path: bool
    image_id: str | None
    label: str | None
    caption: str | None
    unit: str | None
    others: list[str]  # those not taken, and the other fields of the image's struct


def read_rows(files: list[Path], entry: Entry, notes: list[str], tables: Tables) -> Images:
    """The images in the order of the files and their rows.  notes : on what else there is.

    Raises InputError naming the file and the column or image at fault.
    """
    place = Path(os.path.commonpath(files))
    by = None if entry.unit and "(" in entry.unit else entry.unit
    columns = [_columns(file, tables.schema(file), by) for file in files]
    table = _table(place, files, columns, tables)
    ids = image_ids(place, table) if "image_id" in table.column_names else [str(row) for row in range(table.num_rows)]
    files_of = table.column("file").to_pylist()

    def name(number: int) -> str:
        return f"{files_of[number]}: image '{ids[number]}'"

    encoded = itertools.chain.from_iterable(_encoded(file, of, tables) for file, of in zip(files, columns, strict=True))
    pixels, odd = collate(_pictures(encoded, len(ids), place, name), len(ids), entry, name)
    captions = table.column("caption").to_pylist() if "caption" in table.column_names else None
    notes += listed("columns", sorted({other for file in columns for other in file.others}))
    labels, paths = (table.column(name).to_pylist() for name in ("label", "path"))
    units = table.column("unit").to_pylist() if by else None
    return Images(ids, pixels, labels, paths, captions, notes=notes + odd, units=units)


def _columns(file: Path, schema: pa.Schema, unit: str | None) -> Columns:
    """What a file's schema has for an image.  unit : the column that names its unit, if any.  Raises InputError."""
    names = schema.names
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(f"{file}: has column '{twice[0]}' twice")
    name = next((name for name in IMAGE if name in names), None)
    if name is None:
        raise InputError(f"{file}: no column 'image' or 'img' (there is {', '.join(names) or 'nothing'})")
    kind = schema.field(name).type
    if not pa.types.is_struct(kind) or kind.get_field_index("bytes") < 0:
        raise InputError(f"{file}: column '{name}' is {kind}: needs a struct of bytes and path")
    encoded = kind.field("bytes").type
    if not (pa.types.is_binary(encoded) or pa.types.is_large_binary(encoded)):
        raise InputError(f"{file}: column '{name}' has bytes of type {encoded}: needs encoded images")
    has_path = kind.get_field_index("path") >= 0
    caption = next((name for name in CAPTION if name in names), None)
    if unit and unit not in names:
        raise InputError(f"{file}: no column '{unit}', which the entry's `unit` names; there is {', '.join(names)}")
    taken = {name, "image_id", "label", caption, unit}
    fields = [f"{name}.{field.name}" for field in kind if field.name not in ("bytes", "path")]
    image_id, label = ("image_id" if "image_id" in names else None), ("label" if "label" in names else None)
    return Columns(
        name, has_path, image_id, label, caption, unit, [other for other in names if other not in taken] + fields
    )


def _table(place: Path, files: list[Path], columns: list[Columns], read: Tables) -> pa.Table:
    """All that is known of the rows of all files but their images' bytes: `file`, `path`, `label` and, if they have
    them, `image_id` and `caption`.

    Raises InputError where there are no rows, or where only some files have a column.
    """
    tables = [_rows(file, of, read) for file, of in zip(files, columns, strict=True)]
    for column in ("image_id", "caption"):
        having = [column in table.column_names for table in tables]
        if len(set(having)) > 1:
            raise InputError(f"{files[having.index(False)]}: no column '{column}', which other files beside it have")
    table = pa.concat_tables(tables)
    if not table.num_rows:
        raise InputError(f"{place}: has no rows")
    return table


def _rows(file: Path, of: Columns, tables: Tables) -> pa.Table:
    """A file's rows without the bytes.  Raises InputError."""
    wanted = [of.image_id, of.label, of.caption, of.unit, f"{of.image}.path" if of.has_path else f"{of.image}.bytes"]
    some = MANY if of.has_path else FEW
    pieces = [_row_piece(file, of, piece) for piece in tables.batches(file, [name for name in wanted if name], some)]
    return pa.concat_tables(pieces) if pieces else _row_piece(file, of, tables.schema(file).empty_table())


def _row_piece(file: Path, of: Columns, table: pa.Table) -> pa.Table:
    missing = pa.nulls(len(table))
    rows = {
        "file": pa.repeat(str(file), len(table)).dictionary_encode(),
        "path": pc.struct_field(table.column(of.image), "path") if of.has_path else missing,
        "label": table.column(of.label) if of.label else missing,
    }
    rows["path"] = _cast(file, f"{of.image}.path", rows["path"], pa.string())
    rows["label"] = _cast(file, "label", rows["label"], pa.int64())
    if of.image_id:
        rows["image_id"] = table.column(of.image_id)
    if of.caption:
        rows["caption"] = _cast(file, of.caption, table.column(of.caption), pa.string())
    if of.unit:
        rows["unit"] = _units(file, of.unit, table.column(of.unit))
    return pa.table(rows)


def _cast(file: Path, name: str, column: Column, kind: pa.DataType) -> Column:
    """A column of strings, or of integers, as `kind`.  Raises InputError for any other column, but one of nulls."""
    found = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    text = pa.types.is_string(kind)
    fits = pa.types.is_string(found) or pa.types.is_large_string(found) if text else pa.types.is_integer(found)
    if not (fits or pa.types.is_null(found)):
        raise InputError(f"{file}: column '{name}' is {column.type}: needs {'strings' if text else 'integers'}")
    try:
        return column.cast(kind)
    except pa.ArrowInvalid as error:  # an unsigned integer beyond int64
        raise InputError(f"{file}: column '{name}': {error}") from None


def _units(file: Path, name: str, column: Column) -> Column:
    """A column of strings or integers as strings.  Raises InputError for any other, and where a row has none."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    units = column.cast(kind) if pa.types.is_integer(kind) else _cast(file, name, column, pa.string())
    if units.null_count:
        raise InputError(f"{file}: column '{name}' is empty in {units.null_count} rows: every image needs its unit")
    return units.cast(pa.string())


def _encoded(file: Path, of: Columns, tables: Tables) -> Iterator[bytes | None]:
    """The bytes of each image of a file.  Raises InputError."""
    for table in tables.batches(file, [f"{of.image}.bytes"], FEW):
        for data in pc.struct_field(table.column(of.image), "bytes"):
            yield data.as_py()


def _pictures(
    encoded: Iterator[bytes | None], count: int, place: Path, name: Callable[[int], str]
) -> Iterator[Image.Image]:
    number = -1
    for number, data in enumerate(encoded):
        if number >= count:
            break
        if not data:
            raise InputError(f"{name(number)}: has no bytes: the file must hold the images, not only their paths")
        yield decode(io.BytesIO(data), name(number))
    if number + 1 != count:
        raise InputError(f"{place}: its columns have another number of rows than its images: it is damaged")
