"""Sets of images in question, of a target whose members' scores are known to be lower."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from conftest import (
    Elsewhere,
    answer_about,
    ask_about,
    dump_params,
    marginal_figures,
    quick_params,
    tiny_params,
    write_params,
    write_photos,
)
from pipeline import repro
from planted import free_images, write_images
from ruamel.yaml import YAML

from leakgauge.features import named_features
from leakgauge.tables import ROLES, decode_images, image_table, read_metadata, read_table, write_table
from stages.check import check
from stages.config import config
from stages.evaluate import evaluate
from stages.fit import fit
from stages.images import prepare_images
from stages.predict import predict
from stages.report import report
from stages.score import score
from stages.score_suspects import score_suspects
from stages.split import split
from stages.suspects import suspects
from stages.target import target as make_target

TARGET = "digits_ddpm"
SHOTS = [(scene, shot) for scene in "abcd" for shot in range(3)]
FOLDER = {"source": "folder", "path": "asked"}  # an entry of `datasets`


def ask(images: dict[str, np.ndarray], params: dict | None = None, name: str = "asked") -> dict:
    """Put images into a folder and ask about it; returns params.yaml."""
    write_images(name, images)
    params = ask_about(name, {"source": "folder", "path": name}, params or tiny_params())
    write_params(params)
    return params


def named(images: np.ndarray, names: str = "abcdefghijklmnopqrstuvwxyz") -> dict[str, np.ndarray]:
    return dict(zip(names, images, strict=False))


def verdicts(name: str = "asked") -> pd.DataFrame:
    return pd.read_parquet(f"data/verdicts/suspects/{name}.parquet").set_index("image_id")


def contents(*folders: str) -> dict[Path, bytes]:
    """The files below some folders."""
    return {path: path.read_bytes() for folder in folders for path in Path(folder).rglob("*") if path.is_file()}


def put_reference(pixels: np.ndarray) -> None:
    """Make these the images that a reference was trained on.  pixels : (N, C, H, W) uint8."""
    ids, nothing = [f"reference-{number}" for number in range(len(pixels))], [None] * len(pixels)
    images = image_table(ids, pixels.transpose(0, 2, 3, 1), nothing, nothing)
    for kind, table in (("roles", images), ("features", pa.table({"image_id": ids} | named_features(pixels)))):
        path = Path(f"data/{kind}/{TARGET}/reference.parquet")
        write_table(path, table, read_metadata(path))


def test_suspects_are_judged_where_no_member_is_known(audit):
    others = free_images(3)
    shutil.copytree(f"models/target/{TARGET}", "pipeline")
    params = tiny_params()
    params["learners"] = {name: params["learners"][name] for name in ("marginal", "mlp")}
    params["targets"][TARGET] |= {"model": "pipeline", "members": 0, "fit": {"scores": ["t_error_t10", "t_error_t0"]}}
    params["evaluate"]["stack"] = []
    ask(named(others), params)
    split(TARGET)
    check(TARGET)
    make_target(TARGET)
    for role in ROLES:
        score(TARGET, role)
    for learner in params["learners"]:
        fit(TARGET, learner)
        predict(TARGET, learner)
    evaluate(TARGET)
    answer = answer_about("asked")
    report()
    figures = json.loads(Path(f"metrics/details/{TARGET}.json").read_text())["judges"]["mlp"]
    assert figures["auc"] is None
    assert figures["tpr_at_fpr_1e-1"] is None
    assert 0 <= figures["realised_fpr_at_alpha_1e-1"] < 0.5
    assert answer["judge"] == "mlp_fusion"
    assert answer["fraction"] is None
    assert answer["fraction_ci_high"] == 1, "members that the attack misses cannot be counted"
    page = Path("metrics/report.html").read_text()
    assert "No member is known, so nothing can be said of true positives" in page
    assert "there is no upper bound" in page
    assert "too few to check that they come from the same source" in page
    assert "How much leaks?" not in page


def asked_of_scores(elsewhere: Elsewhere, names: list[str]) -> pd.DataFrame:
    """The file of scores with those of some suspects more: of the first a low one."""
    loss = [1e-6, *[1.0] * (len(names) - 1)]
    rows = pd.DataFrame({"image_id": [f"asked/{name}" for name in names], "loss": loss, "distance": 0.5})
    known = elsewhere.scores.astype({"image_id": str, "is_member": object})
    return pd.concat([known, rows], ignore_index=True)


def with_marginal(elsewhere: Elsewhere, table: pd.DataFrame) -> None:
    """Hand over the file, and ask; the one learner is `marginal`."""
    elsewhere.hand_over(table, auxiliary=60, holdout="rest")
    params = YAML(typ="safe").load(Path("params.yaml").read_text())
    params["learners"] = {"marginal": params["learners"]["marginal"]}
    params["evaluate"] |= {"stack": [], "alphas": [0.1], "curve_fpr": 0.1}
    write_params(ask_about("asked", {"source": "parquet", "path": "asked.parquet"}, params, "theirs"))


@pytest.mark.parametrize("told_by", ["is_member", "role"])
def test_suspects_of_a_target_known_by_its_scores_are_in_its_file(elsewhere, refusal, told_by):
    pixels = np.random.default_rng(1).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    write_photos(["a", "b"], pixels[:2], Path("asked.parquet"))
    table = asked_of_scores(elsewhere, ["a", "b"])
    if told_by == "role":
        others = np.where(np.arange(202) < 120, "auxiliary", "holdout")
        role = np.where(table["is_member"] == True, "member", others)  # noqa: E712
        table = table.assign(role=np.where(np.arange(202) < 200, role, "suspect")).drop(columns="is_member")
    with_marginal(elsewhere, table)
    marginal_figures("theirs")
    answer = answer_about("asked")
    scores = read_table(Path("data/suspects/asked/scores.parquet"))
    assert scores.column("image_id").to_pylist() == ["a", "b"]
    assert scores.column("loss").to_pylist() == [1e-6, 1.0]
    assert answer["judge"] == "marginal"
    assert "null_check_suspect" not in answer["checks"], "there are scores alone"
    assert verdicts()["p_value"]["a"] < 0.05 < verdicts()["p_value"]["b"]
    before = contents("data/scores/theirs")
    write_photos(["a", "b", "c"], pixels, Path("asked.parquet"))
    prepare_images("asked_images")
    line = refusal(score_suspects, suspects="asked")
    assert "has no scores of 1 images of data/images/asked_images.parquet, the first is 'asked/c': score them" in line
    with_marginal(elsewhere, pd.concat([table, table.tail(1).assign(image_id="asked/c")]))
    make_target("theirs")
    score_suspects("asked")
    assert read_table(Path("data/suspects/asked/scores.parquet")).num_rows == 3
    write_photos(["a", "b"], pixels[:2], Path("asked.parquet"))
    prepare_images("asked_images")
    line = refusal(score_suspects, suspects="asked")
    assert "1 rows of set asked are of no image of data/images/asked_images.parquet, the first is image_id" in line
    assert "'asked/c'" in line
    for role in ROLES:
        score("theirs", role)
    assert contents("data/scores/theirs") == before, "new suspects do not make it another target"


def test_a_folder_of_suspects_that_became_empty_is_refused_and_what_was_written_stays(audit, refusal):
    ask(named(free_images(1)))
    answer_about("asked")
    before = contents("data", "metrics")
    Path("asked/a.png").unlink()
    assert "asked: no images" in refusal(prepare_images, dataset="asked_images")
    assert contents("data", "metrics") == before


def test_a_postscript_file_under_another_name_starts_no_program(audit, refusal):
    ask(named(free_images(1)))
    Path("asked/a.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EOF\n")
    assert "a.png: does not decode as an image" in refusal(prepare_images, dataset="asked_images")


def test_nothing_can_be_trained_on_no_members(audit, refusal):
    params = tiny_params()
    params["split"]["member"] = 0
    write_params(params)
    split(TARGET)
    assert "params.yaml: split.member: 0 members" in refusal(make_target, target=TARGET)


@pytest.mark.parametrize("role", ["auxiliary", "holdout"])
def test_a_suspect_that_is_certainly_no_member_is_refused(audit, refusal, role):
    known = read_table(Path(f"data/roles/{TARGET}/{role}.parquet"))
    ask({"mine": decode_images(known.slice(3, 1))[0]})
    prepare_images("asked_images")
    score_suspects("asked")
    line = refusal(suspects, suspects="asked")
    assert f"1 suspects are exact duplicates of {role} images" in line
    assert known.column("image_id")[3].as_py() in line


def test_a_suspect_that_a_reference_was_trained_on_is_refused(audit, refusal):
    others = free_images(30)
    put_reference(others)
    ask({"mine": others[3]})
    prepare_images("asked_images")
    score_suspects("asked")
    line = refusal(suspects, suspects="asked")
    assert "1 suspects are exact duplicates of reference images" in line
    assert "'reference-3'" in line


def test_suspects_with_near_copies_among_the_images_of_a_reference_make_a_check_fail(audit):
    others = free_images(46)
    ask({f"{number:02}": image for number, image in enumerate(others[:23])})
    put_reference(others[23:])
    assert not answer_about("asked")["checks"]["suspect_near_reference"]["fails"]
    put_reference(np.rint(0.9 * others[:23]).astype(np.uint8))
    answer = answer_about("asked")
    assert answer["checks"]["suspect_near_reference"]["fails"]
    assert answer["checks_failed"] == 1
    assert [answer[name] for name in ("p_value", "effect", "fraction_ci_low", "named")] == [None] * 4, "no evidence"
    assert not verdicts()["named"].any()
    report()
    page = Path("metrics/report.html").read_text()
    assert "No p-value is given" in page
    assert "Was any of them used?" not in page


def test_suspects_of_named_units_are_told_by_unit(audit):
    images = {f"{scene}{shot}": image for (scene, shot), image in zip(SHOTS, free_images(12), strict=True)}
    write_images("asked", images)
    write_params(ask_about("asked", FOLDER | {"unit": "([a-z]).*"}, tiny_params()))
    answer = answer_about("asked")
    assert (answer["suspects"], answer["units"]) == (12, 4)
    assert verdicts().groupby("unit")["adjusted_p_value"].nunique().tolist() == [1, 1, 1, 1]
    report()
    assert "12 images of 4 units" in Path("metrics/report.html").read_text()


def test_suspects_that_are_members_are_counted(audit):
    known = read_table(Path(f"data/roles/{TARGET}/member.parquet"))
    ask(named(np.concatenate([decode_images(known.slice(3, 2)), free_images(3)])))
    assert answer_about("asked")["copies_of_members"] == 2


@pytest.mark.parametrize(
    ("shape", "said"), [((1, 9, 8), "8x9 1-channel"), ((3, 8, 8), "8x8 3-channel"), ((1, 16, 16), "16x16 1-channel")]
)
def test_a_suspect_of_another_size_than_the_target_takes_is_refused(audit, refusal, shape, said):
    ask({"mine": np.zeros(shape, dtype=np.uint8)})
    prepare_images("asked_images")
    line = refusal(score_suspects, suspects="asked")
    assert f"takes 8x8 1-channel images, the dataset has {said}" in line


def test_a_suspect_of_another_size_is_refused_where_only_scores_are_known(elsewhere, refusal):
    with_marginal(elsewhere, asked_of_scores(elsewhere, ["a"]))
    write_photos(["a"], np.zeros((1, 9, 8), dtype=np.uint8), Path("asked.parquet"))
    marginal_figures("theirs")
    prepare_images("asked_images")
    score_suspects("asked")
    line = refusal(suspects, suspects="asked")
    assert "suspects are 8x9 with 1 channels, the target's images 8x8 with 3" in line


def test_names_that_are_not_there_are_refused_before_anything_is_computed(audit, refusal):
    for key, value, said in [
        ("target", "oracle", "params.yaml: suspects.asked.target: no target 'oracle'; there are digits_ddpm"),
        (
            "images",
            "nothing",
            "params.yaml: suspects.asked.images: no dataset 'nothing'; there are digits, asked_images",
        ),
        ("images", "digits", "params.yaml: suspects.asked.images: digits is the dataset of target digits_ddpm"),
    ]:
        params = ask_about("asked", FOLDER, tiny_params())
        params["suspects"]["asked"][key] = value
        dump_params(params)
        assert said in refusal(config, target=TARGET)


def test_without_suspects_nothing_is_said_of_any(audit):
    assert not Path("data/suspects").exists()
    assert not Path("metrics/suspects").exists()
    assert "Was it trained on these?" not in Path("metrics/report.html").read_text()


def test_the_short_answer_and_the_page_say_what_the_figures_say(audit):
    ask(named(free_images(12)))
    figures, short = answer_about("asked"), json.loads(Path("metrics/suspects/asked.json").read_text())
    assert short == {
        "judge": figures["judge"],
        "suspects": 12,
        "named": figures["named"],
        "p_value": figures["p_value"],
        "fraction_low": figures["fraction_ci_low"],
        "fraction_high": figures["fraction_ci_high"],
        "failed": figures["checks_failed"],
    }
    report()
    page = Path("metrics/report.html").read_text()
    assert "Was it trained on these? asked" in page
    assert "12 images are in question, 12 distinct pictures" in page


def test_new_suspects_leave_every_other_file_as_it_is(audit):
    watched = ("data", "models", "metrics")
    before = contents(*watched)
    others = free_images(2)
    ask({"a": others[0], "deep/b": others[1]})
    answer_about("asked")
    after = contents(*watched)
    assert {path: after[path] for path in before} == before
    assert {path for path in after if path not in before} == {
        *(Path(f"data/{kind}/asked_images.parquet") for kind in ("images", "features")),
        *(Path(f"data/suspects/asked/{name}.parquet") for name in ("scores", "null", "near_duplicates")),
        Path("data/verdicts/suspects/asked.parquet"),
        *(Path(f"{folder}/suspects/asked.json") for folder in ("metrics", "metrics/details")),
    }
    assert verdicts().index.tolist() == ["a.png", "deep/b.png"], "the names that the dataset has"


def test_a_suspect_is_judged_as_evaluate_judges_the_same_image_among_the_holdout(audit):
    """The images are taken out of the holdout, asked about, and answered with the p-values that they had there."""
    headline = json.loads(Path(f"metrics/{TARGET}.json").read_text())["judge"]
    judged = pd.read_parquet(f"data/verdicts/{TARGET}.parquet").query("learner == @headline and role == 'holdout'")
    holdout = read_table(Path(f"data/roles/{TARGET}/holdout.parquet"))
    params = tiny_params()
    params["split"]["holdout"] -= 30
    write_params(params)
    split(TARGET)
    order = holdout.column("image_id").to_pylist()
    left = read_table(Path(f"data/roles/{TARGET}/holdout.parquet")).column("image_id").to_pylist()
    dropped = [row for row, name in enumerate(order) if name not in left]
    ask({order[row]: decode_images(holdout)[row] for row in dropped}, params)
    figures = answer_about("asked")
    names = verdicts().index.str.removesuffix(".png")
    np.testing.assert_array_equal(verdicts()["p_value"], judged.set_index("image_id").loc[names, "p_value"])
    assert figures["suspects"] == len(dropped) == 30
    assert figures["judge"] == headline


@pytest.mark.parametrize("grey_levels", [0, 1])
def test_copies_and_near_copies_of_a_suspect_have_its_verdict_and_count_for_nothing_more(audit, grey_levels):
    """Neither in the figures nor in any check, the null check included."""
    others = free_images(12)
    params = ask(named(others))
    once = answer_about("asked")
    noise = np.random.default_rng(0).integers(-grey_levels, grey_levels + 1, (9, 1, 8, 8))
    near = np.clip(others[1] + noise, 0, 255).astype(np.uint8)
    ask({f"b_again_{number}": image for number, image in enumerate(near)}, params)
    again = answer_about("asked")
    assert again == once | {"suspects": 21}
    assert again["distinct"] == 12
    assert {"blind_suspect", "suspect_near_holdout", "null_check_suspect"} <= set(once["checks"])
    table = verdicts()
    of_b = table[table["picture"] == "b.png"]
    assert sorted(of_b.index) == ["b.png", *(f"b_again_{number}.png" for number in range(9))]
    assert (of_b.drop(columns="distinct") == of_b.loc["b.png"].drop("distinct")).all(axis=None)
    assert table.index[table["distinct"]].tolist() == [f"{name}.png" for name in "abcdefghijkl"]


def test_one_picture_tells_the_null_check_next_to_nothing_whatever_its_copies(audit):
    """Twenty copies, a grey level apart, of one picture that an untrained network gives a low or a high score."""
    distinct = free_images(20)
    noise = np.random.default_rng(0).integers(-1, 2, (20, 1, 8, 8))
    near = np.clip(distinct[:1] + noise, 0, 255).astype(np.uint8)
    params = ask(named(distinct), name="distinct")
    ask(named(near), params, name="near")
    found = {name: answer_about(name)["checks"]["null_check_suspect"] for name in ("distinct", "near")}
    width = {name: one["auc_ci_high"] - one["auc_ci_low"] for name, one in found.items()}
    assert not any(one["fails"] for one in found.values())
    assert width["near"] > 0.9 > 0.7 > width["distinct"]


def test_scores_of_other_suspects_are_refused(audit, refusal):
    others = free_images(4)
    params = ask(named(others[:3]))
    answer_about("asked")
    ask({"d": others[3]}, params)
    prepare_images("asked_images")
    line = refusal(suspects, suspects="asked")
    assert "data/suspects/asked/scores.parquet: its image_ids do not match data/images/asked_images.parquet" in line
    assert "run `dvc repro`" in line


def test_each_set_of_a_target_has_an_answer_of_its_own_whatever_other_sets_there_are(audit):
    members = decode_images(read_table(Path(f"data/roles/{TARGET}/member.parquet")).slice(0, 12))
    params = ask(named(free_images(12)), name="unused")
    alone = answer_about("unused")
    watched = ("data/suspects/unused", "metrics/suspects", "metrics/details/suspects", "data/verdicts/suspects")
    before = contents(*watched)
    ask(named(members), params, name="used")
    answers = {name: answer_about(name) for name in ("used", "unused")}
    assert answers["unused"] == alone
    assert {path: path.read_bytes() for path in before} == before
    assert answers["used"]["copies_of_members"] == 12
    assert answers["used"]["p_value"] != alone["p_value"]
    report()
    page = Path("metrics/report.html").read_text()
    assert "Was it trained on these? unused" in page
    assert "Was it trained on these? used" in page


@pytest.mark.slow
def test_a_new_set_runs_nothing_of_the_target_again(finished_clone, tmp_path, monkeypatch):
    folder = tmp_path / "clone"
    shutil.copytree(finished_clone, folder, symlinks=True)
    params = quick_params()
    pixels = np.random.default_rng(0).integers(0, 256, (4, 1, 8, 8), dtype=np.uint8)
    asked_so_far = set()
    for name in ("first", "second"):
        monkeypatch.chdir(folder)
        write_images(name, named(pixels[:2] if name == "first" else pixels[2:]))
        params = ask_about(name, {"source": "folder", "path": name}, params)
        dump_params(params)
        executed = repro(folder)
        of_set = {f"images@{name}_images", f"score_suspects@{name}", f"suspects@{name}"}
        assert set(executed) == {*of_set, "config@digits_ddpm", "report"}
        asked_so_far.add(name)
        assert {path.stem for path in Path("metrics/suspects").glob("*.json")} == asked_so_far
