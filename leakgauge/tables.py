"""Read and write Parquet: every table is written whole or not at all, and the same rows give the same bytes."""

import hashlib
import io
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from leakgauge.errors import InputError
from leakgauge.files import new_file

METADATA = b"leakgauge"
ROW_GROUP, ROW_GROUP_BYTES = 4096, 2**26  # at most so many are written, and can be read, without the others
ROLES = ("member", "auxiliary", "holdout")
BASE, RATIO = "_base", "_ratio"  # ends of a score column's name: the score under a base; the target's score by that
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
IMAGES = pa.schema(
    [
        ("image_id", pa.string()),
        ("image", IMAGE),  # PNG bytes: the layout that `datasets` and the Hub viewer read
        ("label", pa.int64()),
        ("sha256", pa.string()),  # of the decoded pixels
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("channels", pa.int32()),
    ]
)


def write_table(path: Path, table: pa.Table, metadata: dict[str, Any]) -> None:
    """Write `table` with `metadata` (JSON, in the file's schema) to `path`, atomically."""
    fit = ROW_GROUP_BYTES * table.num_rows // max(table.nbytes, 1)
    write_pieces(path, [table], metadata, min(max(fit, 1), ROW_GROUP))


def write_pieces(path: Path, pieces: Iterable[pa.Table], metadata: dict[str, Any], rows: int = ROW_GROUP) -> None:
    """The same of a table that comes in pieces, one at least, and is never whole in memory.  rows : of a group."""
    groups = _row_groups(pieces, rows)
    first = next(groups)
    schema = first.schema.with_metadata({METADATA: json.dumps(metadata).encode()})
    options = {"compression": "zstd", "write_page_checksum": True}
    with new_file(path) as stream, pq.ParquetWriter(stream, schema, **options) as writer:
        for group in itertools.chain([first], groups):
            writer.write_table(group.combine_chunks())  # pages, too, are cut alike


def _row_groups(pieces: Iterable[pa.Table], rows: int) -> Iterator[pa.Table]:
    """The same rows, so many at a time however they were cut; the last group has the rest."""
    waiting = None
    for piece in pieces:
        waiting = piece if waiting is None else pa.concat_tables([waiting, piece])
        while len(waiting) > rows:
            yield waiting.slice(0, rows)
            waiting = waiting.slice(rows)
    yield waiting


def read_table(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Read a table written by `write_table`.  Raises InputError naming a missing or damaged file."""
    if not path.exists():
        raise InputError(f"{path}: not found: run `dvc repro` to make it")
    return read_parquet(path, columns)


def read_parquet(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Read a Parquet file from any source.  Raises InputError naming a missing or damaged one."""
    if not path.is_file():
        raise InputError(f"{path}: not found, or not a file")
    with _parquet(path):
        # reading ahead, and on every core, takes memory and saves little time
        whole = {"use_threads": False, "pre_buffer": False, "page_checksum_verification": True}
        return pq.read_table(path, columns=columns, partitioning=None, **whole)


def read_batches(path: Path, columns: list[str], rows: int) -> Iterator[pa.Table]:
    """Read a Parquet file from any source, so many rows at a time, whatever the size of its row groups.

    columns : names; of a struct's field `<struct>.<field>`.  Raises InputError naming a missing or damaged file.
    """
    if not path.is_file():
        raise InputError(f"{path}: not found, or not a file")
    with _parquet(path), _open(path) as file:
        for batch in file.iter_batches(rows, columns=columns, use_threads=False):
            table = pa.Table.from_batches([batch])
            table.validate(full=True)
            yield table


def read_schema(path: Path) -> pa.Schema:
    """The schema of a Parquet file from any source.  Raises InputError naming a missing or damaged file."""
    if not path.is_file():
        raise InputError(f"{path}: not found, or not a file")
    with _parquet(path):
        return pq.read_schema(path)


def _open(path: Path) -> pq.ParquetFile:
    return pq.ParquetFile(path, page_checksum_verification=True)


@contextmanager
def _parquet(path: Path) -> Iterator[None]:
    """Raises InputError naming a missing or damaged file."""
    try:
        yield
    except FileNotFoundError:
        raise InputError(f"{path}: not found: run `dvc repro` to make it") from None
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a readable Parquet file: {error}") from None


class RowReader:
    """Rows of a table of this pipeline, a range at a time; no more than the row groups they are in come to memory."""

    def __init__(self, path: Path, columns: list[str]) -> None:
        self.path, self.columns = path, columns
        with _parquet(path):
            self.file = _open(path)
            groups = [self.file.metadata.row_group(i).num_rows for i in range(self.file.num_row_groups)]
        self.ends = np.cumsum(groups)  # (groups,)
        self.held: tuple[int, pa.Table] | None = None

    def __len__(self) -> int:
        return self.file.metadata.num_rows

    def rows(self, start: int, stop: int) -> pa.Table:
        """Rows start, ..., stop - 1.  Raises InputError naming a damaged file."""
        first, last = np.searchsorted(self.ends, [start, stop - 1], side="right")
        parts = [self._group(group) for group in range(first, last + 1)]
        before = self.ends[first] - len(parts[0])
        return pa.concat_tables(parts).slice(start - before, stop - start)

    def _group(self, group: int) -> pa.Table:
        if self.held is None or self.held[0] != group:
            with _parquet(self.path):
                self.held = group, self.file.read_row_group(group, self.columns, use_threads=False)
        return self.held[1]


def read_groups(path: Path, columns: list[str] | None = None) -> Iterator[pa.Table]:
    """The row groups of a table, one after the other.  Raises InputError naming a missing or damaged file."""
    with _parquet(path), _open(path) as file:
        for number in range(file.num_row_groups):
            yield file.read_row_group(number, columns, use_threads=False)


def column_names(path: Path) -> list[str]:
    """Those of a table.  Raises InputError naming a damaged file."""
    with _parquet(path):
        return pq.read_schema(path).names


def read_ids(path: Path) -> pa.ChunkedArray:
    """Column `image_id` of a table written by `write_table`.  Raises InputError."""
    return read_table(path, ["image_id"]).column("image_id").cast(pa.string())


def unit_names(path: Path) -> dict[str, str]:
    """image_id -> what is independent: the unit that the dataset names, else the image itself."""
    named = "unit" if "unit" in column_names(path) else "image_id"
    table = read_table(path, list(dict.fromkeys(["image_id", named])))
    return dict(zip(table.column("image_id").to_pylist(), table.column(named).to_pylist(), strict=True))


def image_units(path: Path, ids: Iterable[str], of_which: str) -> list[str]:
    """The unit of each image of a role.  Raises InputError for one that has another role by now.

    of_which : "there is a verdict", in the error.
    """
    names, ids = unit_names(path), list(ids)
    if unknown := [image for image in ids if image not in names]:
        raise InputError(f"{path}: has no image '{unknown[0]}', of which {of_which}: run `dvc repro`")
    return [names[image] for image in ids]


def image_ids(path: Path, table: pa.Table) -> list[str]:
    """Column `image_id` of anybody's table: strings, or integers in decimal.  path : where the table stands.

    Raises InputError for a missing column, another type, a row without an id, or a duplicate id.
    """
    if table.column_names.count("image_id") != 1:
        raise InputError(f"{path}: needs one column 'image_id' (there is {', '.join(table.column_names) or 'nothing'})")
    column = table.column("image_id")
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not (pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise InputError(f"{path}: column 'image_id' is {kind}: needs strings or integers")
    ids = column.cast(kind).cast(pa.string()).to_pylist()
    seen: set[str] = set()
    for row, image_id in enumerate(ids):
        if image_id is None:
            raise InputError(f"{path}: row {row} has no image_id")
        if image_id in seen:
            raise InputError(f"{path}: duplicate image_id '{image_id}'")
        seen.add(image_id)
    return ids


def read_metadata(path: Path) -> dict[str, Any]:
    """The metadata that `write_table` stored.  Raises InputError."""
    try:
        return json.loads((pq.read_schema(path).metadata or {})[METADATA])
    except FileNotFoundError:
        raise InputError(f"{path}: not found: run `dvc repro` to make it") from None
    except (pa.ArrowException, KeyError, ValueError):
        raise InputError(f"{path}: not a table of this pipeline: its metadata is missing or damaged") from None


def check_role(path: Path, target: str, role: str) -> None:
    """Raises InputError if a table of images, of their features or of scores is another target's or role's."""
    facts = read_metadata(path)
    if (found := (facts.get("target"), facts.get("role"))) != (target, role):
        raise InputError(
            f"{path}: is of target '{found[0]}', role '{found[1]}', not '{target}', '{role}': run `dvc repro`"
        )


def check_target(path: Path, target_sha256: str, other: Path) -> None:
    """Raises InputError if the scores at `path` are of another model than the one behind `other`."""
    if read_metadata(path)["target_sha256"] != target_sha256:
        raise InputError(f"{path}: scores of another target than the one behind {other}: run `dvc repro`")


def check_computed_on(path: Path, facts: Mapping[str, Any], other: Path) -> None:
    """Raises InputError if the scores at `path` and those behind `other` were computed on two kinds of machine, or by
    two versions of a library: what differs between roles then looks like membership.

    facts : metadata of `other`, or the description of a bag, with `computed_on`.  Scores from elsewhere have none, nor
    has a table without rows: there is nothing to compare then.
    """
    mine = read_metadata(path)
    here, there = mine.get("computed_on"), facts.get("computed_on")
    if here and there and here != there:
        differing = [name for name in here if here[name] != there.get(name)]
        found, expected = (", ".join(f"{name} {of.get(name)}" for name in differing) for of in (here, there))
        of_role = f"score@{mine.get('target')}-{mine.get('role')}"
        stage = f"score_suspects@{mine['suspects']}" if "suspects" in mine else of_role
        raise InputError(
            f"{path}: scores computed with {found}, those behind {other} with {expected}: compute all roles alike: "
            f"`dvc repro --force --single-item {stage}` where the others were computed, or all of them here"
        )


def image_table(
    ids: list[str],
    pixels: np.ndarray,
    labels: list[int | None],
    paths: list[str | None],
    captions: list[str | None] | None = None,
    units: list[str] | None = None,
) -> pa.Table:
    """Images as rows of the `IMAGES` contract, with columns `caption` and `unit` behind where there are some.

    pixels : (N, H, W, C) uint8, C = 1 or 3.
    """
    _, height, width, channels = pixels.shape
    rows = len(ids)
    table = pa.table(
        {
            "image_id": ids,
            "image": [{"bytes": _png(image), "path": path} for image, path in zip(pixels, paths, strict=True)],
            "label": labels,
            "sha256": [pixel_hash(image) for image in pixels],
            "height": [height] * rows,
            "width": [width] * rows,
            "channels": [channels] * rows,
        },
        schema=IMAGES,
    )
    for name, values in (("caption", captions), ("unit", units)):
        if values is not None:
            table = table.append_column(name, pa.array(values, pa.string()))
    return table


def captions_of(table: pa.Table) -> list[str | None]:
    """The captions of a table of images; None where there is none."""
    return table.column("caption").to_pylist() if "caption" in table.column_names else [None] * table.num_rows


def decode_images(table: pa.Table) -> np.ndarray:
    """The images of a table that follows the `IMAGES` contract, as (N, C, H, W) uint8; of none, (0, 1, 0, 0)."""
    images = []
    for row in table.column("image"):
        with Image.open(io.BytesIO(row["bytes"].as_py())) as picture:
            pixels = np.asarray(picture)
        images.append(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1))
    return np.stack(images) if images else np.empty((0, 1, 0, 0), dtype=np.uint8)


def read_features(path: Path) -> tuple[list[str], np.ndarray]:
    """The image ids of a table of features, and the features as (N, F) float32.

    Raises InputError where one is not finite.
    """
    table = read_table(path)
    return table.column("image_id").to_pylist(), features_of(table, path)


def read_described(images: Path, features: Path) -> tuple[pa.Table, np.ndarray]:
    """A table of images, and their features, (N, F) float32, row by row.  Raises InputError if these are of others."""
    table, (ids, values) = read_table(images), read_features(features)
    if ids != table.column("image_id").to_pylist():
        raise InputError(f"{features}: its image_ids do not match {images}: run `dvc repro`")
    return table, values


def features_of(table: pa.Table, path: Path) -> np.ndarray:
    """The features of a table of them, or of a part of it, as (N, F) float32.  path : where the table stands.

    Raises InputError where one is not finite.
    """
    names = [name for name in table.column_names if name not in ("image_id", "label")]
    values = np.stack([table.column(name).to_numpy() for name in names], 1)
    for row, column in np.argwhere(~np.isfinite(values))[:1]:
        image_id = table.column("image_id")[int(row)].as_py()
        raise InputError(f"{path}: {names[column]} of image {image_id} is {values[row, column]}: run `dvc repro`")
    return values


def list_column(rows: np.ndarray) -> pa.Array:
    """(N, L) as a column of N lists of fixed size L."""
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows.shape[1])


def list_values(table: pa.Table, name: str) -> np.ndarray:
    """A column of N lists of one size L, as (N, L)."""
    values = table.column(name).combine_chunks()
    flat = values.flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(len(values), len(flat) // len(values) if len(values) else values.type.list_size)


def log_scores(path: Path, column: str) -> np.ndarray:
    """The logarithm of a score column, (N,) float64.  Raises InputError where there is none."""
    values = read_table(path, [column]).column(column).to_numpy()
    if not (np.isfinite(values) & (values > 0)).all():
        raise InputError(f"{path}: column {column} has scores that are not positive and finite")
    return np.log(values)


def base_columns(columns: list[str]) -> list[str]:
    """Those of a table of scores that are scores under a base, of a score that is there."""
    return [name for name in columns if name.endswith(BASE) and name.removesuffix(BASE) in columns]


def pixel_hash(image: np.ndarray) -> str:
    """SHA-256 of an image's shape and pixels.  image : (H, W, C) uint8."""
    digest = hashlib.sha256(repr(image.shape).encode())
    digest.update(image.tobytes())
    return digest.hexdigest()


def _png(image: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(stream, format="PNG")
    return stream.getvalue()
