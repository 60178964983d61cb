"""Parquet files with images, of this machine or of a dataset on the Hugging Face Hub.

Parquet in the Hub's layout, one row an image: a file, a folder of files, or files on the Hub.

Columns: `image` (or `img`), a struct of encoded `bytes` (PNG, JPEG, whatever Pillow reads) and optionally `path`;
optionally `image_id` (strings or integers; without it the row's number, counted over all files), `label` (integers)
and `caption` (or `text`; strings). Others are not taken, and listed. Images are read in batches, so that row groups
may be of any size.
"""

import io
import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Literal, Self, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError
from PIL import Image
from pydantic import StringConstraints, model_validator

from leakgauge.datasets.folder import Found, walk
from leakgauge.datasets.images import CAPTION, Entry, Images, collate, decode, listed
from leakgauge.errors import InputError
from leakgauge.files import file_hash
from leakgauge.options import Options
from leakgauge.tables import image_ids, read_batches, read_schema

SHA256_DIGITS = 64


class Hub(Options):
    """A dataset repository, `owner/name`, and one of its commits, 40 hex digits: a branch or tag could move."""

    repo: str
    revision: Annotated[str, StringConstraints(pattern="^[0-9a-f]{40}$")]


def fetch(hub: Hub, files: str) -> Path:
    """A folder with the files whose paths match the pattern, among others; downloaded unless they are there.

    Raises InputError where the Hub cannot be reached or has no such repository or commit, saying what to do.
    """
    try:
        folder = snapshot_download(hub.repo, repo_type="dataset", revision=hub.revision, allow_patterns=files)
    except (HfHubHTTPError, HFValidationError, HTTPError, OSError) as error:
        raise InputError(
            f"dataset {hub.repo} at {hub.revision}: the Hub does not deliver it: download {files} elsewhere, give its "
            f"folder as `path` and leave `hub` out ({type(error).__name__}: {error})"
        ) from None
    return Path(folder)


def verify(file: Path) -> None:
    """Compare a fetched file with its SHA-256, which the Hub client's cache names large files by.

    Small files that git itself keeps are named by their git hash, and not compared.  Raises InputError.
    """
    stored = file.resolve()
    if len(stored.name) == SHA256_DIGITS and file_hash(stored) != stored.name:
        raise InputError(f"{file}: its sha256 is not {stored.name}: it is damaged, remove {stored}")


IMAGE = ("image", "img")
Column: TypeAlias = pa.Array | pa.ChunkedArray
FEW, MANY = 16, 2**16  # rows at a time, with their images' bytes and without: far below Arrow's limit of 2 GiB


class ParquetEntry(Entry):
    """An entry of the `datasets` registry.

    path : a file or a folder; with `hub` leakgauge/datasets/parquet.py.
    files : the pattern of the files' paths below the folder, or in the repository, where `*` matches `/` too.
    """

    source: Literal["parquet"]
    files: str = "*.parquet"
    hub: Hub | None = None

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if self.hub and Path(self.path).suffix != ".py":
            raise ValueError(f"path and hub name two places: keep {self.path}, or path: leakgauge/datasets/parquet.py")
        return self


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


def read(entry: ParquetEntry) -> Images:
    """The images in the order of the files' paths and their rows.

    Raises InputError naming the file and the column or image at fault.
    """
    files, notes = _files(entry)
    place = Path(os.path.commonpath(files))
    by = None if entry.unit and "(" in entry.unit else entry.unit
    columns = [_columns(file, by) for file in files]
    table = _table(place, files, columns)
    ids = image_ids(place, table) if "image_id" in table.column_names else [str(row) for row in range(table.num_rows)]
    files_of = table.column("file").to_pylist()

    def name(number: int) -> str:
        return f"{files_of[number]}: image '{ids[number]}'"

    encoded = itertools.chain.from_iterable(itertools.starmap(_encoded, zip(files, columns, strict=True)))
    pixels, odd = collate(_pictures(encoded, len(ids), place, name), len(ids), entry, name)
    captions = table.column("caption").to_pylist() if "caption" in table.column_names else None
    notes += listed("columns", sorted({other for file in columns for other in file.others}))
    labels, paths = (table.column(name).to_pylist() for name in ("label", "path"))
    units = table.column("unit").to_pylist() if by else None
    return Images(ids, pixels, labels, paths, captions, notes=notes + odd, units=units)


def _files(entry: ParquetEntry) -> tuple[list[Path], list[str]]:
    """The file itself, or those of the folder or the repository, sorted; and notes on those that were left out.

    Raises InputError where there are none.  Of a repository only the files asked for are fetched: nothing is left out.
    """
    place = fetch(entry.hub, entry.files) if entry.hub else Path(entry.path)
    if not entry.hub and not place.is_dir():
        return [place], []
    found = walk(place) if place.is_dir() else Found()  # of a repository without such files nothing is fetched
    within = {file.relative_to(place).as_posix(): file for file in found.files}
    files = [file for name, file in within.items() if fnmatchcase(name, entry.files)]
    if not files:
        raise InputError(f"{place}: no files match '{entry.files}' (`files` in the dataset's entry of params.yaml)")
    if entry.hub:
        for file in files:
            verify(file)
        return files, []
    return files, found.notes + listed("other files", [name for name, file in within.items() if file not in files])


def _columns(file: Path, unit: str | None) -> Columns:
    """What a file's schema has for an image.  unit : the column that names its unit, if any.  Raises InputError."""
    schema = read_schema(file)
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


def _table(place: Path, files: list[Path], columns: list[Columns]) -> pa.Table:
    """All that is known of the rows of all files but their images' bytes: `file`, `path`, `label` and, if they have
    them, `image_id` and `caption`.

    Raises InputError where there are no rows, or where only some files have a column.
    """
    tables = [_rows(file, of) for file, of in zip(files, columns, strict=True)]
    for column in ("image_id", "caption"):
        having = [column in table.column_names for table in tables]
        if len(set(having)) > 1:
            raise InputError(f"{files[having.index(False)]}: no column '{column}', which other files beside it have")
    table = pa.concat_tables(tables)
    if not table.num_rows:
        raise InputError(f"{place}: has no rows")
    return table


def _rows(file: Path, of: Columns) -> pa.Table:
    """A file's rows without the bytes.  Raises InputError."""
    wanted = [of.image_id, of.label, of.caption, of.unit, f"{of.image}.path" if of.has_path else f"{of.image}.bytes"]
    some = MANY if of.has_path else FEW
    pieces = [_row_piece(file, of, piece) for piece in read_batches(file, [name for name in wanted if name], some)]
    return pa.concat_tables(pieces) if pieces else _row_piece(file, of, read_schema(file).empty_table())


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


def _encoded(file: Path, of: Columns) -> Iterator[bytes | None]:
    """The bytes of each image of a file.  Raises InputError."""
    for table in read_batches(file, [f"{of.image}.bytes"], FEW):
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
