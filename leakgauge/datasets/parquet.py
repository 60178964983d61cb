"""Parquet files with images, of this machine or of a dataset on the Hugging Face Hub.

Parquet in the Hub's layout, one row an image: a file, a folder of files, or files on the Hub.

The columns are those of `leakgauge/datasets/rows.py`. Images are read in batches, so that row groups may be of any
size.
"""

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Literal, Self

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError
from pydantic import StringConstraints, model_validator

from leakgauge.datasets.folder import Found, walk
from leakgauge.datasets.images import Entry, Images, listed
from leakgauge.datasets.rows import Tables, read_rows
from leakgauge.errors import InputError
from leakgauge.files import file_hash
from leakgauge.options import Options
from leakgauge.tables import read_batches, read_schema

SHA256_DIGITS = 64


class Hub(Options):
    """A dataset repository, `owner/name`, and one of its commits, 40 hex digits: a branch or tag could move."""

    repo: str
    revision: Annotated[str, StringConstraints(pattern="^[0-9a-f]{40}$")]


def fetch(hub: Hub, files: str) -> Path:
    """A folder with the files whose paths match the pattern, among others; downloaded unless they are there.

    Raises InputError where the Hub cannot be reached or has no such repository or commit, saying what to do.
    """
    try:
        folder = snapshot_download(hub.repo, repo_type="dataset", revision=hub.revision, allow_patterns=files)
    except (HfHubHTTPError, HFValidationError, HTTPError, OSError) as error:
        raise InputError(
            f"dataset {hub.repo} at {hub.revision}: the Hub does not deliver it: download {files} elsewhere, give its "
            f"folder as `path` and leave `hub` out ({type(error).__name__}: {error})"
        ) from None
    return Path(folder)


def verify(file: Path) -> None:
    """Compare a fetched file with its SHA-256, which the Hub client's cache names large files by.

    Small files that git itself keeps are named by their git hash, and not compared.  Raises InputError.
    """
    stored = file.resolve()
    if len(stored.name) == SHA256_DIGITS and file_hash(stored) != stored.name:
        raise InputError(f"{file}: its sha256 is not {stored.name}: it is damaged, remove {stored}")


class ParquetEntry(Entry):
    """An entry of the `datasets` registry.

    path : a file or a folder; with `hub` leakgauge/datasets/parquet.py.
    files : the pattern of the files' paths below the folder, or in the repository, where `*` matches `/` too.
    """

    source: Literal["parquet"]
    files: str = "*.parquet"
    hub: Hub | None = None

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if self.hub and Path(self.path).suffix != ".py":
            raise ValueError(f"path and hub name two places: keep {self.path}, or path: leakgauge/datasets/parquet.py")
        return self


def read(entry: ParquetEntry) -> Images:
    """The images in the order of the files' paths and their rows.

    Raises InputError naming the file and the column or image at fault.
    """
    files, notes = _files(entry)
    return read_rows(files, entry, notes, Tables(read_schema, read_batches))


def _files(entry: ParquetEntry) -> tuple[list[Path], list[str]]:
    """The file itself, or those of the folder or the repository, sorted; and notes on those that were left out.

    Raises InputError where there are none.  Of a repository only the files asked for are fetched: nothing is left out.
    """
    place = fetch(entry.hub, entry.files) if entry.hub else Path(entry.path)
    if not entry.hub and not place.is_dir():
        return [place], []
    found = walk(place) if place.is_dir() else Found()  # of a repository without such files nothing is fetched
    within = {file.relative_to(place).as_posix(): file for file in found.files}
    files = [file for name, file in within.items() if fnmatchcase(name, entry.files)]
    if not files:
        raise InputError(f"{place}: no files match '{entry.files}' (`files` in the dataset's entry of params.yaml)")
    if entry.hub:
        for file in files:
            verify(file)
        return files, []
    return files, found.notes + listed("other files", [name for name, file in within.items() if file not in files])
