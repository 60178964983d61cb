"""how much does a model leak, and was it trained on these images? from a model and images to the verdict

    leakgauge audit my_pipeline photos --members 'members/*'
    leakgauge audit my_pipeline photos --suspects asked --name mine
    leakgauge audit my_fine_tune photos --members 'members/*' --base my_pipeline
    leakgauge audit my_lora.safetensors photos --members 'members/*' --base my_pipeline
    leakgauge audit epochs photos --members 'members/*' --base my_pipeline

MODEL is a diffusers pipeline folder, owner/name@commit on the Hugging Face Hub, a LoRA or another adapter, or a folder
with ckpt.pt and flagfile.txt; or a folder of pipelines or adapters, one an epoch: leakage against epochs.  IMAGES are
images of its size that it was certainly not trained on, from the same source as the others; --members says which of
them it was trained on after all, --suspects where images in question are.  A fine-tune leaks more than shows without
--base, the model that it was fine-tuned from; an adapter needs it.

Has DVC keep what the audit reads (`dvc add`), so that colleagues can fetch it; writes entries into the registries
`datasets`, `targets` and `suspects` of params.yaml, as you would by hand; says what the audit takes, and computes it.
The same command again goes on where it was stopped.  Change the entries as you like and run `leakgauge report`: only
what depends on the change is computed.
"""

import argparse
import io
import re
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML, RoundTripRepresenter

from leakgauge.cli import NAME, NAME_RULE, read_yaml
from leakgauge.commands import epochs, gate, show
from leakgauge.commands.code import git
from leakgauge.commands.estimate import estimate
from leakgauge.commands.pipeline import dvc, need_project, reproduce, stale_runs
from leakgauge.commands.taking import account
from leakgauge.config import PARAMS, PICKLED, is_pickle, kind_of, models_in
from leakgauge.errors import InputError, warn
from leakgauge.files import file_hash, write_bytes

OF_TARGET = ("variant", "leave_out", "pickle", "scale")  # options of how the model is taken
OF_BASE = {"base_variant": "variant", "base_leave_out": "leave_out"}  # and its base
OF_FOLDERS = ("classes", "captions")  # options of folders of images alone
HUB = r"(?P<repo>[\w.-]+/[\w.-]+)@(?P<revision>[0-9a-f]{40})"
NULL = "tag:yaml.org,2002:null"
KEEP_LINES = 10_000  # columns, so that the YAML writer breaks no line
Entries = dict[str, dict[str, dict[str, Any]]]  # registry -> name -> entry


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add those of this command."""
    add = parser.add_argument
    add("model", metavar="MODEL", help="the model under audit")
    add("images", metavar="IMAGES", help="a folder of images, a Parquet file or a WebDataset .tar, or a folder of such")
    add("--members", metavar="PATTERN", help="those of IMAGES that the model was trained on, like 'members/*'")
    add("--suspects", metavar="PATH", help="images in question, as IMAGES may be")
    model_arguments(parser)
    add("--name", help=f"what to call the audit (default: after the model); {NAME_RULE}")
    size_arguments(parser)
    add("--orientation", choices=["follow"], help="turn images as their EXIF says")
    add("--classes", metavar="A,B,...", help="folders of IMAGES that are classes, in the order of labels 0, 1, ...")
    add(
        "--captions",
        metavar="FILE",
        help="of a folder: metadata.jsonl, metadata.csv, or txt (caption) for a.txt beside a.png",
    )
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--entry-only", action="store_true", help="write the entries; keep and compute nothing")
    only.add_argument("--estimate-only", action="store_true", help="stop when it is known what the audit takes")
    gate.arguments(parser)


def model_arguments(parser: argparse.ArgumentParser) -> None:
    """Add those that say how a model is taken; see `taking_of`."""
    add = parser.add_argument
    add("--base", metavar="MODEL", help="what the model was fine-tuned from: a pipeline folder or owner/name@commit")
    add("--variant", help="of a pipeline: which weights, where a part has several: like non_ema, or fp16")
    add("--leave-out", metavar="PATTERN", action="append", help="of a pipeline: files that are no part of the model")
    add("--base-variant", metavar="VARIANT", help="as --variant, of the base")
    add("--base-leave-out", metavar="PATTERN", action="append", help="as --leave-out, of the base")
    add("--pickle", metavar="FILE", help="of a pipeline: the pickled weights to take, as tensors alone")
    add("--scale", type=float, help="of an adapter: by which it is fused into its base (default: 1.0)")
    add("--run-code", action="store_true", help="MODEL has a model.py of your own: run it, by nothing confined")


def size_arguments(parser: argparse.ArgumentParser) -> None:
    """Add those that say how images are brought to a model's size."""
    add = parser.add_argument
    add("--size", type=int, help="resize all images to so many pixels a side")
    add("--crop", choices=["centre"], help="cut the middle square out first")
    add("--square", choices=["crop", "stretch"], help="make squares of other images: cut after --size, or stretch")
    add("--resample", choices=["lanczos", "bicubic", "bilinear", "nearest"], help="the filter of --size")
    add("--colour", choices=["rgb", "grey"], help="convert first")


def run(
    model: str,
    images: str,
    members: str | None = None,
    suspects: str | None = None,
    base: str | None = None,
    name: str | None = None,
    entry_only: bool = False,
    estimate_only: bool = False,
    fail_above: list[gate.Ceiling] | None = None,
    **conversions: Any,
) -> int:
    """Write the entries and compute the verdict; returns the exit status.

    conversions : size, crop, colour and so on, None where they were not asked for.  Raises InputError: for what
    cannot be audited before anything is written, and where `dvc repro` fails.
    """
    need_project()
    name = name or named_after(model)
    wanted = wanted_entries(name, model, images, members, suspects, base, conversions)
    targets = list(wanted["targets"])
    account(wanted)
    prepare(wanted, keep=not entry_only)
    if entry_only:
        return 0
    gate.check_levels(targets, fail_above or [])
    first = [*(f"images@{dataset}" for dataset in wanted["datasets"])]
    first += [f"{stage}@{target}" for target in targets for stage in ("check", "base", "target")]
    reproduce(first, stale_runs(first))
    stale = stale_runs(["report"])
    seconds: dict[str, float] = {}
    for target in targets:
        found = estimate(target, stale)
        seconds |= found.seconds
        print("\n".join([*([f"{target}:"] if len(targets) > 1 else []), *found.sentences()]), flush=True)
    if estimate_only:
        return 0
    reproduce(["report"], stale, seconds)
    show.verdicts(targets)
    if len(targets) > 1 and members:
        epochs.curve(name, targets)
    return gate.status(targets, fail_above or [])


def prepare(wanted: Entries, keep: bool = True) -> None:
    """Write the entries of an audit into params.yaml, and have DVC keep what they read.

    Raises InputError, with nothing written.
    """
    new = _new(wanted)
    if keep:
        targets = wanted["targets"].values()
        read = [*(entry["path"] for entry in wanted["datasets"].values()), *(entry["model"] for entry in targets)]
        bases = [entry.get("target", {}).get("base", {}) for entry in targets]
        track([*read, *(base["path"] for base in bases if "path" in base)])
    if new:
        _add(new)
        wrote = [f"{registry}.{key}" for registry, added in new.items() for key in added]
        print(f"{PARAMS}: wrote {', '.join(wrote)}", flush=True)


def named_after(model: str) -> str:
    """The name of an audit of this model: letters, digits and '_'."""
    last = re.sub(r"@[0-9a-f]{40}$", "", model.rstrip("/")).rpartition("/")[2]
    name = re.sub(r"\W+", "_", last, flags=re.ASCII).strip("_")
    if not name or not NAME.fullmatch(name):
        raise InputError(f"{model}: no name can be made of it: say --name; {NAME_RULE}")
    return name


def wanted_entries(
    name: str,
    model: str,
    images: str,
    members: str | None,
    suspects: str | None,
    base: str | None,
    conversions: dict[str, Any],
) -> Entries:
    """The entries of an audit.  Raises InputError for a name that is none, and paths without a model or images."""
    if not NAME.fullmatch(name):
        raise InputError(f"{name}: {NAME_RULE}")
    if suspects and not Path(suspects).is_file() and not any(Path(suspects).rglob("*")):
        raise InputError(f"{suspects}: not found, or empty: --suspects names a folder or Parquet file of such images")
    model, images, suspects = _portable(model), _portable(images), suspects and _portable(suspects)
    own = {key: value for key, value in conversions.items() if value is not None}
    taking, run_code = taking_of(base, own)
    classes = own.get("classes")
    own |= {"classes": classes.split(",")} if classes else {}
    entries: Entries = {"datasets": {name: _images(Path(images), "IMAGES") | own}}
    if classes and entries["datasets"][name]["source"] != "folder":
        raise InputError(f"--classes: names folders of images, and {images} is none: labels come with it")
    entries["targets"] = target_entries(name, model, members, taking, run_code)
    if suspects and len(entries["targets"]) > 1:
        raise InputError(f"{model}: holds {len(entries['targets'])} models: --suspects asks one of them")
    if suspects:
        found = _images(Path(suspects), "--suspects")
        alike = {key: value for key, value in own.items() if key not in OF_FOLDERS or found["source"] == "folder"}
        entries["datasets"][f"{name}_suspects"] = found | alike
        (target,) = entries["targets"]
        entries["suspects"] = {name: {"target": target, "images": f"{name}_suspects"}}
    return entries


def taking_of(base: str | None, options: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """How a model is taken, as options of section `target`; and whether its code is run.

    options : by name, those of `model_arguments` among them, which are taken out.  Raises InputError.
    """
    taking = {key: options.pop(key) for key in OF_TARGET if key in options}
    of_base = {OF_BASE[key]: options.pop(key) for key in OF_BASE if key in options}
    if of_base and not base:
        raise InputError("--base-variant and --base-leave-out: are of the base, which --base names")
    run_code = options.pop("run_code", False)
    return taking | ({"base": _base(_portable(base)) | of_base} if base else {}), run_code


def target_entries(
    name: str, model: str, members: str | None, taking: dict[str, Any], run_code: bool
) -> dict[str, dict[str, Any]]:
    """The target, or one for each of the models in a folder.  taking : options of section `target`."""
    several = models_in(Path(model))
    points = {f"{name}_{named_after(path.stem)}": str(path) for path in several}
    if len(points) < len(several):
        raise InputError(f"{model}: two of its models would have one name as targets: rename one")
    if several and (others := sorted({path.name for path in Path(model).iterdir()} - {path.name for path in several})):
        print(f"{model}: no models, not taken: {', '.join(others)}", flush=True)
    entries: dict[str, dict[str, Any]] = {}
    for target, path in (points or {name: model}).items():
        if "base" not in taking and kind_of(Path(path)) == "adapter":
            raise InputError(f"{path}: is an adapter: --base names the model that it was trained for")
        if {"variant", "leave_out", "pickle"} & {*taking} and kind_of(Path(path)) == "adapter":
            raise InputError(f"{path}: is an adapter: its base is taken by --base-variant and --base-leave-out")
        made: dict[str, Any] = {"images": name, **_model(path, run_code)}
        options = made.get("target", {}) | taking
        made |= {"target": options} if options else {}
        entries[target] = made | ({"members": members} if members else {})
    return entries


def _new(wanted: Entries) -> Entries:
    """Those that params.yaml lacks.  Raises InputError where it has another of the same name, and for datasets' keys
    that contradict each other.
    """
    new: Entries = {}
    for name, entry in wanted["datasets"].items():
        _check_dataset(name, entry)
    params = read_yaml(PARAMS, "the folder of an audit project")
    for registry, entries in wanted.items():
        there = params.get(registry) or {}
        for name, entry in entries.items():
            if name in there and _but_for_ceilings(there[name]) != entry:
                raise InputError(
                    f"{PARAMS}: {registry}.{name}: is there already, and differs: take another --name, or "
                    "edit it by hand and run `leakgauge report`"
                )
            if name not in there:
                new.setdefault(registry, {})[name] = entry
    return new


def _but_for_ceilings(entry: Any) -> Any:
    """An entry as an audit writes it: a ceiling that somebody added changes nothing of what is computed."""
    return {key: value for key, value in entry.items() if key != "fail_above"} if isinstance(entry, dict) else entry


def _check_dataset(name: str, entry: dict[str, Any]) -> None:
    """Raises InputError naming a key that is unknown, or contradicts another."""
    from leakgauge.config import validated
    from leakgauge.datasets import Dataset  # it needs seconds

    validated(Dataset, entry, lambda _: f"datasets.{name}")


def _portable(path: str) -> str:
    """A path in this folder relative to it, as another clone has it."""
    return str(Path(path).relative_to(Path.cwd())) if Path(path).is_relative_to(Path.cwd()) else path


def track(paths: list[str]) -> None:
    """Have DVC keep files and folders which neither Git nor DVC does: else `git push` and `dvc push` leave them out.

    What lies outside of the repository cannot be kept: a warning names it.  Raises InputError where `dvc add` fails.
    """
    try:
        root = Path(_git("rev-parse", "--show-toplevel").strip())
    except InputError:
        raise InputError(
            f"{Path.cwd()}: no clone of a Git repository (a source archive?), which DVC needs: clone it, "
            "or run `git init` here, before an audit"
        ) from None
    for path in sorted(set(paths), key=lambda path: len(Path(path).parts)):  # a folder before what lies in it
        if not Path(path).resolve().is_relative_to(root):
            warn(
                f"{path}: lies outside of the repository: `dvc push` does not share it, and who computes the audit "
                "again needs it at that path"
            )
        elif _git("ls-files", "--", path):
            if left_out := _git("ls-files", "--others", "--", path).splitlines():
                warn(f"{path}: Git keeps it, but not {left_out[0]}: `git add` that, or colleagues lack it")
        elif not _kept_by_dvc(path) and (dvc("add", "--quiet", "--", path) or not _kept_by_dvc(path)):
            raise InputError(f"{path}: `dvc add` failed, see above: nothing was written into {PARAMS}")


def _kept_by_dvc(path: str) -> bool:
    """Whether it is, or lies in, what a `.dvc` file or a stage puts out.  Raises InputError where DVC cannot tell."""
    from dvc.exceptions import DvcException, OutputNotFoundError
    from dvc.repo import Repo

    with Repo() as repo:
        try:
            return bool(repo.find_outs_by_path(str(Path(path).absolute()), strict=False))
        except OutputNotFoundError:
            return False
        except DvcException as error:
            raise InputError(str(error)) from None


def _git(*words: str) -> str:
    """What git prints; a path is a path, whatever signs are in it."""
    return git(Path(), "--literal-pathspecs", *words)


def _images(path: Path, option: str) -> dict[str, Any]:
    """Where images come from: `source` and `path`.  Prints which captions may be read with --captions.

    Raises InputError for a path without images.
    """
    from leakgauge.datasets.captions import unread  # they need seconds
    from leakgauge.datasets.folder import walk

    found = walk(path) if path.is_dir() else None
    if found and found.images:
        for key, what in unread(found.images, found.others).items():
            print(f"{path}: {what}: --captions {key} reads captions from there", flush=True)
        return {"source": "folder", "path": str(path)}
    if (path / "state.json").is_file():
        return {"source": "arrow", "path": str(path)}
    for suffix, source in ((".parquet", "parquet"), (".tar", "webdataset")):
        if (path.suffix == suffix and path.is_file()) or (path.is_dir() and any(path.rglob(f"*{suffix}"))):
            return {"source": source, "path": str(path)}
    raise InputError(
        f"{path}: no images there: {option} names a folder of images, a Parquet file, a .tar, or several, or one split "
        "that `save_to_disk` wrote; an entry of another source is written by hand"
    )


def _model(model: str, run_code: bool = False) -> dict[str, Any]:
    """`model` of a target, and what else says where it comes from."""
    if is_pickle(Path(model)):
        raise InputError(f"{model}: {PICKLED}")
    if run_code:
        return {"model": model, "source": "python"}
    if found := re.fullmatch(HUB, model):
        return {"model": "leakgauge/diffusion/pipelines.py", "target": {"hub": found.groupdict()}}
    if kind_of(Path(model)) in ("path", "adapter", "pytorch_ddpm") and Path(model).exists():
        return {"model": model}
    if (Path(model) / "model.py").is_file():
        raise InputError(f"{model}: has a model.py: --run-code runs it, by nothing confined; read it first")
    raise InputError(
        f"{model}: has neither a diffusers pipeline (model_index.json), nor an adapter (.safetensors, "
        "adapter_config.json), nor a pytorch-ddpm checkpoint (flagfile.txt); a pipeline on the Hub is owner/name@ and "
        "the full hash of a commit"
    )


def _base(model: str) -> dict[str, str]:
    """`target.base`: a repository at a commit, or a folder pinned by its hash."""
    if found := re.fullmatch(HUB, model):
        return found.groupdict()
    if (Path(model) / "model_index.json").is_file():
        return {"path": model, "sha256": file_hash(Path(model))}
    raise InputError(
        f"{model}: --base names a diffusers pipeline (a folder with model_index.json), or owner/name@ and the full "
        "hash of a commit"
    )


class SpeltOut(RoundTripRepresenter):
    """Writes what is not set as `null`, not as nothing; a class of its own, lest other writers do so too."""


SpeltOut.add_representer(type(None), lambda writer, _: writer.represent_scalar(NULL, "null"))


def _add(entries: dict[str, dict[str, Any]]) -> None:
    """Add entries, registry -> name -> entry; comments and everything else stay as they are."""
    yaml = YAML()
    yaml.width, yaml.preserve_quotes, yaml.Representer = KEEP_LINES, True, SpeltOut
    params = yaml.load(PARAMS.read_text(encoding="utf-8"))
    for registry, added in entries.items():
        if not params.get(registry):  # written as {}: a flow, which would stay one
            params[registry] = {}
        params[registry].update(added)
    stream = io.BytesIO()
    yaml.dump(params, stream)
    write_bytes(PARAMS, stream.getvalue())
