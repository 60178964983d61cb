"""A walk through pages of the documentation: their commands, run as written in a clone with what the pages ask for."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import peft
from conftest import REPOSITORY, dump_params, write_photos
from diffusers import UNet2DModel
from PIL import Image
from pipeline import TARGET, environment
from ruamel.yaml import YAML

DOCS = {path.relative_to(REPOSITORY).as_posix(): path.read_text() for path in (REPOSITORY / "docs").rglob("*.md")}
README = (REPOSITORY / "README.md").read_text()
# Each test walks its pages in this order, in a clone of its own; docs/guides/teams.md has its own test.
FIRST_STEPS = ["docs/get-started.md", "docs/guides/suspects.md", "docs/guides/canaries.md"]
COMPARISONS = [
    "docs/guides/release.md",
    "docs/guides/compare.md",
    "docs/reference/metrics.md",
    "docs/guides/gpu-and-clusters.md",
]
MODELS = ["docs/guides/models.md"]
NOT_RUN = {  # commands that no walk runs, and why; their targets are looked up in the Makefile
    "make repro": "installs into .venv; what it runs then is `leakgauge report`, which is walked",
    "make test": "runs this test; the gate of every landing runs it",
    "make fast": "runs tests within a test",
    "make studies": "an hour; tests/studies runs them small",
}


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def commands(text: str) -> list[str]:
    lines = [line.split("  #")[0].strip() for block in blocks(text, "sh") for line in block.splitlines()]
    return [line for line in lines if line]


def to_walk(texts: list[str]) -> list[str]:
    """The commands of some pages, each once."""
    lines = dict.fromkeys(line for text in texts for line in commands(text))
    return [line for line in lines if line not in NOT_RUN]


def walk(folder: Path, command: str) -> None:
    """Run a command as written.  Nothing that was computed of the target of the clone is computed again."""
    if command == ". .venv/bin/activate":
        assert "VENV := .venv" in (REPOSITORY / "Makefile").read_text()
        return
    done = subprocess.run(command, shell=True, cwd=folder, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    if command.endswith("dvc repro") or "leakgauge audit" in command:
        again = set(re.findall(rf"(?:Running stage '|\] )(\w+)@{TARGET}\b", done.stdout))
        assert again <= {"config"}, "what was there runs again"  # which sees that the registries still agree


def prepared(finished_clone: Path, folder: Path) -> Path:
    """A private clone with what the doors ask for: a pipeline, photos with members among them, images in question."""
    shutil.copytree(finished_clone, folder, symlinks=True)
    shutil.copytree(folder / f"models/target/{TARGET}", folder / "my_pipeline")
    network = UNet2DModel.from_pretrained(folder / "my_pipeline", subfolder="unet")
    adapter = peft.get_peft_model(network, peft.LoraConfig(r=2, target_modules=["conv1"], init_lora_weights=False))
    for epoch in (1, 2):
        adapter.save_pretrained(folder / f"epochs/epoch_{epoch}")
    for name, count in (("photos/members", 30), ("photos", 300), ("others", 280), ("asked", 20), ("new_photos", 20)):
        photos(folder / name, count)
    params = YAML(typ="safe").load((folder / "params.yaml").read_text())
    params["targets"][TARGET]["members"] = params["split"].pop("member")  # of this target alone, as in the repository
    dump_params(params, folder)
    return folder


def photos(folder: Path, count: int) -> None:
    """So many images of noise, others in every folder."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(len(str(folder)))
    for number in range(count):
        Image.fromarray(rng.integers(0, 255, (8, 8), dtype=np.uint8)).save(folder / f"{number}.png")


def scores_from_elsewhere(folder: Path) -> None:
    """What the section of that name asks for: images.parquet and scores.csv."""
    rng = np.random.default_rng(1)
    is_member = np.arange(340) < 40
    write_photos(list(range(340)), rng.integers(0, 255, (340, 8, 8, 3), dtype=np.uint8), folder / "images.parquet")
    scores = {"image_id": range(340), "is_member": is_member.astype(int), "loss": rng.lognormal(-1.0 * is_member)}
    pd.DataFrame(scores).to_csv(folder / "scores.csv", index=False)


def entry_in_docs(name: str) -> dict:
    """What the documentation shows of a target, or of a set: its entries by registry."""
    shown = [YAML(typ="safe").load(block) for text in DOCS.values() for block in blocks(text, "yaml")]
    return next(entries for entries in shown if name in entries.get("targets", entries.get("suspects", {})))


def entry_of(folder: Path, name: str) -> dict:
    """The same as it stands in params.yaml."""
    params = YAML(typ="safe").load((folder / "params.yaml").read_text())
    dataset = params["targets"][name]["images"]
    return {"datasets": {dataset: params["datasets"][dataset]}, "targets": {name: params["targets"][name]}}


def add_entry(folder: Path, name: str) -> None:
    """The entry that the documentation gives, in params.yaml."""
    params = YAML(typ="safe").load((folder / "params.yaml").read_text())
    for registry, added in entry_in_docs(name).items():
        params[registry] |= added
    dump_params(params, folder)
