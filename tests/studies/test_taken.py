"""A pipeline that was trained elsewhere: its members are those it is said to have, and studies of a view run on it."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import dump_params, tiny_params
from test_studies_pipeline import tiny_studies

from leakgauge.errors import InputError
from leakgauge.files import file_hash
from studies.auxiliary_size.__main__ import auxiliary_size
from studies.common.audits import read_audits
from studies.common.population import Population, read_population
from studies.cost.__main__ import cost
from studies.exposure.__main__ import exposure
from studies.mismatch.__main__ import mismatch
from studies.prepare import prepare
from studies.processes.__main__ import processes
from studies.score import score
from studies.targets.recipe import Known
from studies.targets.taken import known_roles
from studies.train import train_model
from studies.uplift.__main__ import uplift
from studies.width.__main__ import width


def population(hashes: list[str]) -> Population:
    """Images `m/0`, `m/1`, ... and `x/0`, `x/1`, ... by the first letter of their hashes."""
    ids = np.array([f"{name[0]}/{row}" for row, name in enumerate(hashes)])
    nothing = np.zeros((len(ids), 1))
    return Population(ids, nothing, nothing[:, 0], np.array(hashes), nothing, ["none"])


def test_members_are_those_of_the_pattern_and_copies_of_them_are_no_others():
    images = population(["m1", "m2", "m2", *(f"x{row}" for row in range(8)), "x0"])
    images.hashes[3] = "m1"
    roles = known_roles(images, Known(member="m/*", auxiliary=4), 0)
    assert roles["member"].tolist() == [0, 1]
    assert sorted([*roles["auxiliary"], *roles["holdout"]]) == [*range(4, 12)]
    assert len(roles["auxiliary"]) == 4
    assert set(known_roles(images, Known(member="m/*", auxiliary=4), 1)["auxiliary"]) != set(roles["auxiliary"])


def test_an_index_tells_them_too_and_images_in_neither_list_have_no_role(tmp_path):
    np.savez(tmp_path / "roles.npz", mia_train_idxs=[1, 2], mia_eval_idxs=[4, 5, 6])
    index = {"path": str(tmp_path / "roles.npz"), "sha256": file_hash(tmp_path / "roles.npz")}
    roles = known_roles(population([f"x{row}" for row in range(9)]), Known(index=index, auxiliary=1), 0)
    assert roles["member"].tolist() == [1, 2]
    assert sorted([*roles["auxiliary"], *roles["holdout"]]) == [4, 5, 6]


@pytest.mark.parametrize(("pattern", "auxiliary"), [("nobody", 2), ("*", 2), ("m/*", 5)])
def test_too_few_of_either_are_refused(pattern, auxiliary):
    with pytest.raises(InputError, match=r"members and \d others are too few for \d auxiliary images and a holdout"):
        known_roles(population(["m1", "x1", "x2", "x3", "x4", "x5"]), Known(member=pattern, auxiliary=auxiliary), 0)


@pytest.fixture
def studies(tmp_path, monkeypatch, family) -> dict:
    """Parameters of the studies in the working directory, in which model `ddpm` is a pipeline from elsewhere."""
    (tmp_path / "studies").mkdir()
    monkeypatch.chdir(tmp_path / "studies")
    shutil.copytree(family("epsilon"), tmp_path / "theirs")
    dump_params(tiny_params(), tmp_path)
    params = tiny_studies()
    split = {"member": "digits-00[0-4]?", "auxiliary": 90}
    pinned = file_hash(tmp_path / "theirs")
    params["models"]["ddpm"] = {"pipeline": "../theirs", "sha256": pinned, "split": split, "seeds": [0, 1]}
    params["processes"] = {"seeds": [1], "views": {"theirs": "ddpm"}, "intervals": {10: "ddpm"}}
    dump_params(params)
    return params


@pytest.mark.slow
def test_every_study_of_a_view_runs_on_it_and_one_that_asks_how_it_was_trained_does_not(studies):
    prepare()
    train_model("ddpm")
    assert file_hash(Path("models/ddpm/unet")) == file_hash(Path("../theirs/unet"))
    score("ddpm")
    images = read_population()
    one, two = (audit.roles for audit in read_audits("ddpm", images))
    known = set(images.hashes[:50])
    assert set(one["member"].hashes) == set(two["member"].hashes) == known
    assert set(one["auxiliary"].hashes) != set(two["auxiliary"].hashes)
    assert not known & {*one["auxiliary"].hashes, *one["holdout"].hashes}
    for study in (uplift, exposure, processes, mismatch, auxiliary_size, width):
        study()
        assert len(pd.read_csv(f"metrics/{study.__name__}.csv"))
    with pytest.raises(InputError, match=r"params\.yaml: models\.ddpm: was trained elsewhere, and is asked for how"):
        cost()


def test_another_pipeline_than_was_pinned_is_refused_with_the_hash_it_has(studies):
    Path("../theirs/unet/config.json").write_text("{}")
    found = file_hash(Path("../theirs"))
    with pytest.raises(InputError, match=rf"params\.yaml: models\.ddpm\.sha256: that of \.\./theirs is {found}"):
        train_model("ddpm")
    assert not Path("models/ddpm").exists()
