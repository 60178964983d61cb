"""audit: from a model, images that it was certainly not trained on, and images in question, to the report.

    python -m stages.audit mine --model my_pipeline --images photos --suspects asked
    python -m stages.audit mine --model my_pipeline --images photos --members 'members/*'

Writes an entry into the registries `datasets` and `targets` of params.yaml, as you would by hand, and runs `dvc repro`.
Change the entry as you like and run `dvc repro` again: only what depends on the change is computed.
"""

import argparse
import io
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from stages.command import NAME, NAME_RULE, InputError, execute, parser_of
from stages.datasets.folder import files
from stages.files import write_bytes
from stages.params import PARAMS, SECTIONS, names

HUB = r"(?P<repo>[\w.-]+/[\w.-]+)@(?P<revision>[0-9a-f]{40})"
AUXILIARY = 0.6  # share of the images that were not used; the rest are holdout
NO_EXPERIMENTS: dict[str, Any] = {"bag_sizes": [], "timesteps": [], "auxiliary": [], "widths": []}
SUSPECTS = "suspects"  # a folder in it for each dataset
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
    entry_only: bool,
) -> None:
    """Write the entry `name` and compute its report.

    Raises InputError: for what cannot be audited before anything is written, and where `dvc repro` fails.
    """
    if not NAME.fullmatch(name):
        raise InputError(f"{name}: {NAME_RULE}")
    for registry in ("datasets", "targets"):
        if name in names(registry):
            raise InputError(f"{PARAMS}: {registry}.{name}: is there already: take another name, or edit it by hand")
    if suspects and not Path(suspects).exists():
        raise InputError(f"{suspects}: not found: --suspects names a folder or a Parquet file of images in question")
    conversions = {"size": size, "crop": crop, "colour": colour}
    dataset: dict[str, Any] = {**_images(Path(images)), "suspects": suspects or f"{SUSPECTS}/{name}"}
    dataset |= {key: value for key, value in conversions.items() if value is not None}
    split, (source, trained) = {"member": members or 0, "auxiliary": AUXILIARY, "holdout": "rest"}, _model(model)
    own = {"split": split, "train_target": trained, "sweep": NO_EXPERIMENTS}
    sections = {section: own.get(section, {}) for section in SECTIONS if section != "report"}
    if not suspects:
        Path(dataset["suspects"]).mkdir(parents=True, exist_ok=True)
        (Path(dataset["suspects"]) / ".gitkeep").touch()
    _add(name, dataset, {"dataset": name, **source, **sections})
    print(f"{PARAMS}: wrote datasets.{name} and targets.{name}", flush=True)
    if not entry_only and subprocess.run([sys.executable, "-m", "dvc", "repro"], check=False).returncode:
        raise InputError(f"dvc repro failed, see above: mend {name} in {PARAMS} and run `dvc repro`, which goes on")


def _images(path: Path) -> dict[str, str]:
    """Where images come from: a Parquet file, a folder of images, or a folder of Parquet files."""
    if path.is_dir() and files(path):
        return {"source": "folder", "path": str(path)}
    if (path.suffix == ".parquet" and path.is_file()) or (path.is_dir() and any(path.rglob("*.parquet"))):
        return {"source": "parquet", "path": str(path)}
    raise InputError(f"{path}: no images there: --images names a folder of images, a Parquet file, or several")


def _model(model: str) -> tuple[dict[str, str], dict[str, Any]]:
    """`source` and `path` of a target, and its section `train_target`."""
    if found := re.fullmatch(HUB, model):
        return {"source": "hub", "path": "stages/diffusion/hub.py"}, {"hub": found.groupdict()}
    folder = Path(model)
    if (folder / "model_index.json").is_file():
        return {"source": "path", "path": model}, {}
    if (folder / "flagfile.txt").is_file():
        return {"source": "pytorch_ddpm", "path": model}, {}
    raise InputError(
        f"{model}: has neither a diffusers pipeline (model_index.json) nor a pytorch-ddpm checkpoint (flagfile.txt); "
        "a pipeline on the Hub is owner/name@ and the full hash of a commit"
    )


def _add(name: str, dataset: dict[str, Any], target: dict[str, Any]) -> None:
    """Add an entry to both registries; comments and everything else stay as they are."""
    yaml = YAML()
    yaml.width, yaml.preserve_quotes = KEEP_LINES, True
    yaml.representer.add_representer(type(None), lambda writer, _: writer.represent_scalar(NULL, "null"))  # not ""
    params = yaml.load(PARAMS.read_text(encoding="utf-8"))
    params["datasets"][name], params["targets"][name] = dataset, target
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
    add("--suspects", help="images in question (default: those in suspects/NAME, which is made)")
    add("--size", type=int, help="resize all images to so many pixels a side")
    add("--crop", choices=["centre"], help="cut the middle square out first")
    add("--colour", choices=["rgb", "grey"], help="convert first")
    add("--entry-only", action="store_true", help="write the entry and compute nothing")
    return parser


if __name__ == "__main__":
    execute(audit, _arguments())
