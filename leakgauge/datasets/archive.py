"""An official archive: the user's own copy or a downloaded one, and in either case the very bytes that were published.

Downloads are kept in data/downloads/, where an archive that was fetched on another machine serves as well.
"""

import os
import shutil
import tarfile
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import IO
from urllib.request import urlopen

from tqdm import tqdm

from leakgauge.errors import InputError
from leakgauge.files import file_hash

DOWNLOADS = Path("data/downloads")
PATIENCE = 60  # seconds without an answer


@dataclass(frozen=True)
class Archive:
    """What was published where.  size : bytes."""

    url: str
    size: int
    sha256: str

    @property
    def name(self) -> str:
        """The name of the file."""
        return self.url.rpartition("/")[2]


def official(path: Path, archive: Archive) -> Path:
    """The archive at `path`; where that is a reader's source file, the one in data/downloads/, fetched if need be.

    Raises InputError if it cannot be fetched or is another file than was published.
    """
    downloaded = path.suffix == ".py"
    if downloaded:
        path = DOWNLOADS / archive.name
        if not path.exists():
            _download(archive, path)
    if not path.is_file():
        raise InputError(f"{path}: not found, or not a file: `path` must be {archive.name} from {archive.url}")
    if fault := _fault(path, archive):
        advice = "remove it, to have it downloaded again" if downloaded else "fetch it again"
        raise InputError(f"{path}: {fault}: it is cut short, damaged or another file: {advice}")
    return path


def opened(tar: tarfile.TarFile, name: str) -> IO[bytes]:
    """A file of an official archive, which is there: the checksum says so."""
    stream = tar.extractfile(name)
    assert stream is not None
    return stream


def _fault(path: Path, archive: Archive) -> str | None:
    """In what a file differs from what was published, if it does."""
    if (size := path.stat().st_size) != archive.size:
        return f"has {size} bytes, not the {archive.size} of {archive.url}"
    if (found := file_hash(path)) != archive.sha256:
        return f"has sha256 {found}, not the {archive.sha256} of {archive.url}"
    return None


def _download(archive: Archive, destination: Path) -> None:
    """Fetch, check and only then give the file its name.  Raises InputError."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    partial = destination.with_name(f".{archive.name}.{os.getpid()}.part")
    try:
        with (
            urlopen(archive.url, timeout=PATIENCE) as answer,
            tqdm.wrapattr(answer, "read", total=archive.size, desc=archive.name, disable=None) as counted,
            partial.open("wb") as stream,
        ):
            shutil.copyfileobj(counted, stream)
        if fault := _fault(partial, archive):
            raise OSError(f"what arrived {fault}")
        partial.replace(destination)
    except (OSError, HTTPException) as error:
        raise InputError(
            f"{archive.url}: cannot be downloaded ({error}): fetch it elsewhere and put it at {destination}"
        ) from None
    finally:
        partial.unlink(missing_ok=True)
