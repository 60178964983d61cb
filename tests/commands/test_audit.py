"""The command that writes an audit's entry: what it writes, what it leaves alone, what it refuses."""

import difflib
import shutil
from pathlib import Path

import pytest
from conftest import REPOSITORY, write_photos
from PIL import Image
from pipeline import environment, git
from pipeline import run as do
from ruamel.yaml import YAML

from leakgauge.cli import errors_in_one_line
from leakgauge.commands import parser
from leakgauge.commands.audit import OF_BASE, OF_TARGET, named_after, prepare, wanted_entries
from leakgauge.commands.taking import account
from leakgauge.config import asked, entry, names, source_of, suspects_entry, target_entry
from leakgauge.datasets import Dataset
from leakgauge.files import file_hash
from leakgauge.options import BaseFolder, BaseOnHub, Split, TargetOptions
from stages.config import config

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
def ask(desk, capsys):
    """Write the entries that these words ask for, and return the exit status and what was said on stderr."""

    def run(*words: str, keep: bool = False) -> tuple[int, str]:
        values = vars(parser().parse_args(["audit", *words]))
        conversions = {name: values[name] for name in ("size", "crop", "colour", "classes")}
        conversions |= {name: values[name] for name in (*OF_TARGET, *OF_BASE, "run_code")}
        own = [values[name] for name in ("model", "images", "members", "suspects", "base")]
        try:
            with errors_in_one_line("leakgauge audit"):
                name = values["name"] or named_after(values["model"])
                wanted = wanted_entries(name, *own, conversions)
                account(wanted)
                prepare(wanted, keep)
        except SystemExit as stop:
            return int(stop.code or 0), capsys.readouterr().err.strip()
        return 0, capsys.readouterr().err.strip()

    return run


def test_a_base_is_pinned_by_its_hash_or_its_commit_and_must_be_a_pipeline(ask):
    shutil.copytree("pipeline", "before")
    assert ask("pipeline", "photos", "--name", "mine", "--base", "before") == (0, "")
    options = asked("target", TargetOptions, "mine")
    assert options.base == BaseFolder(path="before", sha256=file_hash(Path("before")))
    assert ask("pipeline", "photos", "--name", "ours", "--base", f"a/b@{'0' * 40}") == (0, "")
    assert asked("target", TargetOptions, "ours").base == BaseOnHub(repo="a/b", revision="0" * 40)
    status, said = ask("pipeline", "photos", "--name", "none", "--base", "photos")
    assert status == 1
    assert "photos: --base names a diffusers pipeline" in said


def test_how_the_model_is_taken_is_written_as_asked(ask):
    shutil.copytree("pipeline", "before")
    Path("lora.safetensors").write_bytes(b"")
    assert ask("pipeline", "photos", "--name", "mine", "--leave-out", "ema/*", "--leave-out", "old/*") == (0, "")
    assert asked("target", TargetOptions, "mine").leave_out == ["ema/*", "old/*"]
    assert ask("lora.safetensors", "photos", "--name", "lora", "--base", "before", "--scale", "0.5") == (0, "")
    assert asked("target", TargetOptions, "lora").scale == 0.5
    config("lora")
    assert source_of("lora").source == "adapter"


def test_a_base_and_an_adapter_s_base_are_taken_in_their_own_way(ask):
    shutil.copytree("pipeline", "before")
    Path("before/ema.safetensors").write_bytes(b"")
    Path("lora.safetensors").write_bytes(b"")
    lora, pipeline = ("lora.safetensors", "photos", "--base", "before"), ("pipeline", "photos", "--base", "before")
    for words in (lora, pipeline):
        assert "name it in target.base.leave_out: ['ema.safetensors']" in ask(*words, "--name", "mine")[1]
        name = Path(words[0]).stem
        assert ask(*words, "--name", name, "--base-leave-out", "ema.safetensors") == (0, "")
        options = asked("target", TargetOptions, name)
        assert (options.base.leave_out, options.leave_out) == (["ema.safetensors"], [])
    said = ask(*lora, "--name", "mine", "--leave-out", "ema.safetensors")[1]
    assert "lora.safetensors: is an adapter: its base is taken by --base-variant and --base-leave-out" in said
    assert "which --base names" in ask("pipeline", "photos", "--name", "mine", "--base-variant", "fp16")[1]


def test_what_would_be_left_out_of_a_model_is_refused_before_an_entry_is_written(ask):
    weights = Path("pipeline/unet_ema/diffusion_pytorch_model.safetensors")
    weights.parent.mkdir()
    weights.write_bytes(b"")
    before = Path("params.yaml").read_bytes()
    status, said = ask("pipeline", "photos", "--name", "mine")
    assert (status, len(said.splitlines())) == (1, 1)
    assert "pipeline: unet_ema/diffusion_pytorch_model.safetensors are weights beside those that are taken" in said
    assert Path("params.yaml").read_bytes() == before
    assert ask("pipeline", "photos", "--name", "mine", "--leave-out", "unet_ema/*") == (0, "")


def test_every_file_of_a_model_is_said_to_be_taken_or_not(ask, capsys):
    for name in ("scheduler/scheduler_config.json", "logs/a/events", "logs/b/events", "README.md"):
        file = Path("pipeline") / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("{}")
    account(wanted_entries("mine", "pipeline", "photos", None, None, None, {}))
    assert capsys.readouterr().out == "pipeline: taken: scheduler\npipeline: not taken: README.md, logs/\n"


def test_every_file_of_an_adapters_folder_is_said_to_be_taken_or_not(ask, capsys):
    for name in ("pytorch_lora_weights.safetensors", "checkpoint-500/optimizer.bin", "README.md"):
        file = Path("lora") / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("")
    account(wanted_entries("mine", "lora", "photos", None, None, "pipeline", {}))
    said = capsys.readouterr().out
    assert said.startswith(
        "lora: taken: pytorch_lora_weights.safetensors\nlora: not taken: README.md, checkpoint-500/\n"
    )
    Path("lora/style.safetensors").write_text("")
    before = Path("params.yaml").read_bytes()
    status, line = ask("lora", "photos", "--name", "mine", "--base", "pipeline")
    assert (status, len(line.splitlines())) == (1, 1)
    assert "lora: holds style.safetensors beside pytorch_lora_weights.safetensors: name the one file that is" in line
    assert Path("params.yaml").read_bytes() == before


def test_the_entry_is_valid_and_says_what_was_asked(ask):
    assert ask("pipeline", "photos", "--name", "mine", "--members", "members/*", "--size", "32") == (0, "")
    dataset = entry("datasets", "mine", Dataset).root
    assert (dataset.source, dataset.path, dataset.size) == ("folder", "photos", 32)
    config("mine")
    source = source_of("mine")
    assert (source.images, source.source, source.model) == ("mine", "path", "pipeline")
    split = asked("split", Split, "mine")
    assert (split.member, split.auxiliary) == ("members/*", 0.6)
    assert names("suspects") == []


def test_classes_are_taken_in_the_order_given(ask):
    words = ("pipeline", "photos", "--name", "mine", "--classes", "dog,cat")
    assert ask(*words) == (0, "")
    assert entry("datasets", "mine", Dataset).root.classes == ["dog", "cat"]


def test_the_command_leaves_other_writers_of_yaml_as_they_are(ask, tmp_path):
    assert ask("pipeline", "photos", "--name", "mine") == (0, "")
    with Path("other.yaml").open("w") as stream:
        YAML().dump({"index": None}, stream)
    assert Path("other.yaml").read_text() == "index:\n"


def test_without_members_none_is_known_and_the_suspects_are_those_named(ask):
    Image.new("L", (8, 8)).save("asked/b.png")
    words = ("pipeline", "photos", "--name", "mine", "--suspects", "asked", "--size", "32")
    assert ask(*words) == (0, "")
    config("mine")
    assert asked("split", Split, "mine").member == 0
    assert vars(suspects_entry("mine")) == {"target": "mine", "images": "mine_suspects"}
    suspects = entry("datasets", "mine_suspects", Dataset).root
    assert (suspects.source, suspects.path, suspects.size) == ("folder", "asked", 32), "converted like the others"


def test_suspects_may_be_a_parquet_file_and_their_labels_are_in_it(ask, random_images):
    write_photos([1, 2], random_images[:2, 0], Path("asked/part-0.parquet"))
    words = ("pipeline", "photos", "--name", "mine", "--suspects", "asked/part-0.parquet")
    assert ask(*words, "--classes", "dog,cat") == (0, "")
    suspects = entry("datasets", "mine_suspects", Dataset).root
    assert (suspects.source, suspects.path) == ("parquet", "asked/part-0.parquet")
    assert entry("datasets", "mine", Dataset).root.classes == ["dog", "cat"]


def test_paths_in_the_repository_are_written_as_another_clone_has_them(ask, desk):
    Image.new("L", (8, 8)).save("asked/b.png")
    words = (f"{desk}/pipeline", f"{desk}/photos", "--suspects", f"{desk}/asked")
    assert ask(*words, "--name", "mine") == (0, "")
    paths = [entry("datasets", name, Dataset).root.path for name in ("mine", "mine_suspects")]
    assert [target_entry("mine").model, *paths] == ["pipeline", "photos", "asked"]


def test_everything_else_in_the_file_stays_as_it_is(ask):
    before = Path("params.yaml").read_text().splitlines()
    ask("pipeline", "photos", "--name", "mine")
    after = Path("params.yaml").read_text().splitlines()
    assert not [line for line in difflib.ndiff(before, after) if line.startswith(("-", "?"))]
    assert YAML(typ="safe").load("\n".join(after))["targets"]["digits_ddpm"]


@pytest.mark.parametrize(
    ("model", "source", "path"),
    [
        ("checkpoint", "pytorch_ddpm", "checkpoint"),
        (f"owner/name@{COMMIT}", "hub", "leakgauge/diffusion/pipelines.py"),
    ],
)
def test_a_model_is_known_by_what_it_is(ask, model, source, path):
    assert ask(model, "photos", "--name", "mine") == (0, "")
    config("mine")
    found = source_of("mine")
    assert (found.source, found.model) == (source, path)
    hub = {"repo": "owner/name", "revision": COMMIT}
    assert target_entry("mine").target == ({"hub": hub} if source == "hub" else {})


def test_a_parquet_file_and_a_folder_of_them_are_datasets(ask, random_images):
    Path("shards").mkdir()
    write_photos([1, 2], random_images[:2, 0], Path("shards/part-0.parquet"))
    for name, images in (("file", "shards/part-0.parquet"), ("folder", "shards")):
        assert ask("pipeline", images, "--name", name) == (0, "")
        assert entry("datasets", name, Dataset).root.source == "parquet"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("pipeline", "photos", "--name", "digits"), "params.yaml: datasets.digits: is there already"),
        (("pipeline", "photos", "--name", "my audit"), "my audit: a name is letters, digits"),
        (("photos", "photos", "--name", "mine"), "photos: has neither a diffusers pipeline"),
        (("owner/name@main", "photos", "--name", "mine"), "owner/name@main: has neither"),
        (("model.pt", "photos"), "model.pt: is a pickle, which is not opened"),
        (("run/ema.pkl", "photos", "--run-code"), "run/ema.pkl: is a pickle, which is not opened"),
        (("last.ckpt", "photos", "--base", "pipeline"), "examples/ has those for other training codes), or a base"),
        (("pipeline", "asked", "--name", "mine"), "asked: no images there"),
        (("pipeline", "nowhere", "--name", "mine"), "nowhere: no images there"),
        (("pipeline", "photos", "--name", "mine", "--suspects", "missing"), "missing: not found"),
        (("pipeline", "photos", "--name", "mine", "--suspects", "asked"), "asked: not found, or empty"),
    ],
)
def test_what_cannot_be_audited_is_refused_and_nothing_is_written(ask, words, said):
    before = Path("params.yaml").read_bytes()
    status, line = ask(*words)
    assert status == 1
    assert said in line
    assert len(line.splitlines()) == 1
    assert Path("params.yaml").read_bytes() == before


@pytest.fixture
def repository(desk, monkeypatch) -> Path:
    """The desk as a repository of Git and DVC without a stage; photos and so on are untracked."""
    monkeypatch.setenv("PATH", environment()["PATH"])
    Path(".gitignore").write_text((REPOSITORY / ".gitignore").read_text())
    Path("dvc.yaml").write_text("stages: {}\n")
    git(desk, "init", "--quiet")
    do(desk, "dvc", "init", "--quiet")
    git(desk, "add", ".gitignore", ".dvc", "params.yaml", "dvc.yaml")
    git(desk, "commit", "--quiet", "--message", "start")
    return desk


def in_git(folder: Path) -> set[str]:
    return set(git(folder, "ls-files").splitlines())


def test_inputs_that_neither_git_nor_dvc_keeps_are_kept_by_dvc_and_git_is_left_with_their_names(ask, repository):
    before = in_git(repository)
    for folder in ("found/asked", "models/theirs"):
        Path(folder).mkdir(parents=True)
    Path("pipeline/model_index.json").rename("models/theirs/model_index.json")
    Image.new("L", (8, 8)).save("found/asked/b.png")
    words = ("models/theirs", "photos", "--name", "mine", "--suspects", "found/asked")
    assert ask(*words, keep=True)[0] == 0
    shutil.rmtree("pipeline")
    git(repository, "add", "--all")
    new = in_git(repository) - before - {"dvc.lock"}
    kept_by_git = {"found/.gitignore", "checkpoint/flagfile.txt"}
    assert new == {"photos.dvc", "found/asked.dvc", "models/theirs.dvc", *kept_by_git}
    kept = {path.read_bytes() for path in Path(".dvc/cache/files/md5").rglob("*") if path.is_file()}
    assert {Path(name).read_bytes() for name in ("photos/members/a.png", "models/theirs/model_index.json")} <= kept


def test_what_git_or_dvc_keeps_already_is_left_alone_and_what_lies_outside_is_told(ask, repository, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    Path("pipeline/model_index.json").rename(outside / "model_index.json")
    git(repository, "add", "checkpoint")
    Image.new("L", (8, 8)).save("photos/asked.png")
    words = (str(outside), "photos", "--suspects", "photos/members")
    status, said = ask(*words, "--name", "mine", keep=True)
    assert status == 0
    assert f"warning: {outside}: lies outside of the repository: `dvc push` does not share it" in said
    assert [path.name for path in Path().rglob("?*.dvc") if path.is_file()] == ["photos.dvc"], "suspects lie in photos"
    Path("checkpoint/new").touch()
    status, said = ask("checkpoint", "photos", "--name", "again", keep=True)
    assert status == 0
    assert "warning: checkpoint: Git keeps it, but not checkpoint/new: `git add` that, or colleagues lack it" in said
    assert not Path("checkpoint.dvc").exists()


def test_what_dvc_cannot_keep_is_refused_and_nothing_is_written(ask, repository):
    Path("data/deep/photos").mkdir(parents=True)
    Image.new("L", (8, 8)).save("data/deep/photos/a.png")
    before = Path("params.yaml").read_bytes()
    status, said = ask("pipeline", "data/deep/photos", "--name", "mine", keep=True)
    assert status == 1
    assert "data/deep/photos: `dvc add` failed, see above: nothing was written into params.yaml" in said
    assert Path("params.yaml").read_bytes() == before


def test_outside_of_a_git_repository_an_audit_is_refused_in_one_line(ask, desk, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(desk.parent))
    before = Path("params.yaml").read_bytes()
    status, said = ask("pipeline", "photos", "--name", "mine", keep=True)
    assert (status, len(said.splitlines())) == (1, 1)
    assert f"{desk}: no clone of a Git repository (a source archive?), which DVC needs: clone it" in said
    assert Path("params.yaml").read_bytes() == before
