"""A folder of images, searched to any depth: 8-bit grey or RGB, all of one size."""

from pathlib import Path

from tqdm import tqdm

from stages.command import InputError
from stages.datasets.images import Images, decode, stack

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp"}


def read(path: Path) -> Images:
    """Every image below `path`, sorted; its id is its path from there.  Raises InputError naming a bad file."""
    if not path.is_dir():
        raise InputError(f"{path}: not a folder")
    found = files(path)
    if not found:
        raise InputError(f"{path}: no images in this folder ({', '.join(sorted(SUFFIXES))})")
    images = [decode(file, str(file)) for file in tqdm(found, desc="read images", unit="image", disable=None)]
    ids = [file.relative_to(path).as_posix() for file in found]
    return Images(ids, stack(images, lambda number: str(found[number])), [None] * len(ids), list(ids))


def files(path: Path) -> list[Path]:
    """The images below `path`, sorted."""
    return sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES)
