"""Pipelines on the Hugging Face Hub, at one commit, so that the target is the same for everyone and for ever."""

import hashlib
import shutil
import sys
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HTTPError, LocalEntryNotFoundError
from huggingface_hub.utils import disable_progress_bars, filter_repo_objects, logging
from pydantic import Field

from stages.command import InputError
from stages.files import file_hash
from stages.params import Options


class HubPipeline(Options):
    """A repository of models, and which of its commits."""

    repo: str = Field(pattern=r"^[\w.-]+/[\w.-]+$")  # owner/name
    revision: str = Field(pattern=r"^[0-9a-f]{40}$")  # the commit's full hash: a branch could move


def download(pipeline: HubPipeline, pickle: str | None, leave_out: list[str], destination: Path) -> None:
    """Put the pipeline's JSON and safetensors, and the one pickle that is asked for by name, into `destination`.

    leave_out : patterns of files that are not fetched.  The others stay in the Hub's cache, so that another run needs
    no network.  Raises InputError if the Hub cannot be reached, does not have them, or if their bytes are not those it
    names.
    """
    patterns = ["*.json", "*.safetensors", "*.txt", *([pickle] if pickle else [])]
    cached = _cached(pipeline, patterns, leave_out)
    present = [file.relative_to(cached).as_posix() for file in sorted(cached.rglob("*")) if file.is_file()]
    # other programs may have cached others
    names = list(filter_repo_objects(present, allow_patterns=patterns, ignore_patterns=leave_out))
    if not pickle and not any(name.endswith(".safetensors") for name in names):
        raise InputError(
            f"{_place(pipeline)}: has no safetensors: if its weights are pickled, name their file in "
            "train_target.pickle, like unet/diffusion_pytorch_model.bin (it is read as tensors alone, never run)"
        )
    for name in names:
        blob = (cached / name).resolve()
        if _content_hash(blob) != blob.name:
            raise InputError(f"{_place(pipeline)}: {name} is damaged: delete {blob} and run again")
        (destination / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(blob, destination / name)


def _cached(pipeline: HubPipeline, patterns: list[str], leave_out: list[str]) -> Path:
    """The commit's folder in the Hub's cache, with its files of these patterns and perhaps others."""
    logging.set_verbosity_error()  # not a line for every retry
    if not sys.stderr.isatty():
        disable_progress_bars()
    place = _place(pipeline)
    offline = (
        f"download it where it can be (`hf download {pipeline.repo} --revision {pipeline.revision} "
        "--exclude '*.bin' --local-dir FOLDER`) and use `source: path`, `path: FOLDER`"
    )
    try:
        return Path(
            snapshot_download(
                pipeline.repo, revision=pipeline.revision, allow_patterns=patterns, ignore_patterns=leave_out
            )
        )
    except LocalEntryNotFoundError:
        raise InputError(f"{place}: the Hub cannot be reached: {offline}") from None
    except HfHubHTTPError as error:
        raise InputError(f"{place}: the Hub does not hand it out: {str(error).splitlines()[0]}") from None
    except (HTTPError, ValueError) as error:  # a proxy that refuses, a name that no repository has
        raise InputError(f"{place}: cannot be downloaded ({error}): {offline}") from None


def _place(pipeline: HubPipeline) -> str:
    return f"{pipeline.repo} at {pipeline.revision}"


def _content_hash(blob: Path) -> str:
    """What the Hub's cache names a file: its SHA-256 if it is stored as a large file, else its Git blob's SHA-1."""
    if len(blob.name) == 64:
        return file_hash(blob)
    content = blob.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
