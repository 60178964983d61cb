"""The stage `check`: what a target is told must not tell the role, and a network that has learnt nothing must not."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from conftest import tiny_params, write_params
from diffusers import UNet2DModel
from families import FAMILIES, open_family, put_target, unet

from leakgauge.attacks.t_error import t_errors
from leakgauge.diffusion.denoiser import Denoiser, reinitialised, untrained
from leakgauge.features import named_features
from leakgauge.tables import decode_images, image_table, read_metadata, read_table, write_table
from stages.check import IMAGES, check
from stages.guard import guard
from stages.split import split
from stages.target import target as make_target

TARGET = "digits_ddpm"


def checked(target: str) -> tuple[dict, dict]:
    """What `score` waits for, and the figures."""
    check(target)
    data, metrics = (json.loads(Path(f"{folder}/checks/{target}.json").read_text()) for folder in ("data", "metrics"))
    return data, metrics


def put(folder: Path, labels: dict[str, list], captions: dict[str, list] | None = None, **options: object) -> None:
    """The target `theirs` with so many images a role as there are labels, all from one distribution."""
    put_target(folder, **options)
    shutil.rmtree("models", ignore_errors=True)
    shutil.copytree(folder, "models/target/theirs")
    rng = np.random.default_rng(0)
    for role, of_role in labels.items():
        pixels = rng.integers(0, 256, (len(of_role), 8, 8, 1), dtype=np.uint8)
        ids = [f"{role}-{number}" for number in range(len(of_role))]
        texts = captions[role] if captions else None
        table = image_table(ids, pixels, of_role, [None] * len(ids), texts)
        write_table(Path(f"data/roles/theirs/{role}.parquet"), table, {})
        if role == "suspect":
            write_table(Path("data/pictures/theirs.parquet"), pa.table({"image_id": ids, "picture": ids}), {})


def by_turns(classes: int, **counts: int) -> dict[str, list]:
    """Labels 0, 1, ..., 0, 1, ... of so many images a role."""
    return {"suspect": []} | {role: [i % classes for i in range(count)] for role, count in counts.items()}


@pytest.fixture
def by_class(tmp_path, monkeypatch, family) -> Path:
    monkeypatch.chdir(tmp_path)
    return family("by_class")


def test_a_label_that_is_the_role_is_refused_before_scoring(by_class, refusal):
    put(by_class, by_turns(1, auxiliary=60, holdout=60) | {"member": [1] * 60})
    line = refusal(check, target="theirs")
    assert "params.yaml: score.condition: given, but the label tells the role" in line
    assert "60 of the 60 images of label 1 are members, expected were 20 (p = 0.0012)" in line
    assert "set targets.theirs.score: {condition: none}, or draw roles with the same labels" in line
    assert not Path("data/checks").exists(), "score waits for it"


def test_members_of_another_mix_of_classes_are_refused_at_the_level_of_the_guards(by_class, refusal):
    mix = by_turns(2, auxiliary=60, holdout=60)
    put(by_class, mix | {"member": [0] * 40 + [1] * 20})
    assert checked("theirs")[0] == {"condition": "label"}, "p = 0.03 is no evidence at the level of 0.01 / 8"
    put(by_class, mix | {"member": [0] * 50 + [1] * 10})
    assert "10 of the 70 images of label 1 are members, expected were 23.3" in refusal(check, target="theirs")


def test_suspects_of_one_class_are_refused_too(by_class, refusal):
    put(by_class, by_turns(5, auxiliary=60, holdout=60, member=60) | {"suspect": [3] * 20})
    assert "20 of the 44 images of label 3 are suspects, expected were 6.29" in refusal(check, target="theirs")


def test_images_without_labels_are_named_where_labels_are_to_be_told(by_class, refusal):
    put(by_class, by_turns(5, auxiliary=60, holdout=60, member=60) | {"suspect": [None] * 20})
    line = refusal(check, target="theirs")
    assert "params.yaml: score.condition: suspect images: the target is conditional on classes" in line


def test_labels_that_are_not_told_cannot_tell(by_class, refusal):
    labels = by_turns(1, auxiliary=60, holdout=60) | {"member": [1] * 60}
    put(by_class, labels, condition="none")
    told, figures = checked("theirs")
    assert told == {"condition": None}
    assert figures["fires"] == 0


def test_an_unconditional_target_is_told_nothing(tmp_path, monkeypatch, family):
    monkeypatch.chdir(tmp_path)
    put(family("epsilon"), by_turns(1, auxiliary=60, holdout=60) | {"member": [1] * 60})
    assert checked("theirs")[0] == {"condition": None}


def test_captions_that_go_with_the_role_are_refused_where_they_are_told(tmp_path, monkeypatch, family, refusal):
    monkeypatch.chdir(tmp_path)
    labels = by_turns(5, auxiliary=30, holdout=30, member=30)
    captions = {role: ["a" if i % 2 else "a a" for i, _ in enumerate(of_role)] for role, of_role in labels.items()}
    put(family("text"), labels, captions)
    assert checked("theirs")[0] == {"condition": "caption"}
    put(family("text"), labels, captions | {"member": ["a photo"] * 30})
    line = refusal(check, target="theirs")
    assert "given, but the caption tells the role" in line
    assert "words and lengths of captions tell members from others, AUC 1.000" in line
    put(family("text"), labels, captions | {"member": ["a photo"] * 30}, condition="none")
    assert checked("theirs")[0] == {"condition": None}


def test_the_default_audit_passes_and_says_so(audit, capsys):
    told, figures = checked(TARGET)
    assert told == {"condition": None}
    assert figures["fires"] == 0
    assert set(figures["null_check"]) == {"member", "auxiliary"}
    for found in figures["null_check"].values():
        assert found["auc_ci_low"] < 0.5 < found["auc_ci_high"]
    assert "null check: 0 of 2 comparisons fire" in capsys.readouterr().out
    assert "null check: an untrained network tells" in Path("metrics/report.html").read_text()


def test_images_that_differ_set_the_null_check_off(audit, capsys):
    path = Path(f"data/roles/{TARGET}/member.parquet")
    table = read_table(path)
    pixels = np.random.default_rng(0).integers(0, 256, (table.num_rows, 8, 8, 1), dtype=np.uint8)
    ids, nothing = table.column("image_id").to_pylist(), [None] * table.num_rows
    write_table(path, image_table(ids, pixels, nothing, nothing), read_metadata(path))
    _, figures = checked(TARGET)
    assert figures["null_check"]["member"]["fires"]
    assert not figures["null_check"]["auxiliary"]["fires"]
    assert f"{TARGET}: null check: an untrained network tells member images from others" in capsys.readouterr().err


def test_no_weight_of_the_target_has_a_part_in_the_null_check(audit):
    before = checked(TARGET)
    config = Path(f"models/target/{TARGET}/unet")
    network = Denoiser.from_pipeline(config.parent, torch.device("cpu")).network
    with torch.no_grad():
        for weight in network.parameters():
            weight.mul_(2)
    network.save_pretrained(config)
    assert checked(TARGET) == before


def test_seed_and_name_alone_decide_which_images_are_drawn(audit):
    """Hundreds of a role; the order of its rows changes nothing."""
    params = tiny_params()
    params["guard"]["seed"] = 7
    write_params(params)
    before = checked(TARGET)[1]["null_check"]
    for role in ("member", "auxiliary", "holdout"):
        path = Path(f"data/roles/{TARGET}/{role}.parquet")
        table = read_table(path)
        write_table(path, table.take(pa.array(np.random.default_rng(0).permutation(len(table)))), read_metadata(path))
    after = checked(TARGET)[1]["null_check"]
    for role, found in before.items():
        assert after[role] == pytest.approx(found, abs=1e-3)  # images share a network call with others
    assert IMAGES == 300


def test_of_scores_from_elsewhere_no_null_check_is_possible(elsewhere, capsys):
    split("theirs")
    make_target("theirs")
    assert checked("theirs") == ({"condition": None}, {"condition": None, "fires": 0, "null_check": None})
    assert "null check: not possible, there are scores alone" in capsys.readouterr().out


def test_near_copies_of_a_suspect_are_no_further_evidence(audit):
    """Twenty copies, a grey level apart, of one picture that an untrained network gives a low or a high score."""
    free = read_table(Path("data/images/digits.parquet")).slice(500, 20)
    pixels = decode_images(free).transpose(0, 2, 3, 1)
    noise = np.random.default_rng(0).integers(-1, 2, (20, 8, 8, 1))
    scores = {}
    for name, images in {"distinct": pixels, "near": np.clip(pixels[:1] + noise, 0, 255).astype(np.uint8)}.items():
        ids = [f"suspect/{number}" for number in range(20)]
        write_table(
            Path(f"data/roles/{TARGET}/suspect.parquet"), image_table(ids, images, [None] * 20, [None] * 20), {}
        )
        table = pa.table({"image_id": ids} | named_features(images.transpose(0, 3, 1, 2)))
        write_table(Path(f"data/features/{TARGET}/suspect.parquet"), table, {})
        guard(TARGET)
        scores[name] = checked(TARGET)[1]["null_check"]["suspect"]
    width = {name: found["auc_ci_high"] - found["auc_ci_low"] for name, found in scores.items()}
    assert not any(found["fires"] for found in scores.values())
    assert width["near"] > 0.9 > 0.7 > width["distinct"], "one picture tells next to nothing, whatever its copies"


# Untrained networks


@pytest.mark.parametrize("name", FAMILIES)
def test_an_untrained_network_of_every_family_gives_scores_that_differ_between_images(name, family):
    target = open_family(family(name))
    x0 = target.encode(torch.randint(0, 256, (4, 1, 8, 8), dtype=torch.uint8))
    fresh = untrained(target, 0).with_condition(target.condition.sample_conditions(4))
    with torch.inference_mode():
        scores = t_errors(fresh, x0, 10, 2)[:, -1]
    assert torch.isfinite(scores).all()
    assert (scores > 0).all()
    assert len(set(scores.tolist())) == 4


def test_the_seed_decides_the_weights_and_the_trained_network_keeps_its_own():
    network = unet()
    before = {name: weight.clone() for name, weight in network.state_dict().items()}
    state = torch.get_rng_state()
    one, same, other = (reinitialised(network, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(one[name], same[name]) for name in before)
    assert not torch.equal(one["conv_in.weight"], other["conv_in.weight"])
    assert not torch.equal(one["conv_in.weight"], before["conv_in.weight"])
    assert all(torch.equal(weight, before[name]) for name, weight in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


def test_a_last_layer_that_starts_at_zero_is_drawn(monkeypatch):
    made = UNet2DModel.__init__

    def zeroed(self, *args, **options):
        made(self, *args, **options)
        torch.nn.init.zeros_(self.conv_out.weight)

    monkeypatch.setattr(UNet2DModel, "__init__", zeroed)
    weight = reinitialised(unet(), 0).conv_out.weight
    assert weight.any()
    assert weight.abs().max() <= weight[0].numel() ** -0.5  # PyTorch's own range for a convolution
