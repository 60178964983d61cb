"""copies: does the target generate its training images?

Samples are generated, as many as `copies.samples` asks for, and compared with all images of the audit, by pixels and by
image features.  Named are the members that a sample comes nearer to than auxiliary images explain; their share among
holdout images says how often that errs.  leakgauge/inference/copies.py has the rule.

A target conditional on classes generates as many images of each.  One conditional on text is given captions, drawn from
the images of the audit whatever their roles, or the empty prompt with `score: {condition: none}`.  Nothing is generated
with `samples: 0`, of a target of which only scores are known, and where no member is known.

models/target/<target>/, data/{roles,features}/<target>/{member,auxiliary,holdout}.parquet, data/checks/<target>.json
-> data/copies/<target>/{samples,images}.parquet, metrics/copies/<target>.json,
metrics/samples/copies/<target>.png (which shows members: DVC's cache, not git)
"""

import io
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from PIL import Image

from leakgauge.cli import run
from leakgauge.config import PARAMS, key_name, role_leaks, section, source_of
from leakgauge.errors import InputError, warn
from leakgauge.files import place_folder, write_bytes, write_json
from leakgauge.options import CopiesOptions, Score
from leakgauge.tables import (
    ROLES,
    captions_of,
    decode_images,
    image_table,
    read_features,
    read_groups,
    read_ids,
    write_table,
)

if TYPE_CHECKING:  # both take seconds to import, and most targets have no samples
    from leakgauge.inference.copies import Copies, Search
    from leakgauge.sampling import Samples

SIDE = 64  # pixels; larger images are compared at this size
LEVEL, CONFIDENCE = 0.05, 0.95  # at which false alarms are counted on the holdout; and of intervals
TRIPLES, CELL = 24, 64  # on the sheet, and pixels a side, at least, that an image takes there
FRAME = (213, 94, 0)


def copies(target: str) -> None:
    """Write what the target generates, and which members that copies."""
    options = section("copies", CopiesOptions, target)
    tables = {role: Path(f"data/roles/{target}/{role}.parquet") for role in ROLES}
    if reason := _nothing_to_do(target, options, tables["member"]):
        nothing = pa.table({"image_id": pa.array([], pa.string())})
        white = np.full((CELL, CELL, 3), 255, np.uint8)
        _write(target, {"samples": nothing, "images": nothing}, {"samples": 0, "reason": reason}, white)
        return
    pool = Pool.read(target, tables)
    made = _generate(target, options, pool, tables)
    _compare(target, options, pool, made)


def _nothing_to_do(target: str, options: CopiesOptions, members: Path) -> str | None:
    """Why nothing is generated; None where it is."""
    if not options.samples:
        return f"{key_name('copies', 'samples', target)} is 0"
    if source_of(target).source == "scores":
        reason = "only scores of this target are known: nothing can be generated"
    elif not len(read_ids(members)):
        reason = "no member is known: there is nothing to compare samples with"
    else:
        return None
    warn(f"{target}: no copies looked for: {reason}")
    return reason


@dataclass(frozen=True)
class Pool:
    """The images of the audit: N of all roles."""

    ids: list[str]
    role: np.ndarray  # (N,) str
    pixels: np.ndarray  # (N, C, H, W) uint8, of at most `SIDE` pixels a side
    features: np.ndarray  # (N, F) float32
    captions: list[str | None]
    size: tuple[int, int]  # height and width of the images as they are

    @classmethod
    def read(cls, target: str, tables: dict[str, Path]) -> "Pool":
        """All roles, one after the other.  Raises InputError."""
        ids: list[str] = []
        role: list[str] = []
        captions: list[str | None] = []
        pixels, features, size = [], [], (0, 0)
        for name, path in tables.items():
            for group in read_groups(path):
                if group.num_rows:
                    size = group.column("height")[0].as_py(), group.column("width")[0].as_py()
                    pixels.append(shrunk(decode_images(group)))
                    captions += captions_of(group)
                    ids += group.column("image_id").to_pylist()
            described = Path(f"data/features/{target}/{name}.parquet")
            of, values = read_features(described)
            role += [name] * len(of)
            if of != ids[len(ids) - len(of) :] or len(role) != len(ids):
                raise InputError(f"{described}: its image_ids do not match {path}: run `dvc repro`")
            features.append(values)
        return cls(ids, np.array(role), np.concatenate(pixels), np.concatenate(features), captions, size)


def shrunk(pixels: np.ndarray) -> np.ndarray:
    """Images of at most `SIDE` pixels a side, each pixel the mean of those that it covers.  (N, C, H, W) uint8."""
    height, width = pixels.shape[2:]
    if max(height, width) <= SIDE:
        return pixels
    size = tuple(max(round(side * SIDE / max(height, width)), 1) for side in (width, height))
    planes = [
        np.stack([np.asarray(Image.fromarray(plane).resize(size, Image.Resampling.BOX)) for plane in image])
        for image in pixels
    ]
    return np.stack(planes)


def _generate(target: str, options: CopiesOptions, pool: Pool, tables: dict[str, Path]) -> "Samples":
    """The samples.  Raises InputError, also where captions that they are drawn by give the role away."""
    from leakgauge.sampling import Prompts, open_target, sample

    score, key = section("score", Score, target), f"{PARAMS}: {key_name('score', 'condition', target)}"
    model = Path(f"models/target/{target}")
    opened = open_target(model, source_of(target).source == "python", score)
    if opened.condition.column(score.condition) == "caption":
        for sentence in role_leaks(target).leaks.get("caption", {}).values():
            raise InputError(f"{key}: given, but the caption gives the role away: {sentence}; set it to none")
    prompts = Prompts(pool.captions, score.condition == "given")
    try:
        made = sample(f"copies@{target}", opened, pool.size, options, prompts, [model, *tables.values()])
    except InputError as error:
        raise InputError(f"{key}: {error}") from None
    if (found := (made.pixels.shape[3], *made.pixels.shape[1:3])) != (expected := (pool.pixels.shape[1], *pool.size)):
        raise InputError(f"{model}: generates images of shape {found}, those of the audit have {expected}")
    return made


def _compare(target: str, options: CopiesOptions, pool: Pool, made: "Samples") -> None:
    """Look for copies among the samples, and write what is found."""
    from leakgauge.features import image_features
    from leakgauge.inference.copies import feature_distances, find_copies, pixel_distances, search

    planes = made.pixels.transpose(0, 3, 1, 2)
    small = shrunk(planes)
    by = {
        "pixels": pixel_distances(small, pool.pixels),
        "features": feature_distances(image_features(planes), pool.features),
    }
    searches = {name: search(one, len(planes), pool.role, options.neighbours) for name, one in by.items()}
    found = find_copies(searches, pool.role, options.false_discovery_rate)
    tables = {"samples": _sample_table(made, pool, searches, found), "images": _image_table(pool, searches, found)}
    _write(target, tables, _figures(found, pool.role, options), _sheet(small, pool, searches, found))


def _sample_table(made: "Samples", pool: Pool, searches: dict[str, "Search"], found: "Copies") -> pa.Table:
    """One row a sample: the image, its nearest member and auxiliary image by either distance, whether it is a copy."""
    count, ids = len(made.pixels), np.array(pool.ids, dtype=object)
    captions = made.captions if any(made.captions) else None
    table = image_table([_name(row) for row in range(count)], made.pixels, made.labels, [None] * count, captions)
    columns: dict[str, Any] = {}
    for name, one in searches.items():
        for role in one.nearest:
            columns[f"{role}_by_{name}"] = ids[one.nearest[role]]
            columns[f"{role}_distance_{name}"] = one.distance[role]
        columns[f"ratio_{name}"] = one.ratio
    for name, values in {**columns, "copy": found.copy}.items():
        table = table.append_column(name, pa.array(values))
    return table


def _image_table(pool: Pool, searches: dict[str, "Search"], found: "Copies") -> pa.Table:
    """One row an image of the audit: the sample that comes nearest to it, its p-value, whether it is named."""
    columns: dict[str, Any] = {"image_id": pa.array(pool.ids, pa.string()), "role": pool.role.tolist()}
    for name, one in searches.items():
        columns |= {f"sample_{name}": [_name(row) for row in one.sample], f"score_{name}": one.score}
    for name in ("p_value", "adjusted_p_value"):
        columns[name] = pa.array(getattr(found, name), from_pandas=True)  # NaN is null
    return pa.table(columns | {"named": found.named})


def _name(sample: int) -> str:
    return f"sample-{sample:06d}"


def _figures(found: "Copies", role: np.ndarray, options: CopiesOptions) -> dict[str, Any]:
    """The short answer, flat."""
    from leakgauge.inference.conformal import fpr_range
    from leakgauge.inference.roc import exact_rate

    share = exact_rate(int(found.copy.sum()), len(found.copy), CONFIDENCE)
    figures = {"samples": share.total, "copies": share.count, "share": share.value}
    figures |= {"share_low": share.low, "share_high": share.high, "members_copied": int(found.named.sum())}
    figures |= {"p_value_resolution": found.resolution, "fewest": found.fewest}
    figures["false_discovery_rate"] = options.false_discovery_rate
    holdout = found.p_value[role == "holdout"]
    if len(holdout):
        _, high = fpr_range(int((role == "auxiliary").sum()), len(holdout), LEVEL, CONFIDENCE)
        rate = float((holdout <= LEVEL + 1e-9).mean())
        figures |= {"fpr_5e-2": rate, "fpr_5e-2_expected_high": high}
    return figures


def _sheet(samples: np.ndarray, pool: Pool, searches: dict[str, "Search"], found: "Copies") -> np.ndarray:
    """Columns of three: a sample, the member that it comes nearest to, the auxiliary image nearest to the sample.

    Of the members of the lowest p-values; those named have a frame.  Returns (H, W, 3) uint8.
    """
    members = np.flatnonzero(pool.role == "member")
    ranks = {name: np.argsort(np.argsort(one.score, kind="stable")) for name, one in searches.items()}
    best = np.min([*ranks.values()], axis=0)
    shown = members[np.lexsort((best[members], found.p_value[members], ~found.named[members]))][:TRIPLES]
    columns = []
    for image in shown:
        one = searches[min(searches, key=lambda name: ranks[name][image])]
        sample = one.sample[image]
        triple = samples[sample], pool.pixels[image], pool.pixels[one.nearest["auxiliary"][sample]]
        columns.append(_column(triple, found.named[image]))
    columns += [np.full_like(columns[0], 255)] * (-len(columns) % min(len(columns), TRIPLES // 2))
    half = min(len(columns), TRIPLES // 2)
    rows = [np.concatenate(columns[start : start + half], axis=1) for start in range(0, len(columns), half)]
    return np.concatenate(rows, axis=0)


def _column(images: tuple[np.ndarray, ...], framed: bool) -> np.ndarray:
    """Images one below the other, enlarged by whole pixels.  images : (C, H, W) uint8 each."""
    cells = []
    for image in images:
        scale = max(1, CELL // image.shape[1])
        large = np.broadcast_to(image, (3, *image.shape[1:])).repeat(scale, axis=1).repeat(scale, axis=2)
        cells.append(np.pad(large.transpose(1, 2, 0), ((1, 1), (1, 1), (0, 0)), constant_values=255))
    column = np.concatenate(cells, axis=0)
    framed_column = np.empty((column.shape[0] + 6, column.shape[1] + 6, 3), np.uint8)
    framed_column[:] = FRAME if framed else (255, 255, 255)
    framed_column[3:-3, 3:-3] = column
    return np.pad(framed_column, ((4, 4), (4, 4), (0, 0)), constant_values=255)


def _write(target: str, tables: dict[str, pa.Table], figures: dict[str, Any], sheet: np.ndarray) -> None:
    """The tables (without rows where nothing was generated), the short answer and the sheet."""
    folder = Path(f"data/copies/{target}")
    made = folder.with_name(f".{target}.making.tmp")
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir(parents=True)
    for name, table in tables.items():
        write_table(made / f"{name}.parquet", table, {"target": target, **figures})
    place_folder(made, folder)
    stream = io.BytesIO()
    Image.fromarray(sheet).save(stream, format="PNG")
    write_bytes(Path(f"metrics/samples/copies/{target}.png"), stream.getvalue())
    write_json(Path(f"metrics/copies/{target}.json"), figures)


if __name__ == "__main__":
    run(copies, target="a name in the `targets` registry of params.yaml")
