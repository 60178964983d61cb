"""suspect, split, infer and report on images in question: of a target whose members' scores are known to be lower."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import tiny_params, unasked, write_params, write_photos
from PIL import Image

from leakgauge.tables import decode_images, read_table
from stages.evaluate import evaluate
from stages.fit import fit
from stages.guard import guard
from stages.infer import infer
from stages.predict import predict
from stages.report import report
from stages.score import score
from stages.select import select
from stages.split import split
from stages.stack import stack
from stages.suspect import suspect
from stages.sweep import sweep
from stages.target import target as make_target

TARGET = "digits_ddpm"
PHOTOS = Path("suspects/photos")


def ask(ids: list[str], rows: np.ndarray, pixels: np.ndarray, folder: Path = Path("suspects/digits")) -> None:
    """Put images into the folder of suspects.  pixels : (N, 1, 8, 8)."""
    for name, row in zip(ids, rows, strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        image = pixels[row, 0] if pixels.shape[1] == 1 else pixels[row].transpose(1, 2, 0)
        Image.fromarray(image).save(folder / f"{name}.png")


def infer_again() -> dict:
    """Every stage that new suspects call for."""
    suspect("digits")
    split(TARGET)
    score(TARGET, "suspect")
    guard(TARGET)
    infer(TARGET)
    return json.loads(Path(f"metrics/inferences/{TARGET}.json").read_text())


@pytest.fixture
def others(audit: Path) -> np.ndarray:
    """(N, 1, 8, 8) uint8: digits that have no role in the finished audit."""
    taken = {name for role in ("member", "auxiliary", "holdout") for name in _ids(role)}
    images = read_table(Path("data/images/digits.parquet"))
    free = [row for row, name in enumerate(images.column("image_id").to_pylist()) if name not in taken]
    return decode_images(images.take(free))


def test_suspects_are_judged_where_no_member_is_known(audit, others):
    shutil.copytree(f"models/target/{TARGET}", "pipeline")
    params = tiny_params()
    target = params["targets"][TARGET]
    params["learners"] = {name: params["learners"][name] for name in ("marginal", "mlp")}
    params["stack"]["of"], params["infer"]["learner"] = [], "mlp"
    target |= {"source": "path", "path": "pipeline", "split": {"member": 0}, "fit": {"fusion": ["t_error_t0"]}}
    write_params(params)
    ask(["a", "b", "c"], np.arange(3), others)
    suspect("digits")
    split(TARGET)
    make_target(TARGET)
    for role in ("member", "auxiliary", "holdout", "suspect"):
        score(TARGET, role)
    select(TARGET)
    for learner in params["learners"]:
        fit(TARGET, learner)
        predict(TARGET, learner)
    for stage in (stack, evaluate, guard, infer, sweep):
        stage(TARGET)
    report()
    figures = json.loads(Path(f"metrics/{TARGET}.json").read_text())["mlp"]
    assert figures["auc"] is None
    assert figures["tpr_at_fpr_1e-1"] is None
    assert 0 <= figures["realised_fpr_at_alpha_1e-1"] < 0.5
    answer = json.loads(Path(f"metrics/inferences/{TARGET}.json").read_text())
    assert answer["judge"] == "mlp_fusion"
    assert answer["fraction_ci_high"] == 1, "members that the attack misses cannot be counted"
    page = Path("metrics/report.html").read_text()
    assert "No member is known, so nothing can be said of true positives" in page
    assert "there is no upper\nbound" in page
    assert "too few to check that they come from the same source" in page
    assert "How much leaks" not in page


@pytest.mark.parametrize("told_by", ["is_member", "role"])
def test_suspects_of_a_target_known_by_its_scores_are_in_its_file(elsewhere, refusal, told_by):
    rng = np.random.default_rng(1)
    ask(["a", "b"], np.arange(2), rng.integers(0, 256, (2, 1, 8, 8), dtype=np.uint8).repeat(3, axis=1), PHOTOS)
    elsewhere.hand_over(elsewhere.scores, auxiliary=60, holdout="rest")  # the entry names the suspects now
    suspect("photos")
    rows = pd.DataFrame({"image_id": ["suspect/a.png", "suspect/b.png"], "loss": [1e-6, 1.0], "distance": [0.5, 0.5]})
    table = pd.concat([elsewhere.scores.astype({"image_id": str, "is_member": object}), rows])
    if told_by == "role":
        others = np.where(np.arange(202) < 120, "auxiliary", "holdout")
        role = np.where(table["is_member"] == True, "member", others)  # noqa: E712
        table = table.assign(role=np.where(np.arange(202) < 200, role, "suspect")).drop(columns="is_member")
    elsewhere.hand_over(table, auxiliary=60, holdout="rest")
    split("theirs")
    make_target("theirs")
    score("theirs", "suspect")
    scores = read_table(Path("data/scores/theirs/suspect.parquet"))
    assert scores.column("image_id").to_pylist() == ["suspect/a.png", "suspect/b.png"]
    assert scores.column("loss").to_pylist() == [1e-6, 1.0]
    score("theirs", "auxiliary")
    of_auxiliary = Path("data/scores/theirs/auxiliary.parquet")
    before = of_auxiliary.read_bytes()
    ask(["c"], np.arange(1), rng.integers(0, 256, (1, 1, 8, 8), dtype=np.uint8).repeat(3, axis=1), PHOTOS)
    suspect("photos")
    assert "scores.csv: 1 suspects have no row, the first is 'suspect/c.png'" in refusal(split, target="theirs")
    more = pd.concat([table, table.tail(1).assign(image_id="suspect/c.png")])
    elsewhere.hand_over(more, auxiliary=60, holdout="rest")
    split("theirs")
    make_target("theirs")
    score("theirs", "auxiliary")
    assert of_auxiliary.read_bytes() == before, "new suspects do not make it another target"
    (PHOTOS / "c.png").unlink()
    suspect("photos")
    assert "the first is image_id 'suspect/c.png'; the first there is 'suspect/a.png'" in refusal(
        split, target="theirs"
    )


def test_a_folders_suspects_have_no_class_and_a_file_of_them_tells_theirs(audit, others):
    ask(["seven/a"], np.array([0]), others)
    suspect("digits")
    assert read_table(Path("data/suspects/digits/images.parquet")).column("label").to_pylist() == [None]
    shutil.rmtree("suspects/digits/seven")
    write_photos([7], others[:1, 0], Path("suspects/digits/part-0.parquet"))
    suspect("digits")
    table = read_table(Path("data/suspects/digits/images.parquet"))
    assert (table.column("image_id").to_pylist(), table.column("label").to_pylist()) == (["suspect/7"], [0])


def test_a_folder_of_suspects_that_became_empty_is_refused_and_what_was_written_stays(audit, others, refusal):
    ask(["a"], np.array([0]), others)
    suspect("digits")
    before = Path("data/suspects/digits/images.parquet").read_bytes()
    Path("suspects/digits/a.png").unlink()
    line = refusal(suspect, dataset="digits")
    assert "suspects/digits: no suspects there: put them in, or fetch them (`dvc pull`); where there are to be" in line
    assert "none, the dataset's entry in params.yaml says so by `suspects: suspects/none`" in line
    assert Path("data/suspects/digits/images.parquet").read_bytes() == before


def test_the_folder_that_says_there_are_no_suspects_must_stay_empty(audit, others, refusal):
    write_params(unasked(tiny_params()))
    suspect("digits")
    assert read_table(Path("data/suspects/digits/images.parquet")).num_rows == 0
    ask(["a"], np.array([0]), others, Path("suspects/none"))
    assert "suspects/none: must stay empty: `suspects: suspects/none` in params.yaml says" in refusal(
        suspect, dataset="digits"
    )


def test_what_cannot_be_read_in_a_folder_of_suspects_is_refused(audit, refusal):
    Path("suspects/digits/holiday.heic").write_bytes(b"...")
    assert "holiday.heic: no image that can be read" in refusal(suspect, dataset="digits")


def test_a_postscript_file_under_another_name_starts_no_program(audit, refusal):
    Path("suspects/digits/a.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EOF\n")
    assert "a.png: does not decode as an image" in refusal(suspect, dataset="digits")


def test_nothing_can_be_trained_on_no_members(audit, refusal):
    params = tiny_params()
    params["split"]["member"] = 0
    write_params(params)
    split(TARGET)
    assert "params.yaml: split.member: 0 members" in refusal(make_target, target=TARGET)


@pytest.mark.parametrize("role", ["auxiliary", "holdout"])
def test_a_suspect_that_is_certainly_no_member_is_refused(audit, refusal, role):
    known = read_table(Path(f"data/roles/{TARGET}/{role}.parquet"))
    ask(["mine"], np.array([0]), decode_images(known.slice(3, 1)))
    suspect("digits")
    line = refusal(split, target=TARGET)
    assert f"1 suspects are exact duplicates of {role} images" in line
    assert known.column("image_id")[3].as_py() in line


def test_a_suspect_of_another_size_is_refused(audit, refusal):
    ask(["mine"], np.array([0]), np.zeros((1, 1, 9, 8), dtype=np.uint8))
    suspect("digits")
    line = refusal(split, target=TARGET)
    assert "8x9" in line
    assert "8x8" in line


def test_a_learner_that_is_not_there_is_refused(audit, refusal):
    params = tiny_params()
    params["infer"]["learner"] = "oracle"
    write_params(params)
    assert "params.yaml: infer.learner: no learner 'oracle'; there are marginal, gbm" in refusal(infer, target=TARGET)


def _ids(role: str) -> list[str]:
    return read_table(Path(f"data/roles/{TARGET}/{role}.parquet")).column("image_id").to_pylist()


def test_without_suspects_nothing_is_inferred(audit):
    assert json.loads(Path(f"metrics/inferences/{TARGET}.json").read_text()) == {"suspects": 0}
    assert read_table(Path(f"data/inferences/{TARGET}.parquet")).num_rows == 0
    assert "Was it trained on these?" not in Path("metrics/report.html").read_text()


def test_new_suspects_leave_every_other_table_as_it_is(audit, others):
    watched = [*Path("data/roles").rglob("*.parquet"), *Path("data/features").rglob("*.parquet")]
    before = {path: path.read_bytes() for path in watched if path.stem != "suspect"}
    ask(["a", "deep/b"], np.arange(2), others)
    infer_again()
    assert {path: path.read_bytes() for path in before} == before
    verdicts = read_table(Path(f"data/inferences/{TARGET}.parquet"))
    assert verdicts.column("image_id").to_pylist() == ["suspect/a.png", "suspect/deep/b.png"]


def test_a_suspect_is_judged_as_evaluate_judges_the_same_image_among_the_holdout(audit):
    """The images are taken out of the holdout, asked about, and answered with the p-values that they had there."""
    judged = pd.read_parquet(f"data/verdicts/{TARGET}.parquet")
    judged = judged[(judged["learner"] == "gbm") & (judged["role"] == "holdout")].set_index("image_id")
    holdout = read_table(Path(f"data/roles/{TARGET}/holdout.parquet"))
    order = _ids("holdout")
    params = tiny_params()
    params["split"]["holdout"] -= 30
    dropped = _dropped_by(params)
    ask(dropped, np.array([order.index(name) for name in dropped]), decode_images(holdout))
    figures = infer_again()
    verdicts = pd.read_parquet(f"data/inferences/{TARGET}.parquet")
    names = [name.removeprefix("suspect/").removesuffix(".png") for name in verdicts["image_id"]]
    np.testing.assert_array_equal(verdicts["p_value"], judged.loc[names, "p_value"])
    assert figures["suspects"] == 30


def _dropped_by(params: dict) -> list[str]:
    before = _ids("holdout")
    write_params(params)
    split(TARGET)
    return sorted(set(before) - set(_ids("holdout")))


@pytest.mark.parametrize("grey_levels", [0, 1])
def test_copies_and_near_copies_of_a_suspect_have_its_verdict_and_count_for_nothing_more(audit, others, grey_levels):
    ask(["a", "b", "c"], np.arange(3), others)
    once = infer_again()
    noise = np.random.default_rng(0).integers(-grey_levels, grey_levels + 1, (9, 1, 8, 8))
    near = np.clip(others[1] + noise, 0, 255).astype(np.uint8)
    ask([f"b_again_{number}" for number in range(9)], np.arange(9), near)
    again = infer_again()
    assert again == once | {"suspects": 12}
    assert again["distinct"] == 3
    verdicts = pd.read_parquet(f"data/inferences/{TARGET}.parquet").set_index("image_id")
    of_b = verdicts[verdicts["picture"] == "suspect/b.png"]
    assert sorted(of_b.index) == ["suspect/b.png", *(f"suspect/b_again_{number}.png" for number in range(9))]
    assert (of_b.drop(columns="distinct") == of_b.loc["suspect/b.png"].drop("distinct")).all(axis=None)
    assert verdicts.index[verdicts["distinct"]].tolist() == ["suspect/a.png", "suspect/b.png", "suspect/c.png"]


def test_pictures_of_other_suspects_are_refused(audit, others, refusal):
    ask(["a", "b", "c"], np.arange(3), others)
    infer_again()
    ask(["d"], np.array([3]), others)
    suspect("digits")
    split(TARGET)
    score(TARGET, "suspect")
    line = refusal(infer, target=TARGET)
    path = f"data/pictures/{TARGET}.parquet"
    assert f"{path}: image_ids do not match data/roles/{TARGET}/suspect.parquet: run `dvc repro`" in line
