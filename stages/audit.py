"""audit: from a model, images that it was certainly not trained on, and images in question, to the report.

    python -m stages.audit mine --model my_pipeline --images photos --suspects asked
    python -m stages.audit mine --model my_pipeline --images photos --members 'members/*'

Has DVC keep what the audit reads (`dvc add`), so that colleagues can fetch it; writes entries into the registries
`datasets`, `targets` and `suspects` of params.yaml, as you would by hand; and runs `dvc repro`.  Change them as you
like and run `dvc repro` again: only what depends on the change is computed.
"""

import argparse
import io
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML, RoundTripRepresenter

from leakgauge.cli import NAME, NAME_RULE, execute, parser_of
from leakgauge.config import PARAMS, names
from leakgauge.datasets.folder import files
from leakgauge.errors import InputError, warn
from leakgauge.files import write_bytes

HUB = r"(?P<repo>[\w.-]+/[\w.-]+)@(?P<revision>[0-9a-f]{40})"
NULL = "tag:yaml.org,2002:null"
KEEP_LINES = 10_000  # columns, so that the YAML writer breaks no line


def audit(
    name: str,
    model: str,
    images: str,
    suspects: str | None,
    members: str | None,
    size: int | None,
    crop: str | None,
    colour: str | None,
    classes: str | None,
    entry_only: bool,
) -> None:
    """Write the entry `name` and compute its report.

    Raises InputError: for what cannot be audited before anything is written, and where `dvc repro` fails.
    """
    if not NAME.fullmatch(name):
        raise InputError(f"{name}: {NAME_RULE}")
    asked_about = f"{name}_suspects"
    for registry, new in (("datasets", name), ("datasets", asked_about), ("targets", name), ("suspects", name)):
        if new in names(registry):
            raise InputError(f"{PARAMS}: {registry}.{new}: is there already: take another name, or edit it by hand")
    if suspects and not Path(suspects).is_file() and not any(Path(suspects).rglob("*")):
        raise InputError(f"{suspects}: not found, or empty: --suspects names a folder or Parquet file of such images")
    model, images, suspects = _portable(model), _portable(images), suspects and _portable(suspects)
    conversions = {"size": size, "crop": crop, "colour": colour, "classes": classes.split(",") if classes else None}
    own = {key: value for key, value in conversions.items() if value is not None}
    entries: dict[str, dict[str, Any]] = {"datasets": {name: _images(Path(images), "--images") | own}, "targets": {}}
    if classes and entries["datasets"][name]["source"] != "folder":
        raise InputError(f"--classes: names folders of images, and {images} has Parquet files: put labels into `label`")
    target = {"images": name, **_model(model)}
    entries["targets"][name] = target | ({"members": members} if members else {})
    paths = [entries["datasets"][name]["path"], target["model"]]
    if suspects:
        found = _images(Path(suspects), "--suspects")
        alike = {key: value for key, value in own.items() if key != "classes" or found["source"] == "folder"}
        entries["datasets"][asked_about] = found | alike
        entries["suspects"] = {name: {"target": name, "images": asked_about}}
        paths.append(found["path"])
    if not entry_only:
        track(paths)
    _add(entries)
    wrote = [f"{registry}.{new}" for registry, added in entries.items() for new in added]
    print(f"{PARAMS}: wrote {', '.join(wrote)}", flush=True)
    if not entry_only and _dvc("repro"):
        raise InputError(f"dvc repro failed, see above: mend {name} in {PARAMS} and run `dvc repro`, which goes on")


def _portable(path: str) -> str:
    """A path in this folder relative to it, as another clone has it."""
    return str(Path(path).relative_to(Path.cwd())) if Path(path).is_relative_to(Path.cwd()) else path


def track(paths: list[str]) -> None:
    """Have DVC keep files and folders which neither Git nor DVC does: else `git push` and `dvc push` leave them out.

    What lies outside of the repository cannot be kept: a warning names it.  Raises InputError where `dvc add` fails.
    """
    try:
        root = Path(_git("rev-parse", "--show-toplevel").strip())
    except (OSError, subprocess.CalledProcessError):
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
        elif not _kept_by_dvc(path) and (_dvc("add", "--", path) or not _kept_by_dvc(path)):
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
    return subprocess.run(["git", "--literal-pathspecs", *words], check=True, capture_output=True, text=True).stdout


def _dvc(*words: str) -> int:
    """Its exit status."""
    return subprocess.run([sys.executable, "-m", "dvc", *words], check=False).returncode


def _images(path: Path, option: str) -> dict[str, Any]:
    """Where images come from: a Parquet file, a folder of images, or a folder of Parquet files."""
    if path.is_dir() and files(path):
        return {"source": "folder", "path": str(path)}
    if (path.suffix == ".parquet" and path.is_file()) or (path.is_dir() and any(path.rglob("*.parquet"))):
        return {"source": "parquet", "path": str(path)}
    raise InputError(f"{path}: no images there: {option} names a folder of images, a Parquet file, or several")


def _model(model: str) -> dict[str, Any]:
    """`model` of a target, and what else says where it comes from."""
    if found := re.fullmatch(HUB, model):
        return {"model": "leakgauge/diffusion/pipelines.py", "target": {"hub": found.groupdict()}}
    if any((Path(model) / name).is_file() for name in ("model_index.json", "flagfile.txt")):
        return {"model": model}
    raise InputError(
        f"{model}: has neither a diffusers pipeline (model_index.json) nor a pytorch-ddpm checkpoint (flagfile.txt); "
        "a pipeline on the Hub is owner/name@ and the full hash of a commit"
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


def _arguments() -> argparse.ArgumentParser:
    parser = parser_of(audit)
    add = parser.add_argument
    add("name", help=f"what to call the audit; {NAME_RULE}")
    add("--model", required=True, help="diffusers pipeline folder, owner/name@commit on the Hub, folder with ckpt.pt")
    add("--images", required=True, help="images it was certainly not trained on, from the same source as the others")
    add("--members", metavar="PATTERN", help="those of --images that it was trained on after all, like 'members/*'")
    add("--suspects", help="images in question: a folder or a Parquet file (default: there are none)")
    add("--size", type=int, help="resize all images to so many pixels a side")
    add("--crop", choices=["centre"], help="cut the middle square out first")
    add("--colour", choices=["rgb", "grey"], help="convert first")
    add("--classes", metavar="A,B,...", help="folders of --images that are classes, in the order of labels 0, 1, ...")
    add("--entry-only", action="store_true", help="write the entry; keep and compute nothing")
    return parser


if __name__ == "__main__":
    execute(audit, _arguments())
