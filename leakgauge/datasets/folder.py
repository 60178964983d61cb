"""A folder of images, searched to any depth; of an animation the first frame counts."""

import os
import stat
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, StringConstraints, model_validator

from leakgauge.cli import ignored
from leakgauge.datasets.captions import SIDE_CARS, Captions, read_captions, unread
from leakgauge.datasets.images import HEIC, SUFFIXES, Entry, Images, collate, decode, listed, sniffed
from leakgauge.errors import InputError

JUNK = {  # what file managers, zip programs and network drives leave beside images, in lower case
    *("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "$recycle.bin", "system volume information"),
    *("__macosx", "@eadir", "lost+found"),
}
PLACEHOLDER = ".gitkeep"  # empty: it keeps a folder in git
PHOTOS = {  # formats of photographs and drawings that Pillow cannot read, or not without other programs
    *(".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".eps", ".erf", ".exr", ".fits", ".hdr", ".heic"),
    *(".heif", ".hif", ".iiq", ".j2c", ".jxl", ".jxr", ".k25", ".kdc", ".mef", ".mos", ".mpo", ".mrw", ".nef", ".nrw"),
    *(".orf", ".pef", ".psd", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".svg", ".wdp", ".x3f", ".xcf"),
}


def _distinct(names: list[str]) -> list[str]:
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise ValueError(f"'{twice[0]}' is listed twice")
    return names


Classes = Annotated[list[Annotated[str, StringConstraints(min_length=1)]], AfterValidator(_distinct)]


class FolderEntry(Entry):
    """An entry of the `datasets` registry.

    path : the folder.
    classes : names of the folders that images lie in, in the order of their labels 0, 1, ...; without it no image has
        a label, whatever folders there are.
    captions : txt or caption, where `a.txt` (or `a.caption`) beside `a.png` is its caption; or the name of files of
        rows, like metadata.jsonl or metadata.csv, each in the folder that its rows' `file_name` counts from.  Without
        it there are no captions.
    caption_key : of the caption in a row; without it `caption` or `text`, whichever there is.
    """

    source: Literal["folder"]
    classes: Classes | None = None
    captions: Annotated[str, StringConstraints(pattern=r"^(txt|caption|[^/]+\.(jsonl|csv))$")] | None = None
    caption_key: Annotated[str, StringConstraints(min_length=1)] | None = None

    @model_validator(mode="after")
    def _of_rows(self) -> Self:
        if self.caption_key and self.captions in (None, *SIDE_CARS):
            raise ValueError("caption_key names a key of rows: name their file by `captions`, like metadata.jsonl")
        return self


@dataclass
class Found:
    """The files below a folder, sorted; and what was left out, by its path from there."""

    files: list[Path] = field(default_factory=list)
    hidden: list[str] = field(default_factory=list)  # files and folders whose names `is_junk` knows
    ignored: list[str] = field(default_factory=list)  # those that DVC ignores

    @property
    def images(self) -> list[Path]:
        """Those with the suffix of an image."""
        return [file for file in self.files if file.suffix.lower() in SUFFIXES]

    @property
    def others(self) -> list[Path]:
        """The rest."""
        return [file for file in self.files if file.suffix.lower() not in SUFFIXES]

    @property
    def notes(self) -> list[str]:
        """Sentences on what was left out."""
        return listed("hidden files or folders", self.hidden) + listed("files or folders ignored by DVC", self.ignored)


def read(entry: FolderEntry) -> Images:
    """Every image below the folder, sorted; its id is its path from there.

    With `classes` an image's label is the place of the folder it lies in (`cat/1.png`, `members/cat/1.png`) among them.
    Raises InputError naming a bad file, a file that may be an image but is not read, or a folder that is no class.
    """
    root = Path(entry.path)
    if not root.is_dir():
        raise InputError(f"{root}: not a folder")
    found = walk(root)
    if entry.captions is None:
        there = unread(found.images, found.others)
        advice = "in the dataset's entry would read captions from there"
        captions = Captions(None, [], [f"{what}: `captions: {key}` {advice}" for key, what in there.items()])
    else:
        captions = read_captions(root, found.images, found.others, entry.captions, entry.caption_key)
    used = {*captions.used}
    others = [file for file in found.others if file not in used]
    refuse_images(others)
    notes = found.notes + listed("files that are no images", _names(others, root)) + captions.notes
    if not found.images:
        raise InputError(f"{root}: no images in this folder ({'; '.join([*notes, ', '.join(sorted(SUFFIXES))])})")
    folders = [file.parent.name if file.parent != root else "" for file in found.images]
    labels: list[int | None] = [None] * len(folders)
    if entry.classes is not None:
        labels = numbered(found.images, folders, entry.classes)
    return read_files(found.images, labels, entry, entry.classes, notes, captions.texts)


def walk(root: Path) -> Found:
    """Every file below a folder that DVC sees and that is not hidden.  Links to files are followed.

    Raises InputError naming what DVC would not see change (a link to a folder), what is no file (a FIFO, which would
    be waited for for ever, a socket, a device), a link that leads nowhere, or a name that is no UTF-8.
    """
    found, waiting = Found(), [root]
    while waiting:
        for path in sorted(waiting.pop().iterdir()):
            name, place = path.name, shown(path.relative_to(root))
            if name == PLACEHOLDER:
                continue
            if is_junk(name):
                found.hidden.append(place)
            elif ignored(name):
                found.ignored.append(place)
            elif _is_folder(path):
                waiting.append(path)
            else:
                found.files.append(path)
    found.files.sort()
    found.hidden.sort()
    found.ignored.sort()
    return found


def is_junk(name: str) -> bool:
    """Whether a file or folder is hidden (`.DS_Store`, the `._1.png` of macOS), or of `JUNK`."""
    return name.startswith(".") or name.lower() in JUNK


def _is_folder(path: Path) -> bool:
    """Whether a path is a folder rather than a file.  Raises InputError where it is neither."""
    if shown(path) != str(path):
        raise InputError(f"{shown(path)}: its name is no UTF-8: rename it")
    try:
        mode = path.stat().st_mode
    except OSError as error:
        what = "a link that leads nowhere" if path.is_symlink() else "it cannot be looked at"
        raise InputError(f"{path}: {what} ({error.strerror}): mend it or take it away") from None
    if stat.S_ISDIR(mode):
        if path.is_symlink():
            raise InputError(
                f"{path}: a link to a folder, in which DVC would see no change: put the folder itself there, or name "
                "it as `path`"
            )
        return True
    if not stat.S_ISREG(mode):
        raise InputError(f"{path}: a FIFO, a socket or a device, no file: take it away")
    return False


def refuse_images(files: list[Path]) -> None:
    """Raise InputError for the first of some files that is an image all the same."""
    for file in files:
        if file.suffix.lower() in PHOTOS:
            extra = " or `pip install -e '.[heic]'`" if file.suffix.lower() in HEIC else ""
            raise InputError(
                f"{file}: {file.suffix} is not read: convert it, to PNG for instance, or take it away{extra}"
            )
        if kind := sniffed(file):
            raise InputError(
                f"{file}: is a {kind} image without the suffix of one and would be left out: rename it, or take it away"
            )


def shown(path: Path | str) -> str:
    """A path as text; bytes of it that are no UTF-8 as `\\xff`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def files(folder: Path) -> list[Path]:
    """Every image below a folder, sorted.  Raises InputError, as `walk` does."""
    return walk(folder).images


def numbered(files: list[Path], names: list[str], classes: list[str]) -> list[int | None]:
    """The place of each image's class, by name, among all.  files : the images.

    Raises InputError for a name that is not among them.
    """
    places: dict[str, int | None] = {name: place for place, name in enumerate(classes)}
    for file, name in zip(files, names, strict=True):
        if name not in places:
            found = f"its class is '{name}'" if name else "it lies in no folder of a class"
            known = ", ".join(classes[:10]) + (", ..." if len(classes) > 10 else "")
            raise InputError(f"{file}: {found}, and the classes are {known}: add it to `classes`, or take it away")
    return [places[name] for name in names]


def read_files(
    files: list[Path],
    labels: list[int | None],
    entry: Entry,
    classes: list[str] | None,
    notes: list[str],
    captions: list[str | None] | None = None,
) -> Images:
    """The images of files somewhere below the entry's folder.  Raises InputError naming a bad file."""
    ids = _names(files, Path(entry.path))
    pictures = (decode(file, str(file)) for file in files)
    pixels, odd = collate(pictures, len(files), entry, lambda number: str(files[number]))
    return Images(ids, pixels, labels, list(ids), captions, classes, notes + odd)


def _names(files: list[Path], root: Path) -> list[str]:
    return [file.relative_to(root).as_posix() for file in files]
