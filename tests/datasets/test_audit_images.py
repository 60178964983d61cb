"""`leakgauge audit` knows images by what lies there, and passes on how they are to be read."""

import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import encoded, tiny_params, write_params

from leakgauge.cli import errors_in_one_line, read_yaml
from leakgauge.commands import parser
from leakgauge.commands.audit import run

PNG = encoded(np.full((4, 4), 7, np.uint8))


@pytest.fixture
def ask(tmp_path, monkeypatch, capsys):
    """The datasets that `leakgauge audit pipeline WORDS --entry-only` writes, and what it says."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("leakgauge.commands.audit.need_project", lambda: None)
    write_params(tiny_params())
    for path, data in {"pipeline/model_index.json": b"{}", "photos/1.png": PNG, "dvc.yaml": b"stages: {}"}.items():
        Path(path).parent.mkdir(exist_ok=True)
        Path(path).write_bytes(data)

    def audit(*words: str) -> tuple[dict[str, Any], str]:
        values = vars(parser().parse_args(["audit", "pipeline", *words, "--name", "mine", "--entry-only"]))
        for name in ("command", "debug"):
            values.pop(name)
        try:
            with errors_in_one_line("leakgauge audit"):
                run(**values)
        except SystemExit:
            return {}, capsys.readouterr().err
        return read_yaml(Path("params.yaml"), "here")["datasets"], capsys.readouterr().out

    return audit


def write_tar(path: str) -> None:
    Path(path).parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w") as tar:
        member = tarfile.TarInfo("a.png")
        member.size = len(PNG)
        tar.addfile(member, io.BytesIO(PNG))


def test_tars_and_saved_datasets_are_known(ask):
    write_tar("one.tar")
    write_tar("shards/00000.tar")
    Path("saved").mkdir()
    Path("saved/state.json").write_text("{}")
    assert ask("one.tar")[0]["mine"] == {"source": "webdataset", "path": "one.tar"}
    for path, source in {"shards": "webdataset", "saved": "arrow", "photos": "folder"}.items():
        write_params(tiny_params())
        assert ask(path, "--suspects", path)[0]["mine_suspects"] == {"source": source, "path": path}


def test_captions_beside_images_are_said_and_read_where_they_are_asked_for(ask):
    Path("photos/metadata.jsonl").write_text("{}")
    Path("photos/1.txt").write_text("x")
    datasets, said = ask("photos")
    assert "captions" not in datasets["mine"]
    assert "photos: metadata.jsonl lies beside the images: --captions metadata.jsonl reads captions" in said
    assert "photos: 1 .txt named like images: --captions txt reads captions from there" in said
    write_params(tiny_params())
    assert ask("photos", "--captions", "metadata.jsonl")[0]["mine"]["captions"] == "metadata.jsonl"


def test_conversions_are_passed_on_to_the_suspects_too(ask):
    write_tar("asked.tar")
    words = (
        "--size",
        "8",
        "--square",
        "crop",
        "--resample",
        "bilinear",
        "--orientation",
        "follow",
        "--captions",
        "txt",
    )
    datasets, _ = ask("photos", "--suspects", "asked.tar", *words)
    keys = {"size": 8, "square": "crop", "resample": "bilinear", "orientation": "follow"}
    assert datasets["mine"] == {"source": "folder", "path": "photos", "captions": "txt"} | keys
    assert datasets["mine_suspects"] == {"source": "webdataset", "path": "asked.tar"} | keys


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("photos", "--square", "crop"),
            "datasets.mine: Value error, square and resample say how to resize: add `size`",
        ),
        (("one.tar", "--captions", "txt"), "datasets.mine.captions: unknown key"),
        (("photos", "--size", "0"), "datasets.mine.size: Input should be greater than 0"),
        (("empty",), "empty: no images there: IMAGES names a folder of images, a Parquet file, a .tar, or several"),
    ],
)
def test_what_contradicts_itself_is_refused_and_nothing_is_written(words, said, ask):
    write_tar("one.tar")
    Path("empty").mkdir()
    before = Path("params.yaml").read_bytes()
    datasets, line = ask(*words)
    assert not datasets
    assert said in line
    assert len(line.splitlines()) == 1
    assert Path("params.yaml").read_bytes() == before
