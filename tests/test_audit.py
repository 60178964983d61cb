"""The command that writes an audit's entry: what it writes, what it leaves alone, what it refuses."""

import difflib
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY, write_photos
from PIL import Image
from ruamel.yaml import YAML

from stages.audit import _arguments, audit
from stages.command import execute
from stages.datasets import Dataset
from stages.params import entry, target_entry
from stages.split import Split, section

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def desk(tmp_path, monkeypatch) -> Path:
    """The committed params.yaml, a pipeline's folder, photos and suspects."""
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text((REPOSITORY / "params.yaml").read_text())
    for folder in ("pipeline", "photos/members", "asked", "checkpoint"):
        Path(folder).mkdir(parents=True)
    Path("pipeline/model_index.json").write_text("{}")
    Path("checkpoint/flagfile.txt").write_text("")
    Image.new("L", (8, 8)).save("photos/members/a.png")
    return tmp_path


@pytest.fixture
def ask(desk, monkeypatch, capsys):
    """Run the command with these words, and return its exit status and what it said."""

    def run(*words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["audit", *words, "--entry-only"])
        try:
            execute(audit, _arguments())
        except SystemExit as stop:
            return int(stop.code or 0), capsys.readouterr().err.strip()
        return 0, ""

    return run


def test_the_entry_is_valid_and_says_what_was_asked(ask):
    assert ask("mine", "--model", "pipeline", "--images", "photos", "--members", "members/*", "--size", "32") == (0, "")
    dataset = entry("datasets", "mine", Dataset).root
    assert (dataset.source, dataset.path, dataset.suspects, dataset.size) == ("folder", "photos", "suspects/mine", 32)
    assert Path("suspects/mine").is_dir()
    target = target_entry("mine")
    assert (target.dataset, target.source, target.path) == ("mine", "path", "pipeline")
    split = section("split", Split, "mine")
    assert (split.member, split.auxiliary) == ("members/*", 0.6)


def test_without_members_none_is_known_and_the_suspects_are_those_named(ask):
    assert ask("mine", "--model", "pipeline", "--images", "photos", "--suspects", "asked") == (0, "")
    assert section("split", Split, "mine").member == 0
    assert entry("datasets", "mine", Dataset).root.suspects == "asked"


def test_everything_else_in_the_file_stays_as_it_is(ask):
    before = Path("params.yaml").read_text().splitlines()
    ask("mine", "--model", "pipeline", "--images", "photos")
    after = Path("params.yaml").read_text().splitlines()
    assert not [line for line in difflib.ndiff(before, after) if line.startswith(("-", "?"))]
    assert YAML(typ="safe").load("\n".join(after))["targets"]["digits_ddpm"]


@pytest.mark.parametrize(
    ("model", "source", "path"),
    [
        ("checkpoint", "pytorch_ddpm", "checkpoint"),
        (f"owner/name@{COMMIT}", "hub", "stages/diffusion/hub.py"),
    ],
)
def test_a_model_is_known_by_what_it_is(ask, model, source, path):
    assert ask("mine", "--model", model, "--images", "photos") == (0, "")
    target = target_entry("mine")
    assert (target.source, target.path) == (source, path)
    hub = {"repo": "owner/name", "revision": COMMIT}
    assert target.train_target == ({"hub": hub} if source == "hub" else {})


def test_a_parquet_file_and_a_folder_of_them_are_datasets(ask, random_images):
    Path("shards").mkdir()
    write_photos([1, 2], random_images[:2, 0], Path("shards/part-0.parquet"))
    for name, images in (("file", "shards/part-0.parquet"), ("folder", "shards")):
        assert ask(name, "--model", "pipeline", "--images", images) == (0, "")
        assert entry("datasets", name, Dataset).root.source == "parquet"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("digits", "--model", "pipeline", "--images", "photos"), "params.yaml: datasets.digits: is there already"),
        (("my audit", "--model", "pipeline", "--images", "photos"), "my audit: a name is letters, digits"),
        (("mine", "--model", "photos", "--images", "photos"), "photos: has neither a diffusers pipeline"),
        (("mine", "--model", "owner/name@main", "--images", "photos"), "owner/name@main: has neither"),
        (("mine", "--model", "pipeline", "--images", "asked"), "asked: no images there"),
        (("mine", "--model", "pipeline", "--images", "nowhere"), "nowhere: no images there"),
        (("mine", "--model", "pipeline", "--images", "photos", "--suspects", "nobody"), "nobody: not found"),
    ],
)
def test_what_cannot_be_audited_is_refused_and_nothing_is_written(ask, words, said):
    before = Path("params.yaml").read_bytes()
    status, line = ask(*words)
    assert status == 1
    assert said in line
    assert len(line.splitlines()) == 1
    assert Path("params.yaml").read_bytes() == before
