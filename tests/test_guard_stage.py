"""The stage `guard`: quiet on the default split, loud on planted faults, and what it refuses."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from conftest import tiny_params, write_params

from leakgauge.config import target_entry
from leakgauge.features import named_features
from leakgauge.report.page import TargetPage, render
from leakgauge.tables import ROLES, decode_images, image_table, read_metadata, read_table, write_table
from stages.guard import guard
from stages.split import split

TARGET = "digits_ddpm"
FIGURES = Path(f"metrics/guards/{TARGET}.json")
PAIRS = Path(f"data/guards/{TARGET}.parquet")
ROLE, FEATURES = Path(f"data/roles/{TARGET}"), Path(f"data/features/{TARGET}")


def found() -> dict:
    return json.loads(FIGURES.read_text())


def page() -> str:
    """The page as it now is, without its figures, which take seconds to draw."""
    facts = read_metadata(Path(f"data/verdicts/{TARGET}.parquet"))
    roles = {
        role: read_metadata(ROLE / f"{role}.parquet") | {"images": 1, "sha256": ""} for role in (*ROLES, "suspect")
    }
    check = json.loads(Path(f"metrics/checks/{TARGET}.json").read_text())
    selection = json.loads(Path(f"metrics/selection/{TARGET}.json").read_text())
    most_confident = next(iter(facts["figures"]))
    said = (target_entry(TARGET), roles, facts, found(), check, selection, most_confident)
    nothing = {
        "figures": {},
        "exposed": None,
        "samples": b"",
        "inference": {"figures": {"suspects": 0}},
        "suspects": [],
        "taken": {"filled_in": {}, "not_taken": []},
        "left_out": [],
    }
    return " ".join(render([TargetPage(TARGET, *said, **nothing)], "").split())


def replace_images(role: str, pixels: np.ndarray) -> None:
    """Give a role's images other pixels, (N, C, H, W) uint8, and their features."""
    path, described = ROLE / f"{role}.parquet", FEATURES / f"{role}.parquet"
    ids, labels = (read_table(path).column(name).to_pylist() for name in ("image_id", "label"))
    write_table(path, image_table(ids, pixels.transpose(0, 2, 3, 1), labels, [None] * len(ids)), read_metadata(path))
    table = pa.table({"image_id": ids, "label": labels} | named_features(pixels))
    write_table(described, table, read_metadata(described))


def images(role: str) -> np.ndarray:
    return decode_images(read_table(ROLE / f"{role}.parquet"))


def test_the_default_split_is_fair_and_the_page_says_so(audit):
    guard(TARGET)
    assert found()["fires"] == 0
    assert "No guard fires." in page()


@pytest.mark.parametrize("seed", range(5))
def test_few_auxiliary_images_are_no_alarm_but_a_statement_of_precision(audit, seed, capsys):
    """120 of them, whatever the draw: roles are random."""
    params = tiny_params()
    params["split"]["seed"] = seed
    write_params(params)
    split(TARGET)
    guard(TARGET)
    figures = found()
    assert figures["fires"] == 0
    assert "fires" not in figures["fpr_at_alpha_1e-2"]
    high = figures["fpr_at_alpha_1e-2"]["high"]
    assert high == pytest.approx(1 - 0.025 ** (1 / 120))  # Beta(1, 120)
    assert "over draws of 120 calibrating images" in page()
    assert "and 3 % at alpha = 1 %" in page()
    assert "at alpha = 0.01 between 0.00021 and 0.03" in capsys.readouterr().out


def test_images_kept_apart_to_calibrate_are_those_that_count(audit):
    params = tiny_params()
    params["targets"][TARGET]["fit"] = {"calibration": 99}
    write_params(params)
    guard(TARGET)
    assert found()["fpr_at_alpha_1e-2"]["high"] == pytest.approx(1 - 0.025 ** (1 / 99))


def test_inverted_auxiliary_images_set_the_alarm_off(audit):
    replace_images("auxiliary", 255 - images("auxiliary"))
    guard(TARGET)
    figures = found()
    assert figures["blind_auxiliary"]["fires"]
    assert figures["blind_auxiliary"]["auc"] > 0.95
    assert figures["blind_member"]["fires"]
    written = page()
    assert 'class="alarm">Auxiliary and holdout images look different' in written
    assert "The verdicts below cannot be trusted" in written
    assert written.index("cannot be trusted") < written.index("What came out")


def test_copies_of_members_among_the_holdout_are_listed_and_set_the_alarm_off(audit):
    planted = images("holdout")
    planted[:12] = np.rint(0.9 * images("member")[:12])  # a little darker: other pixels, the same picture
    replace_images("holdout", planted)
    guard(TARGET)
    figures, pairs = found(), read_table(PAIRS).to_pandas()
    assert figures["member_near_holdout"]["fires"]
    assert figures["member_near_holdout"]["member_count"] >= 12
    assert not figures["member_near_auxiliary"]["fires"]
    member, holdout = (
        read_table(ROLE / f"{role}.parquet").column("image_id").to_pylist()[:12] for role in ("member", "holdout")
    )
    assert set(zip(member, holdout, strict=True)) <= set(zip(pairs["image_id_a"], pairs["image_id_b"], strict=True))
    assert (pairs["role_a"] == "member").all()
    assert figures["near_duplicates"] == len(pairs)
    assert "of the members have a near-duplicate among the holdout images" in page()


def test_nothing_near_gives_a_table_without_rows(audit):
    params = tiny_params()
    params["guard"] |= {"hash_distance": 0, "pixel_rmse": 1e-9}
    write_params(params)
    guard(TARGET)
    table = read_table(PAIRS)
    assert table.num_rows == found()["near_duplicates"] == 0
    assert table.column_names == ["image_id_a", "role_a", "image_id_b", "role_b", "hash_distance", "pixel_rmse"]


def replace_column(role: str, name: str, values: list) -> None:
    path = ROLE / f"{role}.parquet"
    table = read_table(path)
    if name in table.column_names:
        table = table.drop_columns(name)
    write_table(path, table.append_column(name, pa.array(values)), read_metadata(path))


def test_members_of_another_class_set_the_alarm_off_and_the_page_names_the_class(audit):
    labels = read_table(ROLE / "member.parquet").column("label").to_pylist()
    replace_column("member", "label", [11 if label in (3, 8) else label for label in labels])
    guard(TARGET)
    figures, of_class = found(), sum(label in (3, 8) for label in labels)
    assert figures["label_role_member"]["fires"]
    assert figures["label_role_member"]["label"] == 11
    assert figures["label_role_member"]["of_first"] == figures["label_role_member"]["images"] == of_class
    assert not figures["label_role_auxiliary"]["fires"]
    assert f"{of_class} of the {of_class} images of label 11 are members" in page()


def test_captions_that_go_with_the_role_set_the_alarm_off(audit):
    assert not any(name.startswith("caption") for name in found()), "digits have no captions"
    for role, count in (("member", 60), ("auxiliary", 120), ("holdout", 150)):
        replace_column(role, "caption", [f"{'my ' if role == 'member' else ''}digit {i % 10}" for i in range(count)])
    guard(TARGET)
    assert found()["caption_role_member"]["fires"]
    assert not found()["caption_role_auxiliary"]["fires"]
    assert "The captions of members are not like those of auxiliary and holdout images" in page()


def test_too_few_members_are_told_from_nobody_and_the_page_says_that(audit):
    for folder in (ROLE, FEATURES):
        path = folder / "member.parquet"
        write_table(path, read_table(path).slice(0, 9), read_metadata(path))
    guard(TARGET)
    assert found()["blind_member"] == dict.fromkeys(("auc", "auc_ci_low", "auc_ci_high", "p_value")) | {"fires": False}
    assert found()["blind_auxiliary"]["auc"] is not None


def test_suspects_that_look_different_set_the_alarm_off_and_others_do_not(audit):
    for inverted in (False, True):
        free = decode_images(read_table(Path("data/images/digits.parquet")).slice(500, 60))
        ids = [f"suspect/{row}" for row in range(60)]
        pixels = 255 - free if inverted else free
        write_table(
            ROLE / "suspect.parquet", image_table(ids, pixels.transpose(0, 2, 3, 1), [None] * 60, [None] * 60), {}
        )
        table = pa.table({"image_id": ids, "label": [None] * 60} | named_features(pixels))
        write_table(FEATURES / "suspect.parquet", table, {})
        guard(TARGET)
        assert found()["blind_suspect"]["fires"] == inverted
    assert 'class="alarm">Suspects and non-members look different' in page()


@pytest.mark.parametrize("grey_levels", [0, 1])
def test_copies_and_near_copies_of_a_suspect_are_no_further_evidence(audit, grey_levels):
    free = decode_images(read_table(Path("data/images/digits.parquet")).slice(500, 12))
    noise = np.random.default_rng(0).integers(-grey_levels, grey_levels + 1, (12, 8, 1, 8, 8))
    noise[:, 0] = 0
    found_of = []
    for copies in (1, 8):
        near = np.clip(free[:, None] + noise[:, :copies], 0, 255).astype(np.uint8)
        pixels, count = near.reshape(-1, 1, 8, 8), 12 * copies
        ids = [f"suspect/{row}" for row in range(count)]
        nothing = [None] * count
        write_table(ROLE / "suspect.parquet", image_table(ids, pixels.transpose(0, 2, 3, 1), nothing, nothing), {})
        write_table(FEATURES / "suspect.parquet", pa.table({"image_id": ids} | named_features(pixels)), {})
        guard(TARGET)
        found_of.append({name: of for name, of in found().items() if "suspect" in name})
    assert found_of[0] == found_of[1]


def test_the_same_seed_gives_the_same_bytes_and_no_score_is_needed(audit):
    before = FIGURES.read_bytes(), PAIRS.read_bytes()
    for path in (*Path("data/scores").rglob("*.parquet"), *Path("models").rglob("*.safetensors")):
        path.unlink()
    guard(TARGET)
    assert (FIGURES.read_bytes(), PAIRS.read_bytes()) == before


def refused_with(refusal, **options) -> str:
    """The line that these options are refused with; the results that were there stay."""
    params = tiny_params()
    params["guard"] |= options
    write_params(params)
    before = FIGURES.read_bytes(), PAIRS.read_bytes()
    line = refusal(guard, target=TARGET)
    assert (FIGURES.read_bytes(), PAIRS.read_bytes()) == before
    return line


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"blind_acu": 0.6}, "params.yaml: guard.blind_acu: unknown key (did you mean 'blind_auc'?)"),
        ({"false_alarm": 0.001}, "params.yaml: guard.false_alarm: Input should be greater than or equal to 0.005"),
        ({"hash_distance": 65}, "params.yaml: guard.hash_distance: Input should be less than or equal to 64, found 65"),
    ],
)
def test_options_that_make_no_sense_are_refused(audit, refusal, options, said):
    assert said in refused_with(refusal, **options)


def test_features_of_other_images_are_refused(audit, refusal):
    path = FEATURES / "auxiliary.parquet"
    write_table(path, read_table(path).slice(1), read_metadata(path))
    line = refused_with(refusal)
    assert f"{path}: describes other images than {ROLE}/auxiliary.parquet holds: run `dvc repro`" in line


def test_a_statistic_that_is_no_number_is_refused(audit, refusal):
    path = FEATURES / "member.parquet"
    table = read_table(path)
    broken = table.column("mean_luma").to_numpy().copy()
    broken[3] = np.nan
    table = table.set_column(table.column_names.index("mean_luma"), "mean_luma", pa.array(broken))
    write_table(path, table, read_metadata(path))
    assert f"{path}: mean_luma of image" in refused_with(refusal)


def test_missing_images_are_named_with_what_to_do(audit, refusal):
    (ROLE / "holdout.parquet").unlink()
    assert f"{ROLE}/holdout.parquet: not found: run `dvc repro` to make it" in refused_with(refusal)
