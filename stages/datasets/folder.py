"""A folder of images, searched to any depth; of an animation the first frame counts."""

from pathlib import Path
from typing import Literal

from stages.command import InputError
from stages.datasets.frame import Entry
from stages.datasets.images import SUFFIXES, Images, decode, gather


class FolderEntry(Entry):
    """An entry of the `datasets` registry.  path : the folder."""

    source: Literal["folder"]


def read(entry: FolderEntry) -> Images:
    """Every image below the folder, sorted; its id is its path from there.

    Where every image lies in a folder of its own class (`cat/1.png`, `members/cat/1.png`), its label is the place of
    that folder's name (`cat`) among all such names, sorted.  If any image lies at the top, no image has a label.
    Raises InputError naming a bad file.
    """
    root = Path(entry.path)
    if not root.is_dir():
        raise InputError(f"{root}: not a folder")
    found = files(root)
    if not found:
        raise InputError(f"{root}: no images in this folder ({', '.join(sorted(SUFFIXES))})")
    if root in (file.parent for file in found):
        return read_files(found, [None] * len(found), entry)
    return read_files(found, numbered([file.parent.name for file in found]), entry)


def files(folder: Path) -> list[Path]:
    """Every image below a folder, sorted."""
    return sorted(file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES)


def numbered(classes: list[str]) -> list[int | None]:
    """The place of each image's class among all classes, sorted by name."""
    places = {name: place for place, name in enumerate(sorted(set(classes)))}
    return [places[name] for name in classes]


def read_files(files: list[Path], labels: list[int | None], entry: Entry) -> Images:
    """The images of files somewhere below the entry's folder.  Raises InputError naming a bad file."""
    ids = [file.relative_to(entry.path).as_posix() for file in files]
    pictures = (decode(file, str(file)) for file in files)
    pixels = gather(pictures, len(files), entry, lambda number: str(files[number]))
    return Images(ids, pixels, labels, list(ids))
