"""Files of a dataset on the Hugging Face Hub, at one commit for good; kept in the Hub client's own cache."""

from pathlib import Path
from typing import Annotated

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError
from pydantic import StringConstraints

from stages.command import InputError
from stages.files import file_hash
from stages.params import Options

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
            f"dataset {hub.repo} at {hub.revision}: cannot be had from the Hub: download {files} elsewhere, give its "
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
