"""Exact copies: each distinct image counts once, and the target is trained on what the dataset holds."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from conftest import Elsewhere, encoded, marginal_figures, tiny_params, write_params, write_photos

from leakgauge.errors import InputError
from leakgauge.files import file_hash
from leakgauge.inference.suspects import adjusted_p_values
from leakgauge.tables import ROLES, decode_images, read_metadata, read_table
from stages import target as stage
from stages.images import prepare_images
from stages.split import split
from stages.target import target as make_target

TARGET = "digits_ddpm"


def noise(count: int) -> np.ndarray:
    """(count, 8, 8) uint8: distinct images."""
    return np.random.default_rng(5).integers(0, 256, (count, 8, 8), dtype=np.uint8)


def dataset_of(ids: list[str], pixels: np.ndarray, **options: object) -> None:
    """Make the default target's dataset one of these images, in this order, and split it."""
    write_photos(ids, pixels)
    params = tiny_params()
    params["datasets"]["photos"] = {"source": "parquet", "path": "photos.parquet"}
    params["targets"][TARGET]["images"] = "photos"
    params["split"] |= options
    params["evaluate"] |= {"alphas": [0.1], "curve_fpr": 0.1}  # few images calibrate
    write_params(params)
    prepare_images("photos")
    split(TARGET)


def roles() -> dict[str, pd.DataFrame]:
    return {role: read_table(Path(f"data/roles/{TARGET}/{role}.parquet")).to_pandas() for role in ROLES}


def test_drawn_roles_hold_distinct_images_and_say_how_many_copies_each_has(audit, capsys):
    times = np.arange(60) % 3 + 1  # 60 distinct images, once, twice and three times
    pixels = np.repeat(noise(60), times, axis=0)
    ids = [f"{row:03d}" for row in range(len(pixels))]
    dataset_of(ids, pixels, member=20, auxiliary=25, holdout="rest")
    drawn = roles()
    assert {role: len(rows) for role, rows in drawn.items()} == {"member": 20, "auxiliary": 25, "holdout": 15}
    together = pd.concat(drawn.values())
    assert together["sha256"].nunique() == 60, "no copy has another role"
    first = np.cumsum(times) - times
    expected = {ids[row]: count for row, count in zip(first, times, strict=True)}
    assert dict(zip(together["image_id"], together["copies"], strict=True)) == expected, "the first stands for all"
    told = capsys.readouterr()
    for role, rows in drawn.items():
        repeats = int((rows["copies"] - 1).sum())
        assert read_metadata(Path(f"data/roles/{TARGET}/{role}.parquet"))["exact_copies"] == repeats > 0
        assert f"{role}: {repeats} exact copies of other {role} images: each distinct image counts once" in told.err
    assert f"{TARGET}: 20 member, 25 auxiliary, 15 holdout" in told.out
    assert read_metadata(Path(f"data/roles/{TARGET}/holdout.parquet"))["duplicates_dropped"] == 0


def test_shares_are_drawn_as_if_there_were_no_copies(audit):
    drawn = {}
    for copies in (1, 30):
        pixels = np.r_[np.repeat(noise(60)[:10], copies, axis=0), noise(60)[10:]]
        dataset_of([str(row) for row in range(len(pixels))], pixels, member=10, auxiliary=0.6, holdout="rest")
        drawn[copies] = {role: set(rows["sha256"]) for role, rows in roles().items()}
        assert all(len(rows) == len(drawn[copies][role]) for role, rows in roles().items())
    assert drawn[30] == drawn[1]
    assert len(drawn[1]["member"]) == 10
    assert abs(len(drawn[1]["auxiliary"]) - 30) < 3 * np.sqrt(50 * 0.6 * 0.4)


def test_copies_of_members_told_by_name_are_dropped_from_the_others_and_do_not_train(audit, capsys):
    pixels = np.r_[noise(60)[:20], noise(60)[:5], noise(60)[:3], noise(60)[20:]]
    names = [*(f"members/{row}" for row in range(25)), *(f"others/{row}" for row in range(43))]
    dataset_of(names, pixels, member="members/*", auxiliary=25, holdout="rest")
    drawn = roles()
    assert set(drawn["member"]["image_id"]) == set(names[:20])
    assert drawn["member"].set_index("image_id")["copies"].to_dict() == {
        name: 1 + (row < 5) for row, name in enumerate(names[:20])
    }
    assert len(drawn["holdout"]) == 15
    assert read_metadata(Path(f"data/roles/{TARGET}/holdout.parquet"))["duplicates_dropped"] == 3
    assert "3 non-members are exact duplicates of a member and were dropped" in capsys.readouterr().err


def test_rows_of_an_index_file_that_are_copies_count_once(audit):
    pixels = np.r_[noise(60), noise(60)]
    np.savez("roles.npz", mia_train_idxs=np.r_[0:10, 60:67], mia_eval_idxs=np.r_[67:70, 20:60, 80:120])
    index = {"path": "roles.npz", "sha256": file_hash(Path("roles.npz"))}
    ids = [f"{row:03d}" for row in range(120)]
    dataset_of(ids, pixels, index=index, auxiliary=25, holdout="rest")
    drawn = roles()
    assert drawn["member"]["image_id"].tolist() == ids[:10]
    assert sorted([*drawn["auxiliary"]["image_id"], *drawn["holdout"]["image_id"]]) == ids[20:60]
    assert drawn["member"]["copies"].tolist() == [2] * 7 + [1] * 3
    assert (pd.concat([drawn["auxiliary"], drawn["holdout"]])["copies"] == 2).all()
    assert read_metadata(Path(f"data/roles/{TARGET}/holdout.parquet"))["duplicates_dropped"] == 3


def test_a_target_trained_here_is_trained_on_every_copy_of_its_members(audit, monkeypatch):
    seen = []
    train = stage.train
    monkeypatch.setattr(stage, "train", lambda pixels, *rest: seen.append(pixels) or train(pixels, *rest))
    held = np.repeat(noise(60), np.where(np.arange(60) < 20, 8, 1), axis=0)
    names = [f"{'members' if row < 160 else 'others'}/{row:03d}" for row in range(200)]
    dataset_of(names, held, member="members/*", auxiliary=25, holdout="rest")
    make_target(TARGET)
    assert torch.equal(seen[0][:, 0], torch.from_numpy(held[:160]))


def test_without_copies_the_members_train_as_they_are(audit, monkeypatch):
    seen = []
    monkeypatch.setattr(stage, "train", lambda pixels, *rest: seen.append(pixels) or pytest.fail("enough"))
    with pytest.raises(pytest.fail.Exception, match="enough"):
        make_target(TARGET)
    members = decode_images(read_table(Path(f"data/roles/{TARGET}/member.parquet")))
    assert seen[0].numpy().tobytes() == members.tobytes()


def test_copies_with_other_labels_or_captions_are_told_and_the_first_is_used(audit, capsys):
    pixels = np.r_[noise(40), noise(40)[:4]]
    captions = [f"caption {row % 40}" for row in range(44)]
    labels = [row % 40 for row in range(44)]
    captions[40], labels[41], labels[42] = "another", 7, None
    images = [{"bytes": encoded(image), "path": None} for image in pixels]
    ids = [f"{row:02d}" for row in range(44)]
    dataset_of(ids, pixels, member=5, auxiliary=0.5, holdout="rest")
    pq.write_table(pa.table({"image_id": ids, "image": images, "label": labels, "caption": captions}), "photos.parquet")
    prepare_images("photos")
    capsys.readouterr()
    split(TARGET)
    told = capsys.readouterr().err
    rows = pd.concat(roles().values()).set_index("image_id")
    assert rows.loc[["00", "01", "02"], "caption"].tolist() == ["caption 0", "caption 1", "caption 2"]
    assert rows.loc[["00", "01", "02"], "label"].tolist() == [0, 1, 2]
    facts = [read_metadata(Path(f"data/roles/{TARGET}/{role}.parquet")) for role in ROLES]
    assert sum(of["copies_described_otherwise"] for of in facts) == 3
    assert "images have copies with another label or caption: the first one is used" in told


# The error rate, where auxiliary images have copies.  Scores are from elsewhere, and known of every image.


def audit_of_copies(times: np.ndarray, holdout: int, seed: int, **options: object) -> dict:
    """What `evaluate` says of one threshold for all, learnt on auxiliary images that stand `times` times each.

    Scores are lognormal, and copies have that of their pixels.  options : calibration, selection and alphas of
    params.yaml; drawn: auxiliary and holdout images are drawn from all non-members, about half and half, and those with
    copies score low.
    """
    rng = np.random.default_rng(seed)
    distinct = len(times) + holdout + 100
    pixels = rng.integers(0, 256, (distinct, 4, 4), dtype=np.uint8)
    told = np.repeat(["auxiliary", "holdout", "member"], [len(times), holdout, 100])
    of = np.repeat(np.arange(distinct), np.r_[times, np.ones(holdout, dtype=int), np.full(100, 2)])
    drawn = options.get("drawn", False)
    simple = np.r_[times > 1, np.zeros(holdout + 100, dtype=bool)] & drawn
    loss = rng.lognormal(np.where(told == "member", -2, 0), 1) * np.where(simple, 0.1, 1)
    ids = np.arange(len(of))
    write_photos(ids.tolist(), pixels[of])
    table = pd.DataFrame({"image_id": ids, "role": told[of], "loss": loss[of]})
    if drawn:
        table = table.assign(is_member=table["role"] == "member").drop(columns="role")
    Elsewhere(ids, table).hand_over(table)
    params = tiny_params()
    params["datasets"]["photos"] = {"source": "parquet", "path": "photos.parquet"}
    params["targets"] = {"theirs": {"images": "photos", "model": "scores.csv", "target": {"scores": ["loss"]}}}
    alphas = options.get("alphas", params["evaluate"]["alphas"])
    params["fit"] |= {"scores": ["loss"], "bag_size": 10, "calibration": options.get("calibration", 0)}
    params["split"] |= {"auxiliary": 0.5, "holdout": "rest"}
    params["evaluate"] |= {"alphas": alphas, "curve_fpr": alphas[-1], "stack": []}
    params["evaluate"]["selection"] = options.get("selection", 0.0)
    params["learners"] = {"marginal": {"kind": "marginal"}}
    write_params(params)
    prepare_images("photos")
    return marginal_figures("theirs")


def test_ten_images_of_thirty_copies_leave_the_error_rate_what_was_asked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    figures = audit_of_copies(np.repeat([30, 1], [10, 300]), 310, 0, drawn=True)
    auxiliary = read_table(Path("data/roles/theirs/auxiliary.parquet")).num_rows
    assert auxiliary + figures["holdout"] == 620, "half and half, about"
    assert min(auxiliary, figures["holdout"]) > 250
    assert figures["calibration"] >= 0.96 * auxiliary, "but for those in every resample, by chance"
    allowed = 3 * np.sqrt(0.09 / auxiliary + 0.09 / figures["holdout"])
    assert abs(figures["realised_fpr_at_alpha_1e-1"] - 0.1) < allowed


def test_images_of_eight_copies_each_calibrate(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    figures = audit_of_copies(np.full(150, 8), 500, 1)
    assert figures["calibration"] >= 0.96 * 150, "but for those in every resample, by chance"
    assert abs(figures["realised_fpr_at_alpha_1e-1"] - 0.1) < 3 * np.sqrt(0.09 / 150 + 0.09 / 500)


def test_fifty_images_kept_apart_support_p_values_of_one_in_fifty_one_however_many_copies_there_are(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"0.01 asked for, but 50 auxiliary images calibrate"):
        audit_of_copies(np.full(100, 10), 500, 2, calibration=50)
    figures = audit_of_copies(np.full(100, 10), 500, 2, calibration=50, alphas=[0.1, 0.02])
    assert figures["calibration"] == 50
    assert figures["p_value_resolution"] == pytest.approx(1 / 51)
    judged = read_table(Path("data/verdicts/theirs.parquet")).to_pandas()
    p_values = judged.loc[judged["role"] == "holdout", "p_value"]
    assert p_values.min() >= 1 / 51 - 1e-12, "no smaller one is claimed"
    assert (adjusted_p_values(p_values.to_numpy()) > 0.1).all(), "none was used, and none is named"


def test_copies_count_once_in_the_checks_and_in_the_images_set_apart_to_choose(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    figures = audit_of_copies(np.full(150, 2), 200, 3, selection=0.25)
    details = json.loads(Path("metrics/details/theirs.json").read_text())
    chosen, calibrating = details["selection"], details["fpr_of_one_draw"]["images"]
    assert 0.96 * 150 <= calibrating <= 150, "but for those in every resample, by chance"
    assert (chosen["members"] + figures["members"], chosen["holdout"] + figures["holdout"]) == (100, 200)
    near = json.loads(Path("metrics/checks/theirs.json").read_text())["member_near_holdout"]
    for role, images in (("member", 100), ("auxiliary", 150)):  # none of so many is near
        assert near[f"{role}_ci_high"] == pytest.approx(1 - 0.025 ** (1 / images))
