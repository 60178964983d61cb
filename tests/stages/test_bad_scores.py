"""Bad scores and images from elsewhere: one line that names the file and the image, exit 1, nothing half-written."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import Elsewhere, encoded, write_params, write_photos
from ruamel.yaml import YAML

from leakgauge.errors import InputError
from leakgauge.imports import read_scores
from leakgauge.tables import read_table, write_table
from stages.config import config
from stages.images import prepare_images
from stages.score import score
from stages.split import split
from stages.target import target as make_target

SHARING = {"auxiliary": 100, "holdout": "rest"}  # so many support the default alphas


@pytest.fixture
def elsewhere(elsewhere: Elsewhere) -> Elsewhere:
    """The same, with so many auxiliary images that the defaults are valid."""
    elsewhere.hand_over(elsewhere.scores, **SHARING)
    return elsewhere


@pytest.fixture
def refused(elsewhere, refusal):
    """Hand over a file of scores, expect `split` to refuse it, and return the one line it said."""

    def refuse(table: pd.DataFrame, name: str = "scores.csv", **split_options: object) -> str:
        elsewhere.hand_over(table, name, **{**SHARING, **split_options})
        line = refusal(split, target="theirs")
        assert not Path("data/roles").exists()
        return line

    return refuse


@pytest.fixture
def not_taken(elsewhere, refusal):
    """The same of `target`, which takes the scores."""

    def refuse(table: pd.DataFrame, name: str = "scores.csv") -> str:
        elsewhere.hand_over(table, name, **SHARING)
        split("theirs")
        line = refusal(make_target, target="theirs")
        assert not Path("models").exists()
        return line

    return refuse


def changed(table: pd.DataFrame, row: int, **values: object) -> pd.DataFrame:
    """The table with other values in one row."""
    columns = {name: [*table[name][:row], value, *table[name][row + 1 :]] for name, value in values.items()}
    return table.assign(**columns)


def test_rows_without_an_image_are_refused(elsewhere, refused):
    line = refused(changed(elsewhere.scores, 3, image_id=77))
    assert "scores.csv: 1 of 200 rows are of no image of the dataset, the first is image_id '77'" in line


def test_images_without_a_row_are_refused_with_what_to_do(elsewhere, refused):
    line = refused(elsewhere.scores[:-2])
    assert (
        f"scores.csv: 2 of 200 images of the dataset have no row, the first is image_id '{elsewhere.ids[-2]}'" in line
    )
    assert line.endswith("score them, or set split.unscored: leave_out")
    line = refused(elsewhere.scores[:-2], unscored="refuse")
    assert "set targets.theirs.split.unscored: leave_out" in line


def test_another_word_for_unscored_is_refused(elsewhere, refusal):
    elsewhere.hand_over(elsewhere.scores, **SHARING, unscored="drop")
    assert "targets.theirs.split.unscored: Input should be 'refuse' or 'leave_out'" in refusal(config, target="theirs")


@pytest.mark.parametrize("name", ["scores.csv", "scores.parquet"])
def test_an_id_that_stands_there_twice_is_named(name, elsewhere, refused):
    table = changed(elsewhere.scores, 5, image_id=int(elsewhere.ids[4]))
    assert f"{name}: duplicate image_id '{elsewhere.ids[4]}'" in refused(table, name)


@pytest.mark.parametrize("name", ["scores.csv", "scores.parquet"])
@pytest.mark.parametrize(("value", "word"), [(np.nan, "nan"), (np.inf, "inf"), (0.0, "0.0"), (-1.5, "-1.5")])
def test_a_score_without_a_logarithm_is_named_with_its_image(value, word, name, elsewhere, not_taken):
    line = not_taken(changed(elsewhere.scores, 5, distance=value), name)
    assert f"{name}: column 'distance' is {word} for image_id '{elsewhere.ids[5]}' (1 such in all)" in line


def test_a_constant_score_is_refused(elsewhere, not_taken):
    assert "scores.csv: column 'loss' is 2.0 for every image" in not_taken(elsewhere.scores.assign(loss=2.0))


def test_a_column_that_is_no_number_is_refused(elsewhere, not_taken):
    assert "scores.csv: column 'loss' is string" in not_taken(elsewhere.scores.assign(loss="low"))


UNNAMED = "is not named in target.scores of the target's entry: name it there if it is a score, else remove it"


@pytest.mark.parametrize("name", ["scores.csv", "scores.parquet"])
@pytest.mark.parametrize("column", ["Unnamed: 0", "index", "split", "loss_2"])
def test_a_column_that_is_not_named_as_a_score_is_refused_by_name(column, name, elsewhere, not_taken):
    table = elsewhere.scores.assign(**{column: np.arange(1, 201)})
    assert f"{name}: column '{column}' {UNNAMED}" in not_taken(table, name)


def test_the_index_that_pandas_adds_to_a_csv_or_parquet_file_is_refused_by_name(elsewhere, refusal):
    table = elsewhere.scores.sample(frac=1, random_state=0)
    elsewhere.hand_over(table, **SHARING)
    table.to_csv("scores.csv")
    split("theirs")
    assert f"scores.csv: column '' {UNNAMED}" in refusal(make_target, target="theirs")
    elsewhere.hand_over(table, "scores.parquet", **SHARING)
    table.to_parquet("scores.parquet")
    assert f"scores.parquet: column '__index_level_0__' {UNNAMED}" in refusal(make_target, target="theirs")


def test_a_name_or_pattern_that_no_column_has_is_refused(elsewhere, not_taken):
    line = not_taken(elsewhere.scores.drop(columns="distance"))
    assert "scores.csv: has no column 'distance', which target.scores names; there are loss" in line
    with pytest.raises(InputError, match=r"column 'loss' is not named in target\.scores"):
        read_scores(Path("scores.csv"), ["t_error_t*"])


@pytest.mark.parametrize("steps", [1.0, 0.01, 3.0])
@pytest.mark.parametrize("shuffled", [False, True])
def test_row_numbers_are_no_scores_even_if_they_are_named(shuffled, steps, elsewhere, not_taken):
    numbers = 1 + steps * np.arange(200)
    table = elsewhere.scores.assign(loss=np.random.default_rng(0).permutation(numbers) if shuffled else numbers)
    assert "column 'loss' runs in even steps of" in not_taken(table)


@pytest.mark.parametrize("told_by", ["is_member", "role"])
def test_a_column_that_says_the_role_is_no_score_even_if_it_is_named(told_by, elsewhere, not_taken):
    is_member = elsewhere.scores["is_member"]
    role = np.where(is_member, "member", np.where(np.arange(200) < 150, "auxiliary", "holdout"))
    codes = {"is_member": np.where(is_member, 1, 2), "role": pd.factorize(role)[0] + 1}[told_by]
    table = elsewhere.scores.assign(loss=codes)
    table = table if told_by == "is_member" else table.drop(columns="is_member").assign(role=role)
    assert "column 'loss' has one value per role: it says the role" in not_taken(table)


def test_a_role_that_is_none_is_named(elsewhere, refused):
    table = changed(elsewhere.scores.assign(role="auxiliary"), 2, role="witness").drop(columns="is_member")
    line = refused(table)
    assert f"image_id '{elsewhere.ids[2]}' has role 'witness': must be member, auxiliary, holdout" in line


def test_a_role_without_an_image_is_refused(elsewhere, refused):
    roles = np.where(elsewhere.scores["is_member"], "member", "auxiliary")
    assert "scores.csv: no row has role 'holdout'" in refused(elsewhere.scores.assign(role=roles))


def test_a_membership_that_is_neither_is_named(elsewhere, refused):
    table = elsewhere.scores.assign(is_member=elsewhere.scores["is_member"].astype(int))
    line = refused(changed(table, 2, is_member=2))
    assert f"image_id '{elsewhere.ids[2]}' has is_member '2': must be 1 or 0" in line


def test_a_file_of_members_alone_is_refused(elsewhere, refused):
    assert "scores.csv: is_member is 1 in every row" in refused(elsewhere.scores.assign(is_member=True))


def test_a_role_and_a_membership_that_contradict_are_named(elsewhere, refused):
    roles = np.where(elsewhere.scores["is_member"], "member", np.where(elsewhere.ids % 2, "auxiliary", "holdout"))
    table = changed(elsewhere.scores.assign(role=roles), 4, role="holdout")
    line = refused(table)
    assert f"scores.csv: image_id '{elsewhere.ids[4]}' has role 'holdout', but is_member is True" in line


def with_a_copy(elsewhere, original: int, copy: int) -> np.ndarray:
    """Write photos of which one is again another; the (200,) roles to be told."""
    pixels = np.random.default_rng(1).integers(0, 256, (200, 8, 8), dtype=np.uint8)
    pixels[copy] = pixels[original]
    write_photos(elsewhere.ids.tolist(), pixels)
    prepare_images("photos")
    return np.where(elsewhere.scores["is_member"], "member", np.where(np.arange(200) < 120, "auxiliary", "holdout"))


@pytest.mark.parametrize("role", ["auxiliary", "holdout"])
def test_a_non_member_with_a_members_pixels_is_refused_and_both_are_named(role, elsewhere, refused):
    roles = with_a_copy(elsewhere, 7, 100)
    line = refused(changed(elsewhere.scores.assign(role=roles), 100, role=role))
    assert f"1 {role} images are exact duplicates of member images" in line
    assert f"image_id '{elsewhere.ids[100]}', of member '{elsewhere.ids[7]}'" in line


def test_an_auxiliary_image_again_among_the_holdout_is_refused_and_both_are_named(elsewhere, refused):
    roles = with_a_copy(elsewhere, 60, 150)
    line = refused(elsewhere.scores.assign(role=roles))
    assert "1 holdout images are exact duplicates of auxiliary images" in line
    assert f"image_id '{elsewhere.ids[150]}', of auxiliary '{elsewhere.ids[60]}'" in line


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        (["image_id"], "needs one column 'image_id' (there is is_member, loss, distance)"),
        (["is_member"], "needs a column 'role' (member, auxiliary, holdout) or 'is_member' (1 or 0)"),
    ],
)
def test_a_missing_column_is_named(missing, said, elsewhere, refused):
    assert f"scores.csv: {said}" in refused(elsewhere.scores.drop(columns=missing))


def test_a_file_without_a_column_of_scores_is_refused(elsewhere, not_taken):
    line = not_taken(elsewhere.scores.drop(columns=["loss", "distance"]))
    assert "scores.csv: has no column of scores beside image_id, is_member" in line


def test_too_few_non_members_are_refused(elsewhere, refused):
    assert "50 members leave 150 distinct non-members, too few for 150 auxiliary and 1 holdout" in refused(
        elsewhere.scores, auxiliary=150
    )


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("scores.parquet", b"", "not a readable Parquet file"),
        ("scores.parquet", b"PAR1 torn PAR1", "not a readable Parquet file"),
        ("scores.csv", b"", "not a readable CSV file"),
        ("scores.csv", b"image_id,is_member,loss\n1,0\n", "not a readable CSV file"),
        ("scores.csv", b"image_id,is_member,loss\n", "has no rows"),
        ("scores.csv", b"image_id,is_member,loss,loss\n1,0,1,2\n", "duplicate column 'loss'"),
        ("scores.txt", b"image_id", "a file of scores ends in .parquet or .csv"),
        ("scores.csv", None, "not found"),
        ("scores.parquet", None, "not found"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(name, content, said, elsewhere, refusal):
    params = YAML(typ="safe").load(Path("params.yaml").read_text())
    params["targets"]["theirs"] |= {"model": name, "source": "scores"}
    write_params(params)
    Path("scores.csv").unlink()
    if content is not None:
        Path(name).write_bytes(content)
    assert f"{name}: {said}" in refusal(split, target="theirs")


def test_a_torn_parquet_file_is_named(elsewhere, refusal):
    elsewhere.hand_over(elsewhere.scores, "scores.parquet", **SHARING)
    data = bytearray(Path("scores.parquet").read_bytes())
    data[4:400] = bytes(396)  # the footer stands, the pages are gone
    Path("scores.parquet").write_bytes(data)
    assert "scores.parquet: not a readable Parquet file" in refusal(split, target="theirs")


def test_a_bad_file_leaves_the_old_target(elsewhere, refusal):
    split("theirs")
    make_target("theirs")
    before = Path("models/target/theirs/scores.parquet").read_bytes()
    elsewhere.hand_over(elsewhere.scores.assign(loss=1.0), **SHARING)
    assert "column 'loss' is 1.0 for every image" in refusal(make_target, target="theirs")
    assert Path("models/target/theirs/scores.parquet").read_bytes() == before


def test_roles_of_other_images_than_are_scored_are_refused(elsewhere, refusal):
    split("theirs")
    make_target("theirs")
    given = Path("models/target/theirs/scores.parquet")
    write_table(given, read_table(given)[:0], {})
    line = refusal(score, target="theirs", role="member")
    members = read_table(Path("data/roles/theirs/member.parquet"))
    assert f"{given}: has no scores of 50 images of data/roles/theirs/member.parquet, the first is " in line
    assert line.endswith(f"'{members.column('image_id')[0]}': score them too")


def test_features_of_other_images_are_refused(elsewhere, refusal):
    path = Path("data/features/photos.parquet")
    write_table(path, read_table(path)[1:], {})
    assert f"{path}: describes other images than data/images/photos.parquet holds: run `dvc repro`" in refusal(
        split, target="theirs"
    )


def write_rows(**columns: object) -> None:
    pq.write_table(pa.table(columns), "photos.parquet")


def image(pixels: np.ndarray) -> dict:
    return {"bytes": encoded(pixels), "path": None}


def grey(size: int = 8) -> np.ndarray:
    return np.full((size, size), 7, np.uint8)


@pytest.mark.parametrize("cut", [0, 3, 50])
def test_image_bytes_that_do_not_decode_are_named(cut, elsewhere, refusal):
    write_rows(image_id=["a", "b"], image=[image(grey()), {"bytes": encoded(grey())[:cut], "path": "b.png"}])
    line = refusal(prepare_images, dataset="photos")
    assert f"photos.parquet: image 'b': {'does not decode as an image' if cut else 'has no bytes'}" in line


def test_an_image_of_another_size_is_named(elsewhere, refusal):
    write_rows(image_id=["a", "b"], image=[image(grey()), image(grey(9))])
    line = refusal(prepare_images, dataset="photos")
    assert "photos.parquet: image 'b': is 9x9 with 1 channel, but photos.parquet: image 'a' is 8x8" in line


def test_an_image_of_another_mode_is_named(elsewhere, refusal):
    write_rows(image_id=["a", "b"], image=[image(grey()), image(np.zeros((8, 8, 4), np.uint8))])
    assert "photos.parquet: image 'b': has mode RGBA" in refusal(prepare_images, dataset="photos")


def test_an_image_id_that_stands_there_twice_is_named(elsewhere, refusal):
    write_rows(image_id=[5, 5], image=[image(grey()), image(grey())])
    assert "photos.parquet: duplicate image_id '5'" in refusal(prepare_images, dataset="photos")


def test_a_dataset_without_images_is_refused(elsewhere, refusal):
    write_rows(picture=[image(grey())], label=[1])
    line = refusal(prepare_images, dataset="photos")
    assert "photos.parquet: no column 'image' or 'img' (there is picture, label)" in line
    write_rows(image=["a.png"])
    assert "photos.parquet: column 'image' is string: needs a struct of bytes and path" in refusal(
        prepare_images, dataset="photos"
    )
    write_rows(image=[image(grey())])
    pq.write_table(pq.read_table("photos.parquet")[:0], "photos.parquet")
    assert "photos.parquet: has no rows" in refusal(prepare_images, dataset="photos")


def test_a_label_that_is_no_integer_is_refused(elsewhere, refusal):
    write_rows(image=[image(grey())], label=["cat"])
    assert "photos.parquet: column 'label' is string: needs integers" in refusal(prepare_images, dataset="photos")


def test_a_dataset_that_is_no_parquet_file_is_refused(elsewhere, refusal):
    Path("photos.parquet").write_bytes(b"PNG")
    assert "photos.parquet: not a readable Parquet file" in refusal(prepare_images, dataset="photos")
    Path("photos.parquet").unlink()
    assert "photos.parquet: not found" in refusal(prepare_images, dataset="photos")
