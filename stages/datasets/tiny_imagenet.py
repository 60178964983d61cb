"""Tiny ImageNet: 100,000 training and 10,000 validation images of 64x64 in 200 classes; some are grey.

Le and Yang, "Tiny ImageNet Visual Recognition Challenge", CS 231N, Stanford 2015.  Read from `tiny-imagenet-200`, the
folder that its zip unpacks to: `train/<class>/images/*.JPEG`, `val/images/*.JPEG` and `val/val_annotations.txt`.
"""

from pathlib import Path
from typing import Literal

from stages.command import InputError
from stages.datasets.folder import numbered, read_files
from stages.datasets.frame import Entry
from stages.datasets.images import Images

PARTS = {"train": ["train"], "val": ["val"], "all": ["train", "val"]}


class TinyImageNetEntry(Entry):
    """An entry of the `datasets` registry.  path : the folder; it needs `colour`, since some images are grey."""

    source: Literal["tiny_imagenet"]
    part: Literal["train", "val", "all"] = "train"


def read(entry: TinyImageNetEntry) -> Images:
    """The images of a part by path, which is their id; the label is the place of their class among the 200, sorted.

    Raises InputError naming what the folder lacks, or a bad file.
    """
    classes: dict[Path, str] = {}
    for part in PARTS[entry.part]:
        classes |= _classes(Path(entry.path) / part)
    return read_files(list(classes), numbered(list(classes.values())), entry)


def _classes(folder: Path) -> dict[Path, str]:
    """The class of each image of a part."""
    training = folder.name == "train"
    files = sorted(folder.glob("*/images/*.JPEG" if training else "images/*.JPEG"))
    if not files:
        raise InputError(f"{folder}: no images: `path` must be the folder tiny-imagenet-200 that the zip unpacks to")
    if training:
        return {file: file.parts[-3] for file in files}
    listed = folder / "val_annotations.txt"
    if not listed.is_file():
        raise InputError(f"{listed}: not found: it tells the classes of the validation images")
    rows = [line.split("\t") for line in listed.read_text(encoding="utf-8", errors="replace").splitlines()]
    class_of = {row[0]: row[1] for row in rows if len(row) > 1}
    if strangers := [file for file in files if file.name not in class_of]:
        raise InputError(f"{strangers[0]}: {listed} does not tell its class")
    return {file: class_of[file.name] for file in files}
