"""Copies of members among what a target generates: sampling, naming, and the answer where nothing is generated."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import REPOSITORY, tiny_params, write_params, write_photos
from PIL import Image

from leakgauge import sampling
from leakgauge.datasets.digits import DigitsEntry, read
from leakgauge.diffusion.denoiser import Denoiser
from leakgauge.errors import InputError
from leakgauge.options import CopiesOptions
from leakgauge.sampling import Prompts, noise_of, sample
from leakgauge.tables import decode_images, read_table
from stages.copies import copies, shrunk
from stages.images import prepare_images
from stages.report import report
from stages.split import split
from stages.target import target as make_target

TARGET = "digits_ddpm"
SAMPLES, IMAGES = Path(f"data/copies/{TARGET}/samples.parquet"), Path(f"data/copies/{TARGET}/images.parquet")
SHEET = Path(f"metrics/samples/copies/{TARGET}.png")
TRAINED = {"block_out_channels": [16, 32], "steps": 250, "batch_size": 32, "learning_rate": 4e-3, "ema_decay": 0.98}


def ask(**options: object) -> None:
    """The tiny audit with samples."""
    params = tiny_params()
    params["copies"] |= options
    write_params(params)


def answer(target: str = TARGET) -> dict:
    return json.loads(Path(f"metrics/copies/{target}.json").read_text())


def pixels_of(path: Path = SAMPLES) -> np.ndarray:
    return decode_images(read_table(path))


def test_without_samples_the_stage_says_so_and_imports_neither_torch_nor_diffusers(audit):
    code = (
        "import sys; from stages.copies import copies; copies('digits_ddpm'); "
        "sys.exit(' '.join({'torch', 'diffusers', 'scipy', 'sklearn'} & {*sys.modules}) or None)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": str(REPOSITORY)}
    )
    assert done.returncode == 0, done.stderr
    assert answer() == {"samples": 0, "reason": "copies.samples is 0"}
    assert read_table(SAMPLES).num_rows == read_table(IMAGES).num_rows == 0
    assert "Does it generate training images?" not in Path("metrics/report.html").read_text()


def test_a_target_that_has_hardly_learnt_copies_nothing_and_every_figure_is_told(audit):
    ask(samples=70)
    copies(TARGET)
    found, images, made = answer(), read_table(IMAGES).to_pandas(), read_table(SAMPLES).to_pandas()
    assert found["samples"] == len(made) == 70
    assert (found["copies"], found["members_copied"]) == (0, 0)
    assert found["share_low"] == 0
    assert found["share_high"] == pytest.approx(1 - 0.025 ** (1 / 70)), "Clopper and Pearson's"
    assert found["p_value_resolution"] == pytest.approx(2 / 121), "two distances"
    assert found["fewest"] == 10  # 60 members * 2 / 121 / 0.1
    assert found["fpr_5e-2"] <= found["fpr_5e-2_expected_high"]
    assert images["role"].value_counts().to_dict() == {"holdout": 150, "auxiliary": 120, "member": 60}
    assert images.loc[images["role"] == "auxiliary", "p_value"].isna().all()
    assert images.loc[images["role"] == "member", "p_value"].between(2 / 121, 1).all()
    assert not images["named"].any()


def test_the_nearest_images_of_the_table_are_the_nearest(audit):
    ask(samples=5)
    copies(TARGET)
    made = read_table(SAMPLES).to_pandas()
    for role in ("member", "auxiliary"):
        table = read_table(Path(f"data/roles/{TARGET}/{role}.parquet"))
        known = decode_images(table).astype(float)
        distance = np.sqrt(((pixels_of()[:, None].astype(float) - known) ** 2).mean(axis=(2, 3, 4)))
        assert np.allclose(made[f"{role}_distance_pixels"], distance.min(axis=1))
        ids = np.array(table.column("image_id").to_pylist())
        assert made[f"{role}_by_pixels"].tolist() == ids[distance.argmin(axis=1)].tolist()


def test_a_sample_is_decided_by_the_seed_and_its_number_not_by_its_batch(audit):
    ask(samples=12, batch_size=12)
    copies(TARGET)
    whole = pixels_of()
    ask(samples=20, batch_size=5)
    copies(TARGET)
    more = pixels_of()[:12].astype(int)
    assert np.abs(more - whole).max() <= 1, "a rounding of the network's last digits, at most"
    assert (more == whole).mean() > 0.99
    ask(samples=12, seed=1)
    copies(TARGET)
    assert (pixels_of() != whole).mean() > 0.5


def test_sampling_that_was_stopped_goes_on_to_the_same_bytes(audit, monkeypatch):
    ask(samples=14, batch_size=4)
    copies(TARGET)
    undisturbed = [path.read_bytes() for path in (SAMPLES, IMAGES, SHEET)]
    made, generate = [], sampling.generate

    def stopping(target: Denoiser, noise: torch.Tensor, after_step: object) -> np.ndarray:
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(len(noise))
        return generate(target, noise, after_step)

    monkeypatch.setattr(sampling, "generate", stopping)
    with pytest.raises(KeyboardInterrupt):
        copies(TARGET)
    made.clear()
    monkeypatch.setattr(sampling, "generate", lambda *rest: made.append(len(rest[1])) or generate(*rest))
    copies(TARGET)
    assert made == [4, 2], "two batches were there"
    assert [path.read_bytes() for path in (SAMPLES, IMAGES, SHEET)] == undisturbed
    assert not list(Path(".partial").glob("copies@*/*"))


def test_noise_is_standard_normal_and_a_number_has_its_own():
    noise = noise_of(range(400), (1, 8, 8), 0)
    assert abs(noise.mean()) < 0.03
    assert abs(noise.std() - 1) < 0.03
    assert torch.equal(noise_of(range(7, 9), (1, 8, 8), 0), noise[7:9])
    assert not torch.equal(noise[0], noise[1])


def test_of_a_target_of_scores_and_where_no_member_is_known_it_says_why_nothing_is_generated(audit, capsys):
    params = tiny_params()
    params["copies"]["samples"] = 9
    params["targets"][TARGET]["members"] = 0
    write_params(params)
    split(TARGET)
    copies(TARGET)
    assert answer() == {"samples": 0, "reason": "no member is known: there is nothing to compare samples with"}
    Path("scores.csv").write_text("image_id,loss\n")
    params["targets"]["theirs"] = {"images": "digits", "model": "scores.csv"}
    write_params(params)
    copies("theirs")
    assert answer("theirs")["reason"].startswith("only scores of this target are known")
    assert "theirs: no copies looked for: only scores" in capsys.readouterr().err


def test_classes_take_turns_and_prompts_are_drawn_from_all_images(family, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = CopiesOptions(samples=13, batch_size=5)
    by_class = Denoiser.from_pipeline(family("by_class"), torch.device("cpu"))
    made = sample("copies@c", by_class, (8, 8), options, Prompts([None], True), [])
    assert made.labels == [*range(11), 0, 1]
    captions = [f"caption {number}" for number in range(40)]
    drawn = Prompts(captions, True).drawn(4000, 0)
    assert {caption: drawn.count(caption) for caption in captions} == pytest.approx(
        dict.fromkeys(captions, 100), abs=45
    )
    assert Prompts(captions, True).drawn(5, 0) == drawn[:5]
    assert Prompts(captions, False).drawn(2, 0) == [None, None]
    with pytest.raises(InputError, match="images of the audit have no caption"):
        Prompts([None], True).drawn(1, 0)


def test_a_target_conditional_on_text_generates_by_its_prompts(family, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    by_text = Denoiser.from_pipeline(family("text"), torch.device("cpu"))
    options = CopiesOptions(samples=2)
    given = sample("copies@t", by_text, (16, 16), options, Prompts(["a cat", "a cat"], True), [])
    assert given.captions == ["a cat", "a cat"]
    empty = sample("copies@t", by_text, (16, 16), options, Prompts(["a cat", "a cat"], False), [])
    assert empty.captions == [None, None]
    assert (given.pixels != empty.pixels).any()


def test_captions_that_give_the_role_away_are_no_prompts(family, audit):
    params = tiny_params()
    params["copies"]["samples"] = 2
    params["targets"][TARGET]["model"] = "leakgauge/diffusion/training.py"
    write_params(params)
    shutil.rmtree(f"models/target/{TARGET}")
    shutil.copytree(family("text"), f"models/target/{TARGET}")
    leaks = {"seed": 0, "leaks": {"caption": {"member": "captions tell members"}}}
    Path(f"data/checks/{TARGET}.json").write_text(json.dumps(leaks))
    with pytest.raises(InputError, match=r"score.condition: given, but the caption gives the role away: captions tell"):
        copies(TARGET)


def test_large_images_are_compared_at_64_pixels_each_the_mean_of_those_it_covers():
    image = np.zeros((1, 1, 128, 64), np.uint8)
    image[0, 0, :2, :2] = [[10, 20], [30, 40]]
    small = shrunk(image)
    assert small.shape == (1, 1, 64, 32)
    assert small[0, 0, 0, 0] == 25
    assert shrunk(image[:, :, :64]) is not image
    assert (shrunk(image[:, :, :64]) == image[:, :, :64]).all()


@pytest.fixture(scope="module")
def overfitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An audit of a target that was trained on 10 digits until it knows them by heart, and asked for 60 samples."""
    folder = tmp_path_factory.mktemp("overfitted")
    digits = read(DigitsEntry(source="digits", path="digits.py")).pixels[:320, :, :, 0]
    params = tiny_params()
    params["datasets"]["photos"] = {"source": "parquet", "path": "photos.parquet"}
    params["targets"][TARGET]["images"] = "photos"
    params["split"] |= {"member": 10, "auxiliary": 200, "holdout": "rest"}
    params["target"] |= TRAINED
    params["copies"] |= {"samples": 60}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_photos([f"{row:03d}" for row in range(len(digits))], digits)
        write_params(params)
        prepare_images("photos")
        split(TARGET)
        make_target(TARGET)
        copies(TARGET)
    return folder


@pytest.mark.slow
def test_a_target_that_knows_its_members_by_heart_copies_them(overfitted, monkeypatch):
    monkeypatch.chdir(overfitted)
    found, images, made = answer(), read_table(IMAGES).to_pandas(), read_table(SAMPLES).to_pandas()
    assert found["members_copied"] == images["named"].sum() >= 5
    assert set(images.loc[images["named"], "role"]) == {"member"}
    assert found["copies"] == made["copy"].sum() >= 10
    assert found["share_low"] < found["share"] < found["share_high"]
    assert (
        made.loc[made["copy"], "member_distance_pixels"] < made.loc[made["copy"], "auxiliary_distance_pixels"]
    ).mean() > 0.9
    assert found["fpr_5e-2"] <= found["fpr_5e-2_expected_high"], "holdout images are not named more often than chance"
    frame = np.asarray(Image.open(SHEET))[4, 4:20]
    assert (frame == (213, 94, 0)).all(), "the first is named, and has a frame"


def test_the_page_shows_the_pairs_and_says_how_many_are_copies(audit):
    ask(samples=30)
    copies(TARGET)
    report()
    page = re.sub(r"\s+", " ", Path("metrics/report.html").read_text())
    assert "Does it generate training images?" in page
    assert "Among 30 samples no copy of a training image is named." in page
    assert "Fewer than 10 cannot be named" in page
