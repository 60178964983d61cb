"""Tiny ImageNet: 100,000 training and 10,000 validation images of 64x64 in 200 classes; some are grey.

Le and Yang, "Tiny ImageNet Visual Recognition Challenge", CS 231N, Stanford 2015.  Read from `tiny-imagenet-200`, the
folder that its zip unpacks to: `wnids.txt` (the 200 classes), `train/<class>/images/*.JPEG`, `val/images/*.JPEG` and
`val/val_annotations.txt`.
"""

from pathlib import Path
from typing import Literal

from leakgauge.datasets.folder import numbered, read_files, refuse_images, walk
from leakgauge.datasets.images import Entry, Images, listed
from leakgauge.errors import InputError

PARTS = {"train": ["train"], "val": ["val"], "all": ["train", "val"]}
EVERY = ("train", "val", "test")  # `test` has no classes and is never read


class TinyImageNetEntry(Entry):
    """An entry of the `datasets` registry.  path : the folder; it needs `colour`, since some images are grey."""

    source: Literal["tiny_imagenet"]
    part: Literal["train", "val", "all"] = "train"


def read(entry: TinyImageNetEntry) -> Images:
    """The images of a part by path, which is their id; the label is the place of their class among all, sorted.

    All are those of `wnids.txt`, whatever classes have images here.  Raises InputError naming what the folder lacks, or
    a bad file.
    """
    root = Path(entry.path)
    classes: dict[Path, str] = {}
    notes = listed("parts", [part for part in EVERY if part not in PARTS[entry.part]])
    for part in PARTS[entry.part]:
        found, left_out = _classes(root / part)
        classes |= found
        notes += left_out
    names = sorted(set(_text(root / "wnids.txt", "the classes").split()))
    return read_files(list(classes), numbered(list(classes), list(classes.values()), names), entry, names, notes)


def _classes(folder: Path) -> tuple[dict[Path, str], list[str]]:
    """The class of each image of a part, and notes on what else is there."""
    training = folder.name == "train"
    pattern = "*/images/*.JPEG" if training else "images/*.JPEG"
    found = walk(folder) if folder.is_dir() else None
    files = [file for file in found.files if file.relative_to(folder).match(pattern)] if found else []
    if not found or not files:
        raise InputError(f"{folder}: no images: `path` must be the folder tiny-imagenet-200 that the zip unpacks to")
    refuse_images(found.others)
    taken = {*files}
    others = [file.relative_to(folder).as_posix() for file in found.files if file not in taken]
    notes = found.notes + listed(f"other files of `{folder.name}`", others)
    if training:
        return {file: file.parts[-3] for file in files}, notes
    annotations = folder / "val_annotations.txt"
    rows = [line.split("\t") for line in _text(annotations, "the classes of the validation images").splitlines()]
    class_of = {row[0]: row[1] for row in rows if len(row) > 1}
    if unknown := [file for file in files if file.name not in class_of]:
        raise InputError(f"{unknown[0]}: {annotations} does not tell its class")
    return {file: class_of[file.name] for file in files}, notes


def _text(file: Path, what: str) -> str:
    if not file.is_file():
        raise InputError(f"{file}: not found: it lists {what}")
    return file.read_text(encoding="utf-8", errors="replace")
