"""Images from one Parquet file, and targets of which only scores are known: what is handed over is what is audited."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import Elsewhere, encoded, write_photos
from PIL import Image

from leakgauge.files import file_hash
from leakgauge.imports import read_scores
from leakgauge.tables import ROLES, decode_images, read_metadata, read_table, write_table
from stages.fit import fit
from stages.images import prepare_images
from stages.predict import predict
from stages.score import score
from stages.split import split
from stages.target import target as make_target

SHARING = {"auxiliary": 100, "holdout": "rest"}  # so many support the default alphas


@pytest.fixture
def elsewhere(elsewhere: Elsewhere) -> Elsewhere:
    """The same, with so many auxiliary images that the defaults are valid."""
    elsewhere.hand_over(elsewhere.scores, **SHARING)
    return elsewhere


def run_stages() -> None:
    split("theirs")
    make_target("theirs")
    for role in ROLES:
        score("theirs", role)


def ids_of(role: str, folder: str = "roles") -> list[str]:
    return read_table(Path(f"data/{folder}/theirs/{role}.parquet")).column("image_id").to_pylist()


def with_roles(audit: Elsewhere) -> pd.DataFrame:
    """The scores with a role for each image instead of `is_member`."""
    roles = np.where(audit.scores["is_member"], "member", np.where(np.arange(200) < 150, "auxiliary", "holdout"))
    return audit.scores.drop(columns="is_member").assign(role=roles)


def test_a_parquet_dataset_keeps_order_ids_labels_paths_and_pixels(elsewhere):
    table = read_table(Path("data/images/photos.parquet"))
    given = pq.read_table("photos.parquet")
    assert table.column("image_id").to_pylist() == [str(number) for number in elsewhere.ids]
    assert table.column("label").to_pylist() == given.column("label").to_pylist()
    assert table.column("image")[0].as_py()["path"] == f"{elsewhere.ids[0]}.png"
    assert decode_images(table).shape == (200, 3, 8, 8)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "BMP"])
def test_a_parquet_dataset_holds_any_format_and_needs_no_more_than_the_bytes(form, elsewhere):
    pixels = np.random.default_rng(1).integers(0, 256, (3, 8, 8), dtype=np.uint8)
    data = [encoded(image, form) for image in pixels]
    pq.write_table(pa.table({"image": [{"bytes": each} for each in data]}), "photos.parquet")
    prepare_images("photos")
    table = read_table(Path("data/images/photos.parquet"))
    assert table.column("image_id").to_pylist() == ["0", "1", "2"]
    assert table.column("label").null_count == 3
    Path("first").write_bytes(data[0])
    with Image.open("first") as picture:
        assert (decode_images(table)[0, 0] == np.asarray(picture)).all()


def test_told_members_are_the_members_and_the_others_are_shared_out_by_seed(elsewhere):
    run_stages()
    members = elsewhere.scores.loc[elsewhere.scores["is_member"], "image_id"].astype(str)
    assert set(ids_of("member")) == set(members)
    assert [len(ids_of(role)) for role in ROLES] == [50, 100, 50]
    assert len({image_id for role in ROLES for image_id in ids_of(role)}) == 200
    drawn_by = read_metadata(Path("data/roles/theirs/member.parquet"))["drawn_by"]
    assert drawn_by == {"is_member": "scores.csv", "seed": 0}
    before = ids_of("auxiliary")
    elsewhere.hand_over(elsewhere.scores, **SHARING, seed=1)
    split("theirs")
    assert set(ids_of("member")) == set(members)
    assert ids_of("auxiliary") != before


@pytest.mark.parametrize("name", ["roles.csv", "roles.parquet"])
def test_told_roles_are_taken_exactly(name, elsewhere):
    table = with_roles(elsewhere)
    elsewhere.hand_over(table, name)
    run_stages()
    for role in ROLES:
        assert set(ids_of(role)) == set(table.loc[table["role"] == role, "image_id"].astype(str))
    assert read_metadata(Path("data/roles/theirs/member.parquet"))["drawn_by"] == {"role": name}


def test_both_columns_may_stand_there_where_they_agree(elsewhere):
    elsewhere.hand_over(with_roles(elsewhere).assign(is_member=elsewhere.scores["is_member"].astype(int)))
    split("theirs")
    assert len(ids_of("member")) == 50


@pytest.mark.parametrize("name", ["scores.csv", "scores.parquet"])
def test_scores_pass_through_to_the_last_bit(name, elsewhere):
    elsewhere.hand_over(elsewhere.scores, name, **SHARING)
    run_stages()
    given = elsewhere.scores.assign(image_id=elsewhere.scores["image_id"].astype(str)).set_index("image_id")
    for role in ROLES:
        path = Path(f"data/scores/theirs/{role}.parquet")
        table = read_table(path)
        assert table.column_names == ["image_id", "loss", "distance"]
        assert ids_of(role, "scores") == ids_of(role)
        for column in ("loss", "distance"):
            expected = given.loc[ids_of(role), column].to_numpy()
            assert table.column(column).to_numpy().tobytes() == expected.tobytes()
        facts = read_metadata(path)
        assert facts["target_sha256"] == file_hash(Path("models/target/theirs/scores.parquet"))
        assert facts["columns"]["loss"] == {"definition": "as given", "network_calls": 0}


def test_the_order_of_rows_and_columns_and_the_type_of_ids_change_nothing(elsewhere):
    def outputs() -> dict[Path, str]:
        places = [Path(place) for place in ("data/roles", "data/scores", "data/features", "models")]
        return {path: file_hash(path) for place in places for path in place.rglob("*.parquet")}

    run_stages()
    before = outputs()
    table = elsewhere.scores.sample(frac=1, random_state=1)[["loss", "is_member", "image_id", "distance"]]
    elsewhere.hand_over(table.assign(is_member=table["is_member"].astype(int)), **SHARING)
    run_stages()
    assert outputs() == before
    elsewhere.hand_over(table.assign(image_id=table["image_id"].astype(str)), "scores.parquet", **SHARING)
    run_stages()
    data = Path("data/scores")
    assert {path: key for path, key in outputs().items() if path.is_relative_to(data)} == {
        path: key for path, key in before.items() if path.is_relative_to(data)
    }


@pytest.mark.parametrize("name", ["scores.csv", "scores.parquet"])
def test_rows_in_the_order_of_their_role_give_the_same_bytes_as_shuffled_ones(name, elsewhere):
    outputs = []
    for table in (with_roles(elsewhere).sort_values("role"), with_roles(elsewhere).sample(frac=1, random_state=2)):
        elsewhere.hand_over(table, name)
        run_stages()
        outputs.append({path: file_hash(path) for path in (*Path("data").rglob("*.parquet"), Path("models"))})
    assert outputs[0] == outputs[1]


def test_the_columns_that_are_scores_may_be_named_by_a_pattern(elsewhere):
    table = elsewhere.scores.rename(columns={"loss": "t_error_t10", "distance": "t_error_t20"})
    table.to_csv("scores.csv", index=False)
    assert list(read_scores(Path("scores.csv"), ["t_error_t*", "pia_t*"]).columns) == ["t_error_t10", "t_error_t20"]


def test_ids_of_a_csv_are_not_taken_for_numbers(elsewhere):
    names = [f"{number:06d}" for number in range(200)]
    write_photos(names, np.random.default_rng(1).integers(0, 256, (200, 8, 8), dtype=np.uint8))
    elsewhere.hand_over(elsewhere.scores.assign(image_id=names), **SHARING)
    prepare_images("photos")
    split("theirs")
    assert ids_of("member") == names[:50]


def test_a_csv_whose_first_scores_are_whole_numbers_may_go_on_with_others(tmp_path):
    rows = [f"{number},{number % 2},{number + 1}{'.5' if number > 190_000 else ''}" for number in range(200_000)]
    path = tmp_path / "scores.csv"
    path.write_text("\n".join(["image_id,is_member,loss", *rows]))
    assert read_scores(path, ["loss"]).columns["loss"][-1] == 200_000.5


def test_images_without_scores_are_left_out_where_that_is_allowed_and_counted(elsewhere, capsys):
    elsewhere.hand_over(elsewhere.scores[:-7], **SHARING, unscored="leave_out")
    run_stages()
    assert sum(len(ids_of(role)) for role in ROLES) == 193
    assert "theirs: 7 images have no scores and were left out" in capsys.readouterr().err
    assert read_metadata(Path("data/roles/theirs/holdout.parquet"))["unscored"] == 7


def test_pixels_told_to_be_both_are_dropped_from_the_non_members_and_counted(elsewhere, capsys):
    pixels = decode_images(read_table(Path("data/images/photos.parquet"))).transpose(0, 2, 3, 1).copy()
    pixels[60:64] = pixels[:4]  # four members again, among the others
    write_photos(elsewhere.ids.tolist(), pixels)
    prepare_images("photos")
    run_stages()
    copies = {str(number) for number in elsewhere.ids[60:64]}
    assert not copies & {image_id for role in ROLES for image_id in ids_of(role)}
    assert [len(ids_of(role)) for role in ROLES] == [50, 100, 46]
    assert "theirs: 4 non-members are exact duplicates of a member and were dropped" in capsys.readouterr().err


def test_features_go_with_the_roles(elsewhere):
    split("theirs")
    described = read_table(Path("data/features/photos.parquet")).to_pandas().set_index("image_id")
    for role in ROLES:
        rows = read_table(Path(f"data/features/theirs/{role}.parquet")).to_pandas().set_index("image_id")
        assert list(rows.index) == ids_of(role)
        pd.testing.assert_frame_equal(rows, described.loc[ids_of(role)])


def test_such_a_target_has_members_to_show_and_no_curve_of_training(elsewhere):
    run_stages()
    assert Path("metrics/training/theirs/loss.csv").read_text() == "step,loss\n"
    with Image.open("metrics/samples/theirs.png") as sheet:
        assert sheet.size[0] == sheet.size[1], "one block of four by four"


def test_learners_learn_scores_from_elsewhere_as_any_other(elsewhere):
    run_stages()
    for learner in ("marginal", "gbm"):
        fit("theirs", learner)
        predict("theirs", learner)
    z = read_table(Path("data/z/theirs/gbm.parquet"))
    assert z.column("image_id").to_pylist() == [image_id for role in ROLES for image_id in ids_of(role)]


def test_a_pipeline_folder_that_holds_a_file_of_scores_is_still_scored(audit):
    path = Path("data/scores/digits_ddpm/holdout.parquet")
    before = read_table(path)
    shutil.copy(path, "models/target/digits_ddpm/scores.parquet")
    write_table(path, before[:0], {})
    score("digits_ddpm", "holdout")
    assert read_table(path).equals(before)
