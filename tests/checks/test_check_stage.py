"""The stage `check`: quiet on the default split, loud on planted faults, and what it refuses."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from conftest import answer_about, ask_about, dump_params, tiny_params, write_params
from planted import free_images, page, write_images

from leakgauge.features import named_features
from leakgauge.tables import decode_images, image_table, read_metadata, read_table, write_table
from stages.check import check
from stages.config import config
from stages.evaluate import evaluate
from stages.fit import fit
from stages.predict import predict
from stages.split import split

TARGET = "digits_ddpm"
FIGURES = Path(f"metrics/checks/{TARGET}.json")
PAIRS = Path(f"data/near_duplicates/{TARGET}.parquet")
TOLD = Path(f"data/checks/{TARGET}.json")
ROLE, FEATURES = Path(f"data/roles/{TARGET}"), Path(f"data/features/{TARGET}")


def found() -> dict:
    return json.loads(FIGURES.read_text())


def keep_verdicts() -> None:
    """Of images that still have their role: a reference takes some of the holdout's."""
    path = Path(f"data/verdicts/{TARGET}.parquet")
    rows, tables = read_table(path), [read_table(ROLE / f"{role}.parquet") for role in ("member", "holdout")]
    left = {image_id for table in tables for image_id in table.column("image_id").to_pylist()}
    kept = [image_id in left for image_id in rows.column("image_id").to_pylist()]
    write_table(path, rows.filter(pa.array(kept)), read_metadata(path))


def replace_images(role: str, pixels: np.ndarray) -> None:
    """Give a role's images other pixels, (N, C, H, W) uint8, and their features."""
    path, described = ROLE / f"{role}.parquet", FEATURES / f"{role}.parquet"
    ids, labels = (read_table(path).column(name).to_pylist() for name in ("image_id", "label"))
    write_table(path, image_table(ids, pixels.transpose(0, 2, 3, 1), labels, [None] * len(ids)), read_metadata(path))
    table = pa.table({"image_id": ids, "label": labels} | named_features(pixels))
    write_table(described, table, read_metadata(described))


def images(role: str) -> np.ndarray:
    return decode_images(read_table(ROLE / f"{role}.parquet"))


def test_the_default_split_is_fair_and_the_page_says_so(audit, capsys):
    check(TARGET)
    assert found()["fails"] == 0
    assert f"{TARGET}: 0 of {found()['checks']} checks fail" in capsys.readouterr().out
    assert "No check fails." in page()


@pytest.mark.parametrize("seed", range(5))
def test_few_auxiliary_images_are_no_alarm(audit, seed):
    """120 of them, whatever the draw: roles are random."""
    params = tiny_params()
    params["split"]["seed"] = seed
    write_params(params)
    split(TARGET)
    check(TARGET)
    assert found()["fails"] == 0


def test_few_auxiliary_images_are_a_statement_of_precision(audit):
    details = json.loads(Path(f"metrics/details/{TARGET}.json").read_text())
    draw, images = details["fpr_of_one_draw"], max(figures["calibration"] for figures in details["judges"].values())
    assert draw["images"] == images
    assert 100 <= images <= 120, "but for those in every resample, by chance"
    assert draw["1e-2"]["high"] == pytest.approx(1 - 0.025 ** (1 / images))  # Beta(1, images)
    assert f"over draws of {images} calibrating images" in page()
    assert f"and {round(100 * draw['1e-2']['high'], 1):g} % at alpha = 1 %" in page()


def test_images_kept_apart_to_calibrate_are_those_that_count(audit):
    params = tiny_params()
    params["learners"] = {"marginal": {"kind": "marginal"}}
    params["evaluate"] |= {"stack": [], "alphas": [0.1, 0.02], "curve_fpr": 0.02}
    params["targets"][TARGET]["fit"] = {"calibration": 60}
    write_params(params)
    fit(TARGET, "marginal")
    predict(TARGET, "marginal")
    evaluate(TARGET)
    draw = json.loads(Path(f"metrics/details/{TARGET}.json").read_text())["fpr_of_one_draw"]
    assert draw["images"] == 60
    assert draw["2e-2"]["high"] == pytest.approx(1 - 0.025 ** (1 / 60))


def test_inverted_auxiliary_images_make_a_check_fail(audit):
    replace_images("auxiliary", 255 - images("auxiliary"))
    check(TARGET)
    figures = found()
    assert figures["blind_auxiliary"]["fails"]
    assert figures["blind_auxiliary"]["auc"] > 0.95
    assert figures["blind_member"]["fails"]
    written = page()
    assert 'class="alarm">Image features tell auxiliary images from holdout images' in written
    assert "No verdict: a check fails" in written
    assert written.index("No verdict") < written.index("Image features tell") < written.index("How much leaks?")


def test_copies_of_members_among_the_holdout_are_listed_and_make_a_check_fail(audit):
    planted = images("holdout")
    planted[:12] = np.rint(0.9 * images("member")[:12])  # a little darker: other pixels, the same picture
    replace_images("holdout", planted)
    check(TARGET)
    figures, pairs = found(), read_table(PAIRS).to_pandas()
    assert figures["member_near_holdout"]["fails"]
    assert figures["member_near_holdout"]["member_count"] >= 12
    assert not figures["member_near_auxiliary"]["fails"]
    member, holdout = (
        read_table(ROLE / f"{role}.parquet").column("image_id").to_pylist()[:12] for role in ("member", "holdout")
    )
    assert set(zip(member, holdout, strict=True)) <= set(zip(pairs["image_id_a"], pairs["image_id_b"], strict=True))
    assert (pairs["role_a"] == "member").all()
    assert figures["near_duplicates"] == len(pairs)
    assert "More members than non-members have a near-duplicate among the holdout images" in page()


@pytest.mark.parametrize(
    ("role", "failing"), [("member", "member"), ("auxiliary", "auxiliary"), ("holdout", "auxiliary")]
)
def test_copies_of_any_role_among_the_images_of_a_reference_are_listed_and_make_a_check_fail(role, failing, audit):
    params = tiny_params()
    params["split"]["reference"] = 100
    write_params(params)
    split(TARGET)
    keep_verdicts()
    check(TARGET)
    assert found()["fails"] == 0, "drawn at random"
    planted, count = images("reference"), 25
    planted[:count] = np.rint(0.9 * images(role)[:count])  # a little darker: other pixels, the same picture
    replace_images("reference", planted)
    check(TARGET)
    figures, pairs = found(), read_table(PAIRS).to_pandas().query("role_b == 'reference'")
    assert [name for name in figures if "near_reference" in name and figures[name]["fails"]] == [
        f"{failing}_near_reference"
    ]
    assert figures[f"{failing}_near_reference"][f"{role}_count"] >= count
    ids = [read_table(ROLE / f"{of}.parquet").column("image_id").to_pylist()[:count] for of in (role, "reference")]
    assert set(zip(*ids, strict=True)) <= set(zip(pairs["image_id_a"], pairs["image_id_b"], strict=True))
    assert not any(figures[f"member_near_{among}"]["fails"] for among in ("auxiliary", "holdout"))
    written = page()
    assert "have a near-duplicate among the images of the reference more often, or less often" in written
    assert "No verdict: a check fails" in written


def test_members_without_the_near_duplicates_that_all_others_have_in_the_reference_make_a_check_fail(audit):
    """Scores under the reference are then low for all but members."""
    params = tiny_params()
    params["split"]["reference"] = 100
    write_params(params)
    split(TARGET)
    keep_verdicts()
    planted = images("reference")
    planted[:60] = np.rint(0.9 * np.concatenate([images("auxiliary")[:40], images("holdout")[:20]]))
    replace_images("reference", planted)
    check(TARGET)
    figures = found()["member_near_reference"]
    assert figures["member"] < min(figures["auxiliary"], figures["holdout"])
    assert figures["fails"]


def test_without_a_reference_no_check_speaks_of_one(audit):
    check(TARGET)
    assert not any("reference" in name for name in found())


def test_nothing_near_gives_a_table_without_rows(audit):
    params = tiny_params()
    params["check"] |= {"hash_distance": 0, "pixel_rmse": 1e-9}
    write_params(params)
    check(TARGET)
    table = read_table(PAIRS)
    assert table.num_rows == found()["near_duplicates"] == 0
    assert table.column_names == ["image_id_a", "role_a", "image_id_b", "role_b", "hash_distance", "pixel_rmse"]


def replace_column(role: str, name: str, values: list | pa.Array) -> None:
    path = ROLE / f"{role}.parquet"
    table = read_table(path)
    if name in table.column_names:
        table = table.drop_columns(name)
    write_table(path, table.append_column(name, pa.array(values)), read_metadata(path))


def test_members_of_another_class_make_a_check_fail_and_the_page_names_the_class(audit):
    labels = read_table(ROLE / "member.parquet").column("label").to_pylist()
    replace_column("member", "label", [11 if label in (3, 8) else label for label in labels])
    check(TARGET)
    figures, of_class = found(), sum(label in (3, 8) for label in labels)
    assert figures["label_role_member"]["fails"]
    assert figures["label_role_member"]["label"] == 11
    assert figures["label_role_member"]["of_first"] == figures["label_role_member"]["images"] == of_class
    assert not figures["label_role_auxiliary"]["fails"]
    assert f"{of_class} of {of_class} images of label 11" in page()


def test_labels_of_non_members_alone_make_a_check_fail(audit):
    labels = read_table(ROLE / "member.parquet").column("label").to_pylist()
    replace_column("member", "label", pa.array([None] * len(labels), pa.int64()))
    check(TARGET)
    assert found()["label_role_member"]["fails"]
    assert f"{len(labels)} of {len(labels)} images without a label" in page()


def test_near_duplicates_are_listed_from_either_side(audit):
    """The nearest member of a holdout image may be no near-duplicate, where it is the nearest of one that is."""
    planted = images("member")
    planted[1] = planted[0]
    planted[1, 0, 0, 0] ^= 1
    replace_images("member", planted)
    replace_images("holdout", np.concatenate([planted[:1], images("holdout")[1:]]))
    check(TARGET)
    pairs = read_table(PAIRS).to_pandas()
    first = {
        role: read_table(ROLE / f"{role}.parquet").column("image_id").to_pylist() for role in ("member", "holdout")
    }
    listed = set(pairs.loc[pairs["image_id_b"] == first["holdout"][0], "image_id_a"])
    assert set(first["member"][:2]) <= listed
    assert not pairs.duplicated(["image_id_a", "image_id_b"]).any()


def test_captions_that_go_with_the_role_make_a_check_fail(audit):
    assert not any(name.startswith("caption") for name in found()), "digits have no captions"
    for role, count in (("member", 60), ("auxiliary", 120), ("holdout", 150)):
        replace_column(role, "caption", [f"{'my ' if role == 'member' else ''}digit {i % 10}" for i in range(count)])
    check(TARGET)
    assert found()["caption_role_member"]["fails"]
    assert not found()["caption_role_auxiliary"]["fails"]
    assert "Captions of members tell them from auxiliary and holdout images" in page()


def test_too_few_members_are_told_from_nobody_and_the_page_says_that(audit):
    for folder in (ROLE, FEATURES):
        path = folder / "member.parquet"
        write_table(path, read_table(path).slice(0, 9), read_metadata(path))
    check(TARGET)
    assert found()["blind_member"] == dict.fromkeys(("auc", "auc_ci_low", "auc_ci_high", "p_value")) | {"fails": False}
    assert found()["blind_auxiliary"]["auc"] is not None


def test_suspects_that_look_different_make_a_check_fail_and_others_do_not(audit):
    free, params = free_images(60), tiny_params()
    for name, pixels in {"alike": free, "inverted": 255 - free}.items():
        write_images(name, {f"{row:02}": image for row, image in enumerate(pixels)})
        params = ask_about(name, {"source": "folder", "path": name}, params)
        write_params(params)
        answer = answer_about(name)
        assert answer["checks"]["blind_suspect"]["fails"] == (name == "inverted")
        assert (answer["checks_failed"] > 0) == (name == "inverted")
        assert ('class="alarm">Image features tell suspects from auxiliary' in page()) == (name == "inverted")


def test_the_same_seed_gives_the_same_bytes_and_no_score_is_needed(audit):
    before = [path.read_bytes() for path in (FIGURES, PAIRS, TOLD)]
    for path in (*Path("data/scores").rglob("*.parquet"), *Path("models").rglob("*.safetensors")):
        path.unlink()
    check(TARGET)
    assert [path.read_bytes() for path in (FIGURES, PAIRS, TOLD)] == before


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"blind_acu": 0.6}, "params.yaml: check.blind_acu: unknown key (did you mean 'blind_auc'?)"),
        ({"false_alarm": 0.001}, "params.yaml: check.false_alarm: Input should be greater than or equal to 0.005"),
        ({"hash_distance": 65}, "params.yaml: check.hash_distance: Input should be less than or equal to 64, found 65"),
    ],
)
def test_options_that_make_no_sense_are_refused(audit, refusal, options, said):
    params, written = tiny_params(), Path(f"data/config/{TARGET}/check.json")
    params["check"] |= options
    before = written.read_bytes()
    dump_params(params)
    assert said in refusal(config, target=TARGET)
    assert written.read_bytes() == before


def refused(refusal) -> str:
    """The line that `check` refuses with; the results that were there stay."""
    before = [path.read_bytes() for path in (FIGURES, PAIRS, TOLD)]
    line = refusal(check, target=TARGET)
    assert [path.read_bytes() for path in (FIGURES, PAIRS, TOLD)] == before
    return line


def test_features_of_other_images_are_refused(audit, refusal):
    path = FEATURES / "auxiliary.parquet"
    write_table(path, read_table(path).slice(1), read_metadata(path))
    line = refused(refusal)
    assert f"{path}: its image_ids do not match {ROLE}/auxiliary.parquet: run `dvc repro`" in line


def test_a_statistic_that_is_no_number_is_refused(audit, refusal):
    path = FEATURES / "member.parquet"
    table = read_table(path)
    broken = table.column("mean_luma").to_numpy().copy()
    broken[3] = np.nan
    table = table.set_column(table.column_names.index("mean_luma"), "mean_luma", pa.array(broken))
    write_table(path, table, read_metadata(path))
    assert f"{path}: mean_luma of image" in refused(refusal)


def test_missing_images_are_named_with_what_to_do(audit, refusal):
    (ROLE / "holdout.parquet").unlink()
    assert f"{ROLE}/holdout.parquet: not found: run `dvc repro` to make it" in refused(refusal)
