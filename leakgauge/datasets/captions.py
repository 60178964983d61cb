"""Captions of the images of a folder: rows of metadata.jsonl or metadata.csv, or a text file beside each image.

The layouts are those of Hugging Face's `imagefolder` (a key `file_name`, which counts from the folder that the file of
rows lies in) and of kohya's trainers (`a.png` and `a.txt` or `a.caption`, one line).  A name in a file of rows is never
opened: it is looked up among the images found below the folder.
"""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from leakgauge.datasets.images import CAPTION, counted, listed
from leakgauge.errors import InputError

SIDE_CARS = ("txt", "caption")  # suffixes of text files beside images
ROWS = ("metadata.jsonl", "metadata.csv")  # the names that `imagefolder` knows
FILE_NAME = "file_name"


@dataclass(frozen=True)
class Captions:
    """Captions of images.

    texts : one an image, or None where the entry names no captions.  used : the files they were read from.
    notes : sentences on what was not taken.
    """

    texts: list[str | None] | None
    used: list[Path]
    notes: list[str] = field(default_factory=list)


def read_captions(root: Path, images: list[Path], others: list[Path], captions: str, key: str | None) -> Captions:
    """The caption of every image, as a folder's entry names them.

    images, others : the files below the folder `root`.  captions : one of `SIDE_CARS`, or the name of files of rows.
    key : of the caption in a row; None for `caption` or `text`, whichever there is.  Raises InputError naming the file
    and the row.
    """
    if captions in SIDE_CARS:
        found = _side_cars(images, others, captions)
    else:
        found = _of_rows(root, images, [file for file in others if file.name == captions], captions, key)
    empty = sum(text == "" for text in found.texts or [])
    return Captions(found.texts, found.used, found.notes + ([f"{counted(empty)} with an empty caption"] * (empty > 0)))


def unread(images: list[Path], others: list[Path]) -> dict[str, str]:
    """What `captions` could name of the files in a folder -> a sentence on what lies there."""
    found = {name: f"{name} lies beside the images" for name in ROWS if any(file.name == name for file in others)}
    for suffix in SIDE_CARS:
        if side_cars := len({_side_car(image, suffix) for image in images} & {*others}):
            found[suffix] = f"{side_cars} .{suffix} named like images"
    return found


def rows_of_jsonl(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each row of a file of JSON lines, with the number of its line.  Raises InputError."""
    for line, text in enumerate(text_of(file).split("\n"), start=1):
        if text.strip():
            yield line, json_object(text, f"{file}: line {line}")


def json_object(text: str, name: str) -> dict[str, Any]:
    """A JSON object.  Raises InputError, which calls it `name`."""
    try:
        row = json.loads(text, object_pairs_hook=_distinct)
        json.dumps(row, ensure_ascii=False).encode()  # escaped, half of a surrogate pair passes for text
    except (ValueError, RecursionError) as error:
        raise InputError(f"{name}: not JSON in UTF-8: {error}") from None
    if not isinstance(row, dict):
        raise InputError(f"{name}: needs a JSON object")
    return row


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if twice := [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]:
        raise ValueError(f"key {twice[0]!r} is there twice")
    return dict(pairs)


def text_of(file: Path) -> str:
    """A text file, without the byte order mark that some editors write.  Raises InputError where it is not UTF-8."""
    return as_text(file.read_bytes(), str(file))


def as_text(data: bytes, name: str) -> str:
    """Bytes as text.  Raises InputError, which calls them `name`, and says in which line they are not UTF-8."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise InputError(f"{name}: line {line} is not UTF-8: save it as UTF-8") from None


def caption_of(row: dict[str, Any], key: str | None, name: str) -> tuple[str, str]:
    """The caption of a row, and the key it is under.  Raises InputError, which calls the row `name`."""
    keys = [key] if key else [known for known in CAPTION if known in row]
    if len(keys) > 1:
        raise InputError(f"{name}: has both 'caption' and 'text': name one by `caption_key` in the dataset's entry")
    if not keys or row.get(keys[0]) is None:
        wanted = repr(key) if key else " or ".join(map(repr, CAPTION))
        raise InputError(
            f"{name}: has no caption under {wanted} (there is {_keys(row)}): `caption_key` in the dataset's entry "
            "names the key"
        )
    caption = row[keys[0]]
    if not isinstance(caption, str):
        raise InputError(f"{name}: {keys[0]!r} is no text")
    return caption, keys[0]


def _side_cars(images: list[Path], others: list[Path], suffix: str) -> Captions:
    there, used = {*others}, [_side_car(image, suffix) for image in images]
    for image, file in zip(images, used, strict=True):
        if file not in there:
            raise InputError(f"{image}: has no caption: {file.name} is not beside it (`captions: {suffix}`)")
    texts: list[str | None] = []
    copies: list[Path] = []
    for image, file in zip(images, used, strict=True):
        text = _one_line(file)
        for copy in {_side_car(image, other) for other in SIDE_CARS} & there - {file}:
            if text_of(copy).strip() != text:
                raise InputError(
                    f"{image}: has two captions, {file.name} and {copy.name}: take away the one that the model was not "
                    "trained with"
                )
            copies.append(copy)
        texts.append(text)
    return Captions(texts, used + copies)


def _one_line(file: Path) -> str:
    """The caption that a file holds on its first line; what follows may be blank.

    Raises InputError for other text: kohya's trainers read the first line alone, or draw one (`enable_wildcard`),
    others read all of them.
    """
    first, *rest = re.split(r"\r\n|\r|\n", text_of(file))
    if texts := [number for number, line in enumerate(rest, start=2) if line.strip()]:
        also = "too" if first.strip() else "and none on line 1"
        raise InputError(
            f"{file}: has text on line {texts[0]}, {also}: trainers differ in which lines they read: write the caption "
            "that the model was trained with on the first line, and nothing below it"
        )
    return first.strip()


def _side_car(image: Path, suffix: str) -> Path:
    return image.with_suffix(f".{suffix}")


def _of_rows(root: Path, images: list[Path], files: list[Path], captions: str, key: str | None) -> Captions:
    if not files:
        raise InputError(f"{root}: has no {captions}, which `captions` in the dataset's entry names")
    names = [image.relative_to(root).as_posix() for image in images]
    found: dict[str, tuple[str, str]] = dict.fromkeys(names, ("", ""))  # image -> caption, and its row
    others: set[str] = set()
    for file in files:
        folder = PurePosixPath(file.relative_to(root).parent.as_posix())
        for line, row in rows_of_jsonl(file) if file.suffix == ".jsonl" else _rows_of_csv(file):
            here = f"{file}: line {line}"
            image = _image(row, folder, found, here)
            if found[image][1]:
                raise InputError(f"{here}: {image!r} has a caption already, in {found[image][1]}")
            caption, taken = caption_of(row, key, here)
            found[image] = caption, here
            others |= {str(other) for other in row} - {FILE_NAME, taken}
    if without := [name for name in names if not found[name][1]]:
        raise InputError(f"{root / without[0]}: has no caption: no row of {captions} names it ({len(without)} such)")
    return Captions([found[name][0] for name in names], files, listed(f"keys of {captions}", sorted(others)))


def _image(row: dict[str, Any], folder: PurePosixPath, images: dict[str, tuple[str, str]], here: str) -> str:
    """The id of the image that a row names.  Raises InputError where it names none below the folder."""
    name = row.get(FILE_NAME)
    if not isinstance(name, str):
        raise InputError(f"{here}: has no {FILE_NAME!r} (there is {_keys(row)})")
    image = (folder / name).as_posix()  # '..' stays, so that no way out of the folder is an image's id
    if image not in images:
        raise InputError(f"{here}: {FILE_NAME!r} is {name!r}, which is no image below its folder that is read")
    return image


def _rows_of_csv(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    rows = csv.DictReader(io.StringIO(text_of(file), newline=""), strict=True)
    try:
        if twice := [name for name, count in Counter(rows.fieldnames or ()).items() if count > 1]:
            raise InputError(f"{file}: has column {twice[0]!r} twice")
        for row in rows:
            if None in row or None in row.values():
                raise InputError(f"{file}: line {rows.line_num} has not as many fields as the first line")
            yield rows.line_num, row
    except csv.Error as error:
        raise InputError(f"{file}: line {rows.reader.line_num}: not CSV: {error}") from None


def _keys(row: dict[str, Any]) -> str:
    return ", ".join(map(repr, row)) or "nothing"
