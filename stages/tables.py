"""The door to Parquet: every table is written whole or not at all, and the same rows give the same bytes."""

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from stages.command import InputError
from stages.files import write_bytes

METADATA = b"leakgauge"
ROLES = ("member", "auxiliary", "holdout")
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
    encoded = json.dumps(metadata).encode()
    table = table.replace_schema_metadata({METADATA: encoded})
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", row_group_size=4096, write_page_checksum=True)
    write_bytes(path, sink.getbuffer())


def read_table(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Read a table written by `write_table`.  Raises InputError naming a missing or damaged file."""
    if not path.exists():
        raise InputError(f"{path}: not found: run `dvc repro` to make it")
    return read_parquet(path, columns)


def read_parquet(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Read anybody's Parquet file.  Raises InputError naming a missing or damaged one."""
    if not path.is_file():
        raise InputError(f"{path}: not found, or not a file")
    try:
        return pq.read_table(path, columns=columns, partitioning=None, page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: not a readable Parquet file: {error}") from None


def image_ids(path: Path, table: pa.Table) -> list[str]:
    """Column `image_id` of anybody's table: strings, or integers in decimal.  path : where the table stands.

    Raises InputError for a missing column, another type, a row without an id, or an id that stands there twice.
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
            raise InputError(f"{path}: image_id '{image_id}' stands there twice")
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
    """Raises InputError if a table of images, of their statistics or of scores is another target's or role's."""
    facts = read_metadata(path)
    if (found := (facts.get("target"), facts.get("role"))) != (target, role):
        raise InputError(
            f"{path}: is of target '{found[0]}', role '{found[1]}', not '{target}', '{role}': run `dvc repro`"
        )


def check_target(path: Path, target_sha256: str, other: Path) -> None:
    """Raises InputError if the scores at `path` are of another model than the one behind `other`."""
    if read_metadata(path)["target_sha256"] != target_sha256:
        raise InputError(f"{path}: scores of another target than the one behind {other}: run `dvc repro`")


def image_table(
    ids: list[str],
    pixels: np.ndarray,
    labels: list[int | None],
    paths: list[str | None],
    captions: list[str | None] | None = None,
) -> pa.Table:
    """Images as rows of the `IMAGES` contract, with a column `caption` behind if there are captions.

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
    return table if captions is None else table.append_column("caption", pa.array(captions, pa.string()))


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


def read_statistics(path: Path) -> tuple[list[str], np.ndarray]:
    """The image ids of a table of statistics, and the statistics as (N, F) float32.

    Raises InputError where one is not finite.
    """
    table = read_table(path)
    names = [name for name in table.column_names if name not in ("image_id", "label")]
    ids, values = table.column("image_id").to_pylist(), np.stack([table.column(name).to_numpy() for name in names], 1)
    for row, column in np.argwhere(~np.isfinite(values))[:1]:
        raise InputError(f"{path}: {names[column]} of image {ids[row]} is {values[row, column]}: run `dvc repro`")
    return ids, values


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


def pixel_hash(image: np.ndarray) -> str:
    """SHA-256 of an image's shape and pixels.  image : (H, W, C) uint8."""
    digest = hashlib.sha256(repr(image.shape).encode())
    digest.update(image.tobytes())
    return digest.hexdigest()


def _png(image: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(stream, format="PNG")
    return stream.getvalue()
