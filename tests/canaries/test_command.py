"""leakgauge canaries: from photos to the answer, as a user types it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import REFERENCE
from families import write_family
from PIL import Image
from sklearn.datasets import load_digits

from leakgauge.commands import main
from leakgauge.diffusion.training import train
from leakgauge.files import file_hash
from leakgauge.options import Training
from leakgauge.scoring import Shards

MODEL = str(REFERENCE / "target")  # of 8x8 grey images


def command(*words: str) -> int:
    """Its exit status."""
    with pytest.raises(SystemExit) as ended:
        main(["canaries", *words])
    return ended.value.code


def take_photos(folder: Path, images: np.ndarray, side: int) -> None:
    """Write grey images, enlarged.  images : (N, 8, 8), levels 0 to 16."""
    folder.mkdir()
    for number, image in enumerate(np.round(images * 255 / 16).astype(np.uint8)):
        Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC).save(folder / f"{number}.png")


@pytest.fixture
def sealed(tmp_path, monkeypatch, capsys) -> str:
    """Five photos of 24x24 that were sealed; the SHA-256 that was printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("secrets.token_hex", lambda count: "7" * 2 * count)
    take_photos(Path("photos"), load_digits().images[:5], 24)
    assert command("seal", "photos", "--out", "publish", "--variants", "3") == 0
    said = capsys.readouterr()
    assert "publish: 5 images: publish these" in said.out
    assert "so few may not show" in said.err
    return said.out.split()[-1]


def ask(capsys, *words: str) -> dict:
    """The answer, as JSON."""
    capsys.readouterr()
    assert command("test", "publish_sealed", MODEL, "--size", "8", "--json", *words) == 0
    return json.loads(capsys.readouterr().out)


def test_a_model_is_asked_and_the_record_named_and_nothing_is_left_beside_it(sealed, capsys):
    before = file_hash(Path("publish_sealed"))
    found = ask(capsys)
    assert found["record_sha256"] == sealed == file_hash(Path("publish_sealed/record.json"))
    assert (found["images"], found["variants"]) == (5, 3)
    assert 3**-5 <= found["p_value"] <= 1
    assert 0 == found["epsilon"]["epsilon"] <= found["epsilon"]["most"]
    assert file_hash(Path("publish_sealed")) == before
    assert not list(Path(".partial").iterdir())
    assert command("test", "publish_sealed/record.json", MODEL, "--size", "8") == 0
    said = capsys.readouterr().out.splitlines()
    assert (
        said[0]
        == f"p-value       {found['p_value']:.2g}, of the hypothesis that {MODEL} was not trained on what was published"
    )
    assert said[3].endswith(f"{sealed}: compare it with the one that was time-stamped")


def test_a_killed_test_goes_on_with_the_variants_that_were_not_scored(sealed, capsys, monkeypatch):
    monkeypatch.setattr("leakgauge.canaries.scores.SHARD", 4)
    whole, saved, save = ask(capsys), [], Shards.save

    def stop_at_the_third(self: Shards, start: int, *rest: object) -> None:
        if len(saved) == 2:
            raise KeyboardInterrupt
        saved.append(start)
        save(self, start, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Shards, "save", stop_at_the_third)
        assert command("test", "publish_sealed", MODEL, "--size", "8") == 130
    assert "the same command goes on from here" in capsys.readouterr().err
    again: list[int] = []
    monkeypatch.setattr(Shards, "save", lambda self, start, *rest: (again.append(start), save(self, start, *rest)))
    assert ask(capsys) == whole
    assert (saved, again) == ([0, 4], [8, 12])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["publish_sealed", MODEL],
            "takes 8x8 1-channel images, the dataset has 24x24 1-channel; --size N",
        ),
        (["publish_sealed", MODEL, "--square", "crop"], "square and resample say how to resize: add `size`"),
        (["publish_sealed", MODEL, "--size", "0"], "--size: Input should be greater than 0, found 0"),
        (["publish_sealed", "photos"], "photos: has neither a diffusers pipeline"),
        (["publish", MODEL], "publish/record.json: not found: RECORD is what `leakgauge canaries seal` wrote"),
    ],
)
def test_what_cannot_be_asked_is_said_in_one_line(sealed, capsys, words, said):
    assert command("test", *words) == 1
    found = capsys.readouterr().err
    assert said in found
    assert found.count("\n") == 1
    assert "params.yaml" not in found


def test_a_conditional_model_is_called_with_one_class_for_all_or_with_none(sealed, capsys):
    write_family("by_class", Path("conditional"))
    asked = ("test", "publish_sealed", "conditional", "--size", "8", "--json")
    found = []
    for words in ((), ("--label", "3"), ("--label", "3"), ("--label", "4")):
        capsys.readouterr()
        assert command(*asked, *words) == 0
        found.append(json.loads(capsys.readouterr().out)["p_value"])
    without, three, again, four = found
    assert three == again
    assert len({without, three, four}) == 3
    assert command(*asked, "--label", "11") == 1
    assert capsys.readouterr().err.startswith(
        "leakgauge canaries: conditional: score.condition: the target knows classes 0 to 10, an image has label 11"
    )


def test_a_model_of_too_few_timesteps_is_refused_by_its_own_name(sealed, capsys):
    model = Path(shutil.copytree(MODEL, "model"))
    config = json.loads((model / "scheduler/scheduler_config.json").read_text()) | {"num_train_timesteps": 20}
    (model / "scheduler/scheduler_config.json").write_text(json.dumps(config))
    assert command("test", "publish_sealed", "model", "--size", "8") == 1
    said = "model: score.attacks.t_error.last: 20 + interval 10 is beyond the target's last timestep, 19"
    assert capsys.readouterr().err == f"leakgauge canaries: {said}\n"


def test_a_changed_variant_ends_the_test(sealed, capsys):
    shutil.copy("publish_sealed/variants/00001/0.png", "publish_sealed/variants/00001/1.png")
    assert command("test", "publish_sealed", MODEL, "--size", "8") == 1
    assert "variants/00001/1.png: is not the file that was sealed" in capsys.readouterr().err


@pytest.mark.slow
def test_a_model_that_was_trained_on_what_was_published_is_found_and_one_of_the_kept_is_not(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    digits = load_digits()
    take_photos(Path("photos"), digits.images[digits.target == 3][:40], 32)
    monkeypatch.setattr("secrets.token_hex", lambda count: "5" * 2 * count)
    assert command("seal", "photos", "--out", "publish") == 0
    published = [np.asarray(Image.open(path).resize((8, 8))) for path in sorted(Path("publish").iterdir())]
    options = Training(steps=400, batch_size=40)
    train(torch.from_numpy(np.stack(published)[:, None]), options, tmp_path)[0].save_pretrained("model")
    capsys.readouterr()
    assert command("test", "publish_sealed", "model", "--size", "8", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["p_value"] < 1e-3
    assert found["epsilon"]["epsilon"] > 0
    assert ask(capsys)["p_value"] > 0.01, "the model of another"
