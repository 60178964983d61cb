"""A network that has learnt nothing must not tell the role; and where a target is told what does, nothing is scored."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from conftest import ask_about, marginal_figures, tiny_params, write_params
from diffusers import UNet2DModel
from families import FAMILIES, open_family, unet
from planted import page
from ruamel.yaml import YAML

from leakgauge import scoring
from leakgauge.attacks.scorer import NETWORKS
from leakgauge.attacks.t_error import t_errors
from leakgauge.diffusion.denoiser import Denoiser, reinitialised, untrained
from leakgauge.features import named_features
from leakgauge.tables import ROLES, decode_images, image_table, read_metadata, read_table, write_table
from stages.check import check
from stages.evaluate import evaluate
from stages.score import score
from stages.score_suspects import score_suspects
from stages.suspects import suspects

TARGET = "digits_ddpm"
NULL = Path(f"data/null/{TARGET}")


def put(folder: Path, labels: dict[str, list], captions: dict[str, list] | None = None, **options: object) -> None:
    """The target `theirs` with so many images a role as there are labels, all from one distribution, and checked.

    Those of the role `suspect` are the set `asked`.  options : of `score`.
    """
    params = tiny_params()
    params["targets"]["theirs"] = {"images": "digits", "model": str(folder), "score": options}
    write_params(ask_about("asked", {"source": "folder", "path": "-"}, params, "theirs"))
    shutil.rmtree("models", ignore_errors=True)
    shutil.copytree(folder, "models/target/theirs")
    rng = np.random.default_rng(0)
    for role, of_role in labels.items():
        pixels = rng.integers(0, 256, (len(of_role), 8, 8, 1), dtype=np.uint8)
        ids = [f"{role}-{number}" for number in range(len(of_role))]
        texts = captions[role] if captions else None
        place = "{}/theirs/" + role if role in ROLES else "{}/asked_images"
        write_table(
            Path(f"data/{place.format('roles' if role in ROLES else 'images')}.parquet"),
            image_table(ids, pixels, of_role, [None] * len(ids), texts),
            {},
        )
        described = pa.table({"image_id": ids} | named_features(pixels.transpose(0, 3, 1, 2)))
        write_table(Path(f"data/{place.format('features')}.parquet"), described, {})
    for kind in ("roles", "features"):  # no reference is trained
        none = read_table(Path(f"data/{kind}/theirs/holdout.parquet")).slice(0, 0)
        write_table(Path(f"data/{kind}/theirs/reference.parquet"), none, {})
    check("theirs")


def by_turns(classes: int, **counts: int) -> dict[str, list]:
    """Labels 0, 1, ..., 0, 1, ... of so many images a role."""
    return {role: [i % classes for i in range(count)] for role, count in counts.items()}


def told() -> str | None:
    """What the target was told of members, once they are scored."""
    score("theirs", "member")
    return read_metadata(Path("data/scores/theirs/member.parquet"))["conditioned_on"]


@pytest.fixture
def by_class(tmp_path, monkeypatch, family) -> Path:
    monkeypatch.chdir(tmp_path)
    return family("by_class")


@pytest.mark.parametrize("role", ROLES)
def test_a_label_that_is_the_role_is_refused_before_any_role_is_scored(by_class, refusal, role):
    put(by_class, by_turns(1, auxiliary=60, holdout=60) | {"member": [1] * 60})
    line = refusal(score, target="theirs", role=role)
    assert "params.yaml: score.condition: given, but the label gives the role away" in line
    assert "60 of the 60 images of label 1 are members, expected were 20 (p = 0.0012)" in line
    assert "set targets.theirs.score: {condition: none}, or draw roles with the same labels" in line
    assert not Path("data/scores").exists()


def test_members_of_another_mix_of_classes_are_refused_at_the_level_of_the_checks(by_class, refusal):
    mix = by_turns(2, auxiliary=60, holdout=60)
    put(by_class, mix | {"member": [0] * 40 + [1] * 20})
    assert told() == "label", "p = 0.03 is no evidence at the level of 0.01 / 8"
    put(by_class, mix | {"member": [0] * 50 + [1] * 10})
    line = refusal(score, target="theirs", role="member")
    assert "10 of the 70 images of label 1 are members, expected were 23.3" in line


def test_suspects_of_one_class_are_refused_too(by_class, refusal):
    """Where non-members of their class are too few to compare them with."""
    put(by_class, by_turns(5, auxiliary=40, holdout=40, member=60) | {"suspect": [3] * 20})
    score_suspects("asked")
    line = refusal(suspects, suspects="asked")
    assert "params.yaml: score.condition: given, but the label gives suspects away" in line
    assert "20 of the 36 images of label 3 are suspects, expected were 7.2" in line
    assert "set targets.theirs.score: {condition: none}" in line


def test_images_without_labels_are_named_where_labels_are_to_be_told(by_class, refusal):
    put(by_class, by_turns(5, auxiliary=60, holdout=60, member=60) | {"suspect": [None] * 20})
    line = refusal(score_suspects, suspects="asked")
    assert "params.yaml: score.condition: the target is conditional on classes, and images have no label" in line
    assert "(data/images/asked_images.parquet)" in line


def test_labels_that_are_not_told_cannot_tell(by_class):
    put(by_class, by_turns(1, auxiliary=60, holdout=60) | {"member": [1] * 60}, condition="none")
    assert told() is None


def test_an_unconditional_target_is_told_nothing(tmp_path, monkeypatch, family):
    monkeypatch.chdir(tmp_path)
    put(family("epsilon"), by_turns(1, auxiliary=60, holdout=60) | {"member": [1] * 60})
    assert told() is None


def test_captions_that_go_with_the_role_are_refused_where_they_are_told(tmp_path, monkeypatch, family, refusal):
    monkeypatch.chdir(tmp_path)
    labels = by_turns(5, auxiliary=30, holdout=30, member=30)
    captions = {role: ["a" if i % 2 else "a a" for i, _ in enumerate(of_role)] for role, of_role in labels.items()}
    put(family("text"), labels, captions)
    assert told() == "caption"
    put(family("text"), labels, captions | {"member": ["a photo"] * 30})
    line = refusal(score, target="theirs", role="member")
    assert "given, but the caption gives the role away" in line
    assert "words and lengths of captions tell members from others, AUC 1.000" in line
    put(family("text"), labels, captions | {"member": ["a photo"] * 30}, condition="none")
    assert told() is None


# What untrained networks tell


def null_check() -> dict:
    evaluate(TARGET)
    return json.loads(Path(f"metrics/details/{TARGET}.json").read_text())["null_check"]


def test_the_default_audit_passes_and_says_so(audit):
    condition = json.loads(Path(f"data/checks/{TARGET}.json").read_text())
    assert condition == {"seed": 0, "leaks": {"label": {}, "caption": {}}}
    found = null_check()
    assert set(found) == {"member", "auxiliary"}
    for of_role in found.values():
        assert of_role["auc_ci_low"] < 0.5 < of_role["auc_ci_high"]
        assert not of_role["fails"]
    assert json.loads(Path(f"metrics/{TARGET}.json").read_text())["failed"] == 0
    assert "Null check: members against auxiliary and holdout images" in page()


def test_images_that_differ_make_the_null_check_fail(audit, capsys):
    path = Path(f"data/roles/{TARGET}/member.parquet")
    table = read_table(path)
    darker = decode_images(table).transpose(0, 2, 3, 1) // 4
    ids, nothing = table.column("image_id").to_pylist(), [None] * table.num_rows
    write_table(path, image_table(ids, darker, nothing, nothing), read_metadata(path))
    score(TARGET, "member")
    found = null_check()
    assert found["member"]["fails"]
    assert not found["auxiliary"]["fails"]
    assert (
        f"{TARGET}: null check: an untrained network, or the base, tells member images from others"
        in capsys.readouterr().err
    )
    wrong = "The wrong way round" in page()  # what is darker scores otherwise, perhaps higher
    assert json.loads(Path(f"metrics/{TARGET}.json").read_text())["failed"] == 1 + wrong
    assert "Null check tells members from auxiliary and holdout images" in page()


def test_no_weight_of_the_target_has_a_part_in_the_null_check(audit):
    before = read_table(NULL / "member.parquet")
    config = Path(f"models/target/{TARGET}/unet")
    network = Denoiser.from_pipeline(config.parent, torch.device("cpu")).network
    with torch.no_grad():
        for weight in network.parameters():
            weight.mul_(2)
    network.save_pretrained(config)
    scores = read_table(Path(f"data/scores/{TARGET}/member.parquet"))
    score(TARGET, "member")
    assert read_table(NULL / "member.parquet") == before
    assert read_table(Path(f"data/scores/{TARGET}/member.parquet")) != scores


def null_scores(role: str) -> dict[str, np.ndarray]:
    """image_id -> its score under each untrained network, once the role is scored."""
    score(TARGET, role)
    table = read_table(NULL / f"{role}.parquet").to_pandas().set_index("image_id")
    return dict(zip(table.index, table.to_numpy(), strict=True))


def test_seed_and_name_alone_decide_which_images_are_drawn(audit, monkeypatch):
    """Hundreds of a role; the order of its rows changes nothing."""
    assert scoring.NULL_IMAGES == 300
    monkeypatch.setattr(scoring, "NULL_IMAGES", 40)
    before = null_scores("holdout")
    path = Path(f"data/roles/{TARGET}/holdout.parquet")
    table = read_table(path)
    write_table(path, table.take(pa.array(np.random.default_rng(0).permutation(len(table)))), read_metadata(path))
    after = null_scores("holdout")
    assert before.keys() == after.keys()
    assert len(before) == 40
    for name, scores in before.items():
        np.testing.assert_allclose(after[name], scores, rtol=1e-3)  # images share a network call with others
    params = tiny_params()
    params["check"]["seed"] = 7
    write_params(params)
    write_table(path, table, read_metadata(path))
    check(TARGET)
    other = null_scores("holdout")
    assert other.keys() != before.keys()
    assert not any(np.allclose(other[name], before[name], rtol=1e-3) for name in other.keys() & before.keys())


def test_of_scores_from_elsewhere_no_null_check_is_possible(elsewhere):
    params = YAML(typ="safe").load(Path("params.yaml").read_text())
    params["learners"] = {"marginal": params["learners"]["marginal"]}
    params["evaluate"] |= {"stack": [], "alphas": [0.1], "curve_fpr": 0.1}
    write_params(params)
    marginal_figures("theirs")
    assert json.loads(Path("metrics/details/theirs.json").read_text())["null_check"] == {}
    assert read_table(Path("data/null/theirs/member.parquet")).num_rows == 0
    assert 'the scores come from elsewhere</td> <td class="text">not possible' in page("theirs")


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


def test_the_null_scores_are_the_t_error_at_the_first_interval_under_each_untrained_network(audit):
    options = tiny_params()["score"]["attacks"]["t_error"]
    rows = read_table(Path(f"data/roles/{TARGET}/member.parquet"))
    trained = Denoiser.from_pipeline(Path(f"models/target/{TARGET}"), torch.device("cpu"))
    x0 = trained.encode(torch.from_numpy(decode_images(rows)))
    table = read_table(NULL / "member.parquet").to_pandas().set_index("image_id")
    for number in range(NETWORKS):
        with torch.inference_mode():
            expected = t_errors(untrained(trained, number), x0, options["interval"], 2)[:, -1].numpy()
        scores = table.loc[rows.column("image_id").to_pylist(), f"network_{number}"].to_numpy()
        np.testing.assert_allclose(scores, expected, rtol=1e-4)
