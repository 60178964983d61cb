"""Roles by hash of the seed and the unit: what is drawn, what is told, and that no unit is on two sides."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import tiny_params, write_params, write_photos

from leakgauge.errors import InputError
from leakgauge.quantile.base import calibration_split, resamples
from leakgauge.tables import ROLES, read_table
from stages.fit import fit
from stages.images import prepare_images
from stages.score import score
from stages.split import split
from stages.target import target as make_target

TARGET = "theirs"
PIXELS = np.random.default_rng(0).integers(0, 256, (331, 8, 8, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)


def roles_of(pixels: np.ndarray, names: list[str], unit: str | None = None, **options: object) -> dict[str, str]:
    """image_id -> role, of a target that is trained here.  unit : of the dataset's entry.  options : of `split`."""
    params = tiny_params()
    write_photos(names, pixels)
    params["datasets"] = {"photos": {"source": "parquet", "path": "photos.parquet"} | ({"unit": unit} if unit else {})}
    params["targets"] = {TARGET: {"images": "photos", "model": "leakgauge/diffusion/training.py", "split": options}}
    params["evaluate"] |= {"alphas": [0.1], "curve_fpr": 0.1}
    write_params(params)
    prepare_images("photos")
    split(TARGET)
    tables = {role: read_table(Path(f"data/roles/{TARGET}/{role}.parquet")) for role in ROLES}
    return {name: role for role, table in tables.items() for name in table.column("image_id").to_pylist()}


def names(count: int = len(PIXELS)) -> list[str]:
    return [f"photo_{number:03d}" for number in range(count)]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_an_image_more_moves_no_other_where_roles_are_shares_or_told(seed):
    options = {"seed": seed, "member": "photo_0[0-4]*", "auxiliary": 0.6, "holdout": "rest"}
    before, after = roles_of(PIXELS[:330], names(330), **options), roles_of(PIXELS, names(), **options)
    assert len(after) == 331
    assert {name: after[name] for name in before} == before


@pytest.mark.parametrize("seed", range(5))
def test_an_image_more_moves_at_most_the_last_of_each_counted_role(seed):
    options = {"seed": seed, "member": 50, "auxiliary": 150, "holdout": "rest"}
    before, after = roles_of(PIXELS[:330], names(330), **options), roles_of(PIXELS, names(), **options)
    assert pd.Series(after).value_counts().to_dict() == {"member": 50, "auxiliary": 150, "holdout": 131}
    assert sum(after[name] != role for name, role in before.items()) <= 2


def test_neither_names_nor_order_decide_on_a_role():
    options = {"seed": 0, "member": 50, "auxiliary": 150, "holdout": "rest"}
    before = roles_of(PIXELS, names(), **options)
    order = np.random.default_rng(1).permutation(len(PIXELS))
    after = roles_of(PIXELS[order], [f"other_{number:03d}" for number in range(len(PIXELS))], **options)
    assert [before[f"photo_{number:03d}"] for number in order] == list(dict(sorted(after.items())).values()), (
        "the pixels decide"
    )


def test_another_seed_draws_other_roles_and_shares_are_kept_on_average():
    options = {"member": 0, "auxiliary": 0.6, "holdout": "rest"}
    draws = [roles_of(PIXELS, names(), seed=seed, **options) for seed in range(6)]
    counts = [sum(role == "auxiliary" for role in draw.values()) for draw in draws]
    assert abs(np.mean(counts) - 0.6 * 331) < 3 * np.sqrt(331 * 0.24 / 6)
    assert sum(draws[0][name] != draws[1][name] for name in names()) > 100


@pytest.mark.parametrize("member", [60, "photo_00*"])
def test_no_unit_has_two_roles(member):
    found = roles_of(PIXELS, names(), r"photo_(\d\d)\d", seed=0, member=member, auxiliary=0.5, holdout="rest")
    of_unit = pd.DataFrame({"unit": [name[6:8] for name in found], "role": list(found.values())})
    assert (of_unit.groupby("unit")["role"].nunique() == 1).all()
    assert set(found.values()) == set(ROLES)


def test_copies_join_units_and_their_name_is_in_the_tables():
    pixels = PIXELS[:200].copy()
    pixels[10] = pixels[0]  # of units 0 and 1
    found = roles_of(pixels, names(200), r"photo_(\d\d)\d", seed=0, member=60, auxiliary=0.5, holdout="rest")
    assert len({found[name] for name in names(20) if name in found}) == 1
    tables = [read_table(Path(f"data/roles/{TARGET}/{role}.parquet")).to_pandas() for role in ROLES]
    rows = pd.concat(tables).set_index("image_id")["unit"]
    assert set(rows[[name for name in names(20) if name in rows]]) == {"00"}
    assert len(rows) == 199, "the copy counts once"


def test_what_shares_a_unit_with_a_told_member_is_no_certain_non_member(capsys):
    with pytest.raises(InputError, match="too few"):
        roles_of(PIXELS, names(), r"photo_(\d\d)\d", seed=0, member="photo_*[05]", auxiliary=0.5, holdout="rest")
    told = roles_of(PIXELS, names(), r"photo_(\d\d)\d", seed=0, member="photo_00[05]", auxiliary=0.5, holdout="rest")
    assert sum(role == "member" for role in told.values()) == 2
    assert not [name for name in told if name.startswith("photo_00") and told[name] != "member"]
    assert "8 other non-members share a unit with a member and were dropped" in capsys.readouterr().err


def test_a_unit_of_a_column_is_that_of_a_pattern_that_says_the_same():
    options = {"seed": 0, "member": 60, "auxiliary": 0.5, "holdout": "rest"}
    by_pattern = roles_of(PIXELS, names(), r"photo_(\d\d)\d", **options)
    table = pd.read_parquet("photos.parquet").assign(patient=[name[6:8] for name in names()])
    params = tiny_params()
    params["datasets"] = {"photos": {"source": "parquet", "path": "patients.parquet", "unit": "patient"}}
    params["targets"] = {TARGET: {"images": "photos", "model": "leakgauge/diffusion/training.py", "split": options}}
    params["evaluate"] |= {"alphas": [0.1], "curve_fpr": 0.1}
    table.to_parquet("patients.parquet", index=False)
    write_params(params)
    prepare_images("photos")
    split(TARGET)
    for role in ROLES:
        ids = read_table(Path(f"data/roles/{TARGET}/{role}.parquet")).column("image_id").to_pylist()
        assert ids == [name for name in names() if by_pattern.get(name) == role]


@pytest.mark.parametrize(
    ("unit", "said"),
    [
        ("patient", "no column 'patient', which the entry's `unit` names"),
        (r"photo_(\d)$", "does not match image_id 'photo_000'"),
        (r"photo_(\d)(\d)\d", "needs one group in parentheses, has 2"),
        (r"photo_(\d", "no regular expression"),
    ],
)
def test_a_unit_that_is_not_there_is_refused_by_name(unit, said):
    with pytest.raises(InputError, match=r".") as refused:
        roles_of(PIXELS, names(), unit, seed=0, member=60, auxiliary=0.5, holdout="rest")
    assert said in str(refused.value)


def test_a_file_of_scores_that_gives_a_unit_two_roles_is_refused(elsewhere):
    role = np.repeat(["member", "auxiliary", "holdout"], [50, 100, 50])
    table = elsewhere.scores.drop(columns="is_member").assign(role=role)
    elsewhere.hand_over(table)
    params = tiny_params()
    params["datasets"]["photos"] = {"source": "parquet", "path": "photos.parquet", "unit": r"(\d\d\d)\d"}
    params["targets"]["theirs"] = {
        "images": "photos",
        "model": "scores.csv",
        "target": {"scores": ["loss", "distance"]},
        "fit": {"scores": ["loss"]},
    }
    write_params(params)
    prepare_images("photos")
    with pytest.raises(InputError, match="images are of the units of member images"):
        split("theirs")


def test_resamples_of_single_images_are_those_without_units_and_no_unit_is_on_two_sides():
    kept = calibration_split(200, 30, seed=3)
    assert (calibration_split(200, 30, 3, np.arange(200)) == kept).all()
    for plain, of_units in zip(resamples(kept, 3, 5, 2), resamples(kept, 3, 5, 2, np.arange(200)), strict=True):
        assert (plain.rows == of_units.rows).all()
        assert (plain.out_of_bag == of_units.out_of_bag).all()
        assert (plain.stopping.rows == of_units.stopping.rows).all()
    unit = np.random.default_rng(0).integers(60, size=200)
    kept = calibration_split(200, 30, 3, unit)
    assert 20 < kept.sum() <= 30
    assert not set(unit[kept]) & set(unit[~kept])
    for resample in resamples(kept, 3, 5, 2, unit):
        for rows in (resample.rows, resample.stopping.rows):
            assert not set(unit[rows]) & set(unit[resample.out_of_bag])
        assert not set(unit[resample.rows]) & set(unit[resample.stopping.rows])
        counts = pd.Series(resample.rows).value_counts()
        assert (counts.groupby(unit[counts.index]).nunique() == 1).all(), "a unit is drawn as a whole"


@pytest.fixture
def patients(elsewhere) -> dict:
    """Params of a target of which scores are known, of 200 photos of 100 patients, 15 of them members."""
    params = tiny_params()
    photos = pd.read_parquet("photos.parquet")
    photos.assign(patient=photos["image_id"] // 2).to_parquet("patients.parquet", index=False)
    elsewhere.scores["is_member"] = elsewhere.scores["image_id"] < 1030
    elsewhere.scores["loss"] = np.random.default_rng(0).lognormal(size=200)
    elsewhere.scores.to_csv("scores.csv", index=False)
    params["datasets"] = {"photos": {"source": "parquet", "path": "patients.parquet", "unit": "patient"}}
    params["targets"] = {
        "theirs": {
            "images": "photos",
            "model": "scores.csv",
            "split": {"auxiliary": 0.8},
            "target": {"scores": ["loss", "distance"]},
            "fit": {"scores": ["loss"]},
            "evaluate": {"alphas": [0.1], "curve_fpr": 0.1},
        }
    }
    write_params(params)
    prepare_images("photos")
    split("theirs")
    make_target("theirs")
    score("theirs", "auxiliary")
    return params


def test_a_bag_of_units_is_never_judged_by_an_attacker_that_saw_the_unit(patients):
    fit("theirs", "marginal")
    mask = read_table(Path("models/quantile/theirs/marginal/out_of_bag.parquet")).to_pandas()
    unit = mask["image_id"].astype(int) // 2
    of_units = pd.DataFrame(np.stack(mask["out_of_bag"])).groupby(unit.to_numpy())
    assert (of_units.size() == 2).all()
    assert (of_units.nunique() == 1).all().all()


def test_too_few_units_for_a_bag_are_refused_however_many_images_they_have(patients):
    params = patients
    params["targets"]["theirs"]["split"] = {"auxiliary": 0.4}
    write_params(params)
    split("theirs")
    score("theirs", "auxiliary")
    with pytest.raises(InputError, match=r"\d\d units of auxiliary images; a bag needs at least 50"):
        fit("theirs", "marginal")


def test_members_counted_below_the_size_of_a_unit_are_refused():
    with pytest.raises(InputError, match=r"split.member: 3: no unit has so few images"):
        roles_of(PIXELS, names(), r"photo_(\d\d)\d", seed=0, member=3, auxiliary=0.5, holdout="rest")
