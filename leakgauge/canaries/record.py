"""The sealed record: what was drawn, by which secret seed, and the hashes of all variants.

    <sealed>/record.json            what this module reads and writes
    <sealed>/variants/<n>/<k>.png   variant k of image n, the published one too
    <out>/<name of the image>.png   the published variant, the same bytes

The draw of an image is decided by the seed and the image's name.  A record that is read back may come from anybody:
no path in it is followed, the bytes of every variant must have their hash, and the draw must be that of the seed.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from leakgauge.errors import InputError
from leakgauge.options import Options

RECORD, VARIANTS = "record.json", "variants"
FEWEST, MOST = 2, 16  # variants of an image
SUFFIXES = {"png": ".png", "jpeg": ".jpg"}
LARGEST = 2**28  # bytes of a record
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Sealed(Options):
    """An image.  name : of what is published.  sha256 : of each variant's file.  published : which it was, from 0."""

    name: Annotated[str, Field(min_length=1, max_length=4096)]
    sha256: Annotated[list[Sha256], Field(min_length=FEWEST, max_length=MOST)]
    published: Annotated[int, Field(ge=0, lt=MOST)]


class Record(Options):
    """All that was sealed.  seed : 32 bytes, in hexadecimal; who knows it knows what was published."""

    version: Literal[1] = 1
    leakgauge: str
    seed: Sha256
    variants: Annotated[int, Field(ge=FEWEST, le=MOST)]
    tone: Annotated[float, Field(ge=0, le=255)]
    shift: Annotated[float, Field(ge=0, le=0.25)]
    format: Literal["png", "jpeg"]
    images: Annotated[list[Sealed], Field(min_length=1)]


@dataclass(frozen=True)
class Opened:
    """A record that was read back.  sha256 : of its bytes, which was to be time-stamped."""

    record: Record
    folder: Path
    sha256: str

    def variant(self, image: int, number: int) -> Path:
        """The file of a variant."""
        return variant_path(self.folder, image, number, self.record.format)

    def read(self, image: int, number: int) -> bytes:
        """The bytes of a variant.  Raises InputError where they are not those that were sealed."""
        path = self.variant(image, number)
        if not path.is_file():
            raise InputError(f"{path}: not found: all variants that were sealed must lie beside the record")
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != self.record.images[image].sha256[number]:
            raise InputError(f"{path}: is not the file that was sealed: its SHA-256 is not that in {RECORD}")
        return data


def variant_path(folder: Path, image: int, number: int, form: str) -> Path:
    """Where a variant lies, whatever its image is called."""
    return folder / VARIANTS / f"{image:05d}" / f"{number}{SUFFIXES[form]}"


def drawn(seed: str, name: str, variants: int) -> int:
    """Which variant of an image is published: uniform, decided by the secret seed and the image's name."""
    return int.from_bytes(derived(seed, "published", name)) % variants


def derived(seed: str, what: str, name: str) -> bytes:
    """32 bytes, as if random where the seed is not known, and independent of those for another `what`."""
    return hashlib.sha256(f"{seed}/{what}/{name}".encode()).digest()


def open_record(path: Path) -> Opened:
    """Read a record.  path : of record.json, or of its folder.  Raises InputError where it is none, or was changed.

    Variants are held against their hashes as they are read.
    """
    file = path / RECORD if path.is_dir() else path
    if not file.is_file():
        raise InputError(f"{file}: not found: RECORD is what `leakgauge canaries seal` wrote")
    if file.stat().st_size > LARGEST:
        raise InputError(f"{file}: no sealed record: larger than {LARGEST >> 20} MiB")
    data = file.read_bytes()
    try:
        record = Record.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise InputError(f"{file}: no sealed record: {place + ': ' if place else ''}{first['msg']}") from None
    if len({image.name for image in record.images}) < len(record.images):
        raise InputError(f"{file}: two images have one name: the record was changed")
    for image in record.images:
        if len(image.sha256) != record.variants:
            raise InputError(f"{file}: {image.name!r} has {len(image.sha256)} variants, the record {record.variants}")
        if image.published != drawn(record.seed, image.name, record.variants):
            raise InputError(f"{file}: {image.name!r}: published is not what the seed draws: the record was changed")
    return Opened(record, file.parent, hashlib.sha256(data).hexdigest())
