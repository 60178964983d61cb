"""Take a model from elsewhere, as a pipeline folder or with its own code, in whatever form it comes."""

from collections.abc import Callable
from pathlib import Path

from leakgauge.diffusion.adapters import fuse
from leakgauge.diffusion.own import copy_own
from leakgauge.diffusion.pipelines import check_pin, copy_pipeline, take_base, take_from_hub
from leakgauge.diffusion.pytorch_ddpm import pytorch_ddpm_pipeline
from leakgauge.errors import InputError
from leakgauge.options import Kind, TargetOptions


def take_model(
    kind: Kind, source: Path, options: TargetOptions, work: Path, made: Path, key: Callable[[str], str]
) -> tuple[Path, list[str]]:
    """Write the model to the folder `made`.

    kind : path, hub, adapter, python or pytorch_ddpm.  work : a folder for what is fetched.  key : what an option of
    section `target` is called in an error.  Returns where the model came from, and the names of its files that were not
    taken.  Raises InputError.
    """
    if kind == "hub":
        return _from_hub(options, work, made, key)
    if kind == "adapter":
        return source, _fused(source, options, work, made, key)
    if kind == "python":
        copy_own(source, made)
    elif kind == "pytorch_ddpm":
        pytorch_ddpm_pipeline(source).save_pretrained(made)
    else:
        return source, copy_pipeline(source, made, options, options.pickle)
    return source, []


def _from_hub(options: TargetOptions, work: Path, made: Path, key: Callable[[str], str]) -> tuple[Path, list[str]]:
    """The name of the repository, and the names of its files that were not taken."""
    if not options.hub:
        raise InputError(
            f"{key('hub')}: null, but `source: hub` needs {{repo: owner/name, revision: a commit's full hash}}"
        )
    try:
        not_taken = take_from_hub(options.hub, work / "hub", made, options, options.pickle)
    except InputError as error:
        raise InputError(f"{key('hub')}: {error}") from None
    return Path(options.hub.repo), not_taken


def _fused(adapter: Path, options: TargetOptions, work: Path, made: Path, key: Callable[[str], str]) -> list[str]:
    """The base with the adapter, and with others that go with it, fused into it.

    Returns the names of the files that were not taken, of the base and of adapters.
    """
    for option in ("variant", "leave_out", "pickle"):
        if getattr(options, option):
            raise InputError(
                f"{key(option)}: is of a pipeline, and {adapter} is an adapter; what its base takes is said in "
                f"{key('base').rpartition(': ')[2]}"
            )
    if not options.base:
        raise InputError(f"{key('base')}: null, but {adapter} needs its base")
    try:
        source, beside = take_base(options.base, work, made)
    except InputError as error:
        raise InputError(f"{key('base')}: {error}") from None
    not_taken = [*(f"{source}/{name}" for name in beside), *fuse(adapter, options.scale, made)]
    for other in options.adapters:
        try:
            check_pin(Path(other.path), other.sha256)
        except InputError as error:
            raise InputError(f"{key('adapters')}: {error}") from None
        not_taken += [f"{other.path}/{name}" for name in fuse(Path(other.path), other.scale, made, first=False)]
    return not_taken
