"""From photos to what to publish and the sealed record."""

import hashlib
import io
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image
from tqdm import tqdm

from leakgauge.canaries.record import RECORD, SUFFIXES, Record, Sealed, derived, drawn, variant_path
from leakgauge.canaries.variants import variants
from leakgauge.datasets.folder import refuse_images, walk
from leakgauge.datasets.images import Entry, decode, from_array, listed, preprocess
from leakgauge.errors import InputError, warn
from leakgauge.files import file_hash, write_bytes

WRITTEN = {"png": {"compress_level": 1}, "jpeg": {"quality": 95, "subsampling": 0}}  # photos gain little by more
FEW = 20  # images, below which a used set may well not be found


@dataclass(frozen=True)
class Making:
    """How variants are made and kept; see `variants`."""

    variants: int = 8
    tone: float = 8.0
    shift: float = 0.04
    format: Literal["png", "jpeg"] = "png"
    colour: Literal["rgb", "grey"] | None = None


def seal(photos: Path, out: Path, sealed: Path, making: Making) -> tuple[int, str]:
    """Write the variants to publish to `out`, and all of them with the record to `sealed`, both new folders.

    Images are turned upright as their EXIF says; of their metadata only a colour profile is kept, so that nothing
    but pixels is published.  Returns the number of images and the SHA-256 of the record.  Raises InputError, with
    nothing written.
    """
    _check_folders(photos, out, sealed)
    names = _names(photos, SUFFIXES[making.format])
    if len(names) < FEW:
        warn(f"{photos}: {len(names)} images: so few may not show that they were used; some 40 or more do better")
    seed, entry = secrets.token_hex(32), Entry(source="folder", path=str(photos), orientation="follow")
    entry = entry.model_copy(update={"colour": making.colour})
    images = []
    with _new_folders(out, sealed) as (publish, keep):
        for number, (file, name) in enumerate(tqdm(names.items(), desc="make variants", unit="image", disable=None)):
            picture = decode(file, str(file))
            files = _encoded(_upright(picture, entry, file), derived(seed, "variants", name), making, picture)
            published = drawn(seed, name, making.variants)
            for k, data in enumerate(files):
                write_bytes(variant_path(keep, number, k, making.format), data)
            write_bytes(publish / name, files[published])
            hashes = [hashlib.sha256(data).hexdigest() for data in files]
            if len({*hashes}) < len(hashes):
                raise InputError(f"{file}: two variants of it are equal (a blank picture?): take it away")
            images.append(Sealed(name=name, sha256=hashes, published=published))
        record = Record(
            leakgauge=version("leakgauge"),
            seed=seed,
            variants=making.variants,
            tone=making.tone,
            shift=making.shift,
            format=making.format,
            images=images,
        )
        write_bytes(keep / RECORD, (record.model_dump_json(indent=1) + "\n").encode())
    return len(names), file_hash(sealed / RECORD)


def _check_folders(photos: Path, out: Path, sealed: Path) -> None:
    if not photos.is_dir():
        raise InputError(f"{photos}: not a folder: PHOTOS is a folder of images")
    for folder in (out, sealed):
        if folder.exists() or folder.is_symlink():
            raise InputError(f"{folder}: is there already, and is not written over: name a new folder")
    inner = {"--sealed": (sealed, out), "--out": (out, sealed)}
    for option, (one, other) in inner.items():
        if one.resolve().is_relative_to(other.resolve()):
            raise InputError(f"{one}: lies in {other}: the sealed folder is secret: name another by {option}")


def _names(photos: Path, suffix: str) -> dict[Path, str]:
    """Each image, and what it is called where it is published."""
    found = walk(photos)
    refuse_images(found.others)
    if not found.images:
        raise InputError(f"{photos}: no images in this folder")
    others = [file.relative_to(photos).as_posix() for file in found.others]
    for note in [*found.notes, *listed("files that are no images", others)]:
        print(f"{photos}: {note}", flush=True)
    names: dict[Path, str] = {}
    first: dict[str, Path] = {}
    for file in found.images:
        name = file.relative_to(photos).with_suffix(suffix).as_posix()
        if name in first:
            raise InputError(f"{file}: would be published as {name}, as {first[name]} would: rename one of them")
        names[file] = name
        first[name] = file
    return names


def _upright(picture: Image.Image, entry: Entry, file: Path) -> np.ndarray:
    """(H, W, C) uint8, C = 1 or 3."""
    if entry.colour is None and picture.mode not in ("L", "RGB"):
        raise InputError(
            f"{file}: has mode {picture.mode}, neither 8-bit grey (L) nor RGB: --colour rgb (or grey) converts all "
            "images; transparency is dropped"
        )
    try:
        return preprocess(picture, entry, str(file))
    except InputError as error:
        said = str(error).partition(": say how many bits")[0].partition(": if all 16")[0]
        raise InputError(f"{said}: convert it to 8 bits a channel yourself") from None


def _encoded(image: np.ndarray, key: bytes, making: Making, picture: Image.Image) -> list[bytes]:
    """The files of all variants: each made in the same way, so that none can be told from the others."""
    options = {**WRITTEN[making.format], "icc_profile": _profile(picture, making)}
    files = []
    for pixels in variants(image, key, making.variants, making.tone, making.shift):
        stream = io.BytesIO()
        from_array(pixels).save(stream, making.format.upper(), **options)
        files.append(stream.getvalue())
    return files


def _profile(picture: Image.Image, making: Making) -> bytes | None:
    """The colour profile, where the pixels still are what it is of."""
    return picture.info.get("icc_profile") if making.colour is None else None


@contextmanager
def _new_folders(out: Path, sealed: Path) -> Iterator[tuple[Path, Path]]:
    """Two folders to fill, moved to `out` and `sealed` where the block ends well, and removed where it does not."""
    made = [folder.with_name(f".{folder.name}.tmp") for folder in (sealed, out)]
    try:
        for folder in made:
            shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed
            folder.mkdir(parents=True, mode=0o700 if folder is made[0] else 0o777)
        yield made[1], made[0]
        made[0].rename(sealed)  # first: what is published without its record is lost
        made[1].rename(out)
    finally:
        for folder in made:
            shutil.rmtree(folder, ignore_errors=True)
