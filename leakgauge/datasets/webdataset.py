"""WebDataset tars: the files of a sample have one name up to its first dot, its key, and differ behind it.

Of a sample are taken its image (`key.jpg`, `.png`, `.webp`, whatever Pillow reads), its caption (`key.txt`) and its
label (`key.cls`, an integer); with `caption_key` the caption is that key of `key.json`.  Others are not taken, and
listed.  A tar is read where it lies: nothing is extracted, and a name in it is never opened.
"""

import io
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal, NoReturn

from PIL import Image
from pydantic import StringConstraints

from leakgauge.datasets.captions import as_text, caption_of, json_object
from leakgauge.datasets.folder import Found, is_junk, shown, walk
from leakgauge.datasets.images import SUFFIXES, Entry, Images, collate, counted, decode, listed
from leakgauge.errors import InputError

TAR = ".tar"
KEY = re.compile(r"((?:.*/)?[^/.]+)(\.[^/]*)", re.DOTALL)  # of a member's name: the key, and what is behind it
LABEL = re.compile(r"[+-]?[0-9]{1,18}")  # fits into an int64


class WebDatasetEntry(Entry):
    """An entry of the `datasets` registry.

    path : a tar, or a folder of tars, searched to any depth.
    caption_key : of the caption in each sample's `.json`; without it the caption is its `.txt`, where there are any.
    """

    source: Literal["webdataset"]
    caption_key: Annotated[str, StringConstraints(min_length=1)] | None = None


@dataclass(frozen=True)
class Part:
    """Where the bytes of a member of a tar lie.  start, size : bytes."""

    tar: Path
    name: str
    start: int
    size: int

    def __str__(self) -> str:
        return f"{self.tar}: {self.name}"

    def read(self) -> bytes:
        """Its bytes."""
        with self.tar.open("rb") as stream:
            stream.seek(self.start)
            return stream.read(self.size)


@dataclass
class Sample:
    """What one key has.  others : what is behind its dot in members that are not taken."""

    image: Part | None = None
    caption: Part | None = None
    label: Part | None = None
    others: list[str] = field(default_factory=list)


def read(entry: WebDatasetEntry) -> Images:
    """The images in the order of the tars' paths and of their members; the id is the key, behind the path of its tar
    without `.tar` where there is a folder of them.

    Raises InputError naming the tar and the member at fault.
    """
    path = Path(entry.path)
    found = walk(path) if path.is_dir() else Found([path])
    tars = [file for file in found.files if file.suffix == TAR] if path.is_dir() else [path]
    others = [file.relative_to(path).as_posix() for file in found.files if path.is_dir() and file.suffix != TAR]
    notes = found.notes + listed("other files", others)
    samples: dict[str, Sample] = {}
    hidden: list[str] = []
    for tar in tars:
        shard = f"{tar.relative_to(path).with_suffix('').as_posix()}/" if path.is_dir() else ""
        for key, sample in _samples(tar, hidden, entry.caption_key).items():
            if f"{shard}{key}" in samples:
                raise InputError(
                    f"{tar}: its sample '{key}' has the id '{shard}{key}', as one of another tar: rename it"
                )
            samples[f"{shard}{key}"] = sample
    if not samples:
        raise InputError(f"{path}: no samples: `path` must be a WebDataset {TAR} or a folder of such")
    notes += listed("hidden members", hidden)
    notes += listed("members", sorted({other for sample in samples.values() for other in sample.others}))
    images = [sample.image or _refuse(path, key, sample) for key, sample in samples.items()]
    captions = _captions(samples, entry.caption_key)
    labels = [_label(sample.label) if sample.label else None for sample in samples.values()]
    pixels, odd = collate(map(_picture, images), len(images), entry, lambda number: str(images[number]))
    if captions and (empty := captions.count("")):
        notes.append(f"{counted(empty)} with an empty caption")
    return Images([*samples], pixels, labels, [part.name for part in images], captions, notes=notes + odd)


def _samples(tar: Path, hidden: list[str], caption_key: str | None) -> dict[str, Sample]:
    """The samples of a tar by their keys.  hidden : takes names of members that are left out.  Raises InputError."""
    samples: dict[str, Sample] = {}
    names: set[str] = set()
    for part in _members(tar):
        if part.name in names:
            raise InputError(f"{part}: is there twice")
        names.add(part.name)
        named = KEY.fullmatch(part.name)
        if any(map(is_junk, PurePosixPath(part.name).parts)):
            hidden.append(part.name)
        elif named is None:
            raise InputError(f"{part}: has no key: a sample's files are named like 0001.jpg and 0001.txt")
        else:
            _take(samples.setdefault(named[1], Sample()), part, named[2].lower(), caption_key)
    return samples


def _take(sample: Sample, part: Part, suffix: str, caption_key: str | None) -> None:
    """Put a member into its sample.  suffix : in lower case.  Raises InputError for a second image."""
    if suffix in SUFFIXES:
        if sample.image:
            raise InputError(f"{part}: is a second image of its key, beside {sample.image.name}")
        sample.image = part
    elif suffix == (".json" if caption_key else ".txt"):
        sample.caption = part
    elif suffix == ".cls":
        sample.label = part
    else:
        sample.others.append(suffix)


def _members(tar: Path) -> Iterator[Part]:
    """The files in a tar.  Raises InputError for what is no tar, is cut short, or has links, devices or odd names."""
    try:
        size = tar.stat().st_size
        with tarfile.open(tar, "r:") as archive:
            for member in archive:
                name = member.name.removeprefix("./")
                part = Part(tar, name, member.offset_data, member.size)
                _check(part, member, size)
                if member.isreg():
                    yield part
            end = archive.offset  # of what tarfile could read: it stops in silence at a damaged header
        _check_end(tar, end)
    except InputError:
        raise
    except Exception as error:  # whatever is damaged: tarfile raises nearly anything
        raise InputError(f"{tar}: not a readable {TAR}, without compression: {error or type(error).__name__}") from None


def _check(part: Part, member: tarfile.TarInfo, size: int) -> None:
    """Raises InputError for a member that is no file or folder, or whose name or size is none."""
    if shown(part.name) != part.name:
        raise InputError(f"{part.tar}: {shown(part.name)}: its name is no UTF-8: rename it")
    if not (member.isreg() or member.isdir()) or member.issparse():
        raise InputError(f"{part}: a link, a device or a sparse file, which is not read: take it away")
    if part.name.startswith("/") or ".." in part.name.split("/"):
        raise InputError(f"{part}: its name leads out of the tar: rename it")
    if not 0 <= part.start <= part.start + part.size <= size:
        raise InputError(f"{part}: goes on behind the end of the tar, which is cut short: fetch it again")


def _check_end(tar: Path, end: int) -> None:
    """Raises InputError where a tar does not end at `end` with two blocks of zeros, and nothing behind them."""
    with tar.open("rb") as stream:
        stream.seek(end)
        zeros = 0
        while block := stream.read(2**20):
            if block.strip(b"\0"):
                raise InputError(f"{tar}: is damaged, or two tars as one, from byte {end} on: fetch or write it again")
            zeros += len(block)
    if zeros < 2 * tarfile.BLOCKSIZE:
        raise InputError(f"{tar}: has no end of a tar: it is cut short: fetch it again")


def _refuse(path: Path, key: str, sample: Sample) -> NoReturn:
    there = [part.name for part in (sample.caption, sample.label) if part]
    raise InputError(
        f"{path}: sample '{key}' has no image (there is {', '.join([*there, *sample.others])}): each needs one of a "
        "format that is read, like .jpg, .png or .webp"
    )


def _captions(samples: dict[str, Sample], key: str | None) -> list[str | None] | None:
    """One a sample; None where no sample has one.  Raises InputError where only some have."""
    if not key and not any(sample.caption for sample in samples.values()):
        return None
    captions: list[str | None] = []
    for sample in samples.values():
        if sample.caption is None:
            raise InputError(f"{sample.image}: has no caption: {'.json' if key else '.txt'} of its key is missing")
        text = as_text(sample.caption.read(), str(sample.caption))
        name = str(sample.caption)
        captions.append(caption_of(json_object(text, name), key, name)[0] if key else text.strip())
    return captions


def _label(part: Part) -> int:
    text = as_text(part.read(), str(part)).strip()
    if not LABEL.fullmatch(text):
        raise InputError(f"{part}: is no label: needs an integer")
    return int(text)


def _picture(part: Part) -> Image.Image:
    return decode(io.BytesIO(part.read()), str(part))
