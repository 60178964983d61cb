"""A target that has learnt nothing is at chance, however its images lie in folders, or nothing of it is scored.

Rule: seeds 0, 1 and 2 of images, classes, weights and roles, whatever they give; the product's interval of the AUC of
the main score, members against holdout, at a confidence at which all intervals of this file hold together with 95 %.
"""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from conftest import tiny_params, write_params
from diffusers import DDIMScheduler, DDPMPipeline
from families import unet
from PIL import Image
from ruamel.yaml import YAML

from leakgauge.errors import InputError
from leakgauge.files import file_hash
from leakgauge.inference.roc import auc
from leakgauge.tables import read_metadata, read_table, write_table
from stages.check import check
from stages.images import prepare_images
from stages.score import score
from stages.split import split
from stages.target import target as make_target

CLASSES = ["ash", "birch", "cedar"]
MEMBERS, OTHERS = 60, 180
Place = Callable[[int, bool, str], str]  # number of an image, whether it is a member, its class -> path
LAYOUTS: dict[str, tuple[Place, str, bool]] = {  # where images lie, the members' pattern, whether folders are classes
    "flat": (lambda i, member, kind: f"{'m' if member else 'n'}{i:03}.png", "m*", False),
    "members": (lambda i, member, kind: f"{'members' if member else 'others'}/{i:03}.png", "members/*", False),
    "zmembers": (lambda i, member, kind: f"{'zmembers' if member else 'others'}/{i:03}.png", "zmembers/*", False),
    "in members": (
        lambda i, member, kind: f"{'members' if member else 'others'}/{kind}/{i:03}.png",
        "members/*",
        True,
    ),
    "by name": (lambda i, member, kind: f"{kind}/{'m' if member else 'n'}{i:03}.png", "*/m*", True),
    "nested": (lambda i, member, kind: f"{'in/members' if member else 'out'}/{kind}/{i:03}.png", "in/members/*", True),
}
SEEDS = (0, 1, 2)
CONFIDENCE = 1 - 0.05 / (3 * len(SEEDS) * len(LAYOUTS))


def images(seed: int) -> np.ndarray:
    """Grey images of varying brightness and busyness, all from one distribution, (N, 8, 8) uint8."""
    rng = np.random.default_rng(seed)
    base, spread = rng.uniform(60, 190, (MEMBERS + OTHERS, 1, 1)), rng.uniform(2, 50, (MEMBERS + OTHERS, 1, 1))
    return np.clip(base + spread * rng.standard_normal((MEMBERS + OTHERS, 8, 8)), 0, 255).astype(np.uint8)


def write_photos(layout: str, seed: int) -> None:
    place = LAYOUTS[layout][0]
    kinds = np.random.default_rng([seed, 1]).choice(CLASSES, MEMBERS + OTHERS)
    for i, (image, kind) in enumerate(zip(images(seed), kinds, strict=True)):
        file = Path("photos") / place(i, i < MEMBERS, kind)
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(file)


def write_targets(layout: str, seed: int) -> None:
    """A target by class, the same told no class, and an unconditional one."""
    _, pattern, classes = LAYOUTS[layout]
    params = tiny_params()
    params["score"]["attacks"]["t_error"]["last"] = 10
    params["score"]["channels_last"] = False  # a test of its own
    params["evaluate"] |= {"alphas": [0.1], "curve_fpr": 0.1}  # what 90 auxiliary images support
    listed = {"classes": CLASSES} if classes else {}
    params["datasets"] = {"photos": {"source": "folder", "path": "photos", **listed}}
    told = {"member": pattern, "auxiliary": 0.5, "holdout": "rest", "seed": seed}
    params["targets"] = {}
    for name, options in {"conditional": {"num_class_embeds": 4}, "unconditional": {}}.items():
        params["targets"][name] = {"images": "photos", "model": name, "split": told}
        torch.manual_seed(seed)
        DDPMPipeline(unet(**options), DDIMScheduler()).save_pretrained(name)
    params["targets"]["told_nothing"] = params["targets"]["conditional"] | {"score": {"condition": "none"}}
    write_params(params)


def score_roles(target: str, *roles: str) -> None:
    split(target)
    check(target)
    make_target(target)
    for role in roles:
        score(target, role)


def main_score(target: str, role: str) -> np.ndarray:
    return read_table(Path(f"data/scores/{target}/{role}.parquet")).column("t_error_t10").to_numpy()


def interval(target: str) -> tuple[float, float, float]:
    return auc(-main_score(target, "member"), -main_score(target, "holdout"), CONFIDENCE)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_untrained_target_is_at_chance_in_every_layout_or_refused(layout, seed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_photos(layout, seed)
    write_targets(layout, seed)
    prepare_images("photos")
    scored = ["unconditional", "told_nothing"]
    for target in scored:
        score_roles(target, "member", "holdout")
    try:
        score_roles("conditional", "member", "holdout")
        scored.append("conditional")
    except InputError as error:
        assert "label" in str(error)
        assert not Path("data/scores/conditional").exists()
    assert ("conditional" in scored) == LAYOUTS[layout][2], "classes that are listed can be told, no others"
    for target in scored:
        area, low, high = interval(target)
        assert low <= 0.5 <= high, f"{target}: {area:.3f} ({low:.3f} to {high:.3f})"


# What else carries order


def scores_by_pixels(target: str) -> dict[str, np.ndarray]:
    """Hash of the pixels -> every score that has no noise drawn for it."""
    found = {}
    for role in ("member", "auxiliary", "holdout"):
        hashes = read_table(Path(f"data/roles/{target}/{role}.parquet")).column("sha256").to_pylist()
        table = read_table(Path(f"data/scores/{target}/{role}.parquet"))
        columns = [name for name in table.column_names if name.startswith(("t_error", "pia", "sima"))]
        found |= dict(zip(hashes, table.select(columns).to_pandas().to_numpy(), strict=True))
    return found


def use_index(members: np.ndarray, others: np.ndarray) -> None:
    """Tell the roles by row."""
    np.savez("index.npz", mia_train_idxs=members, mia_eval_idxs=others)
    params = YAML(typ="safe").load(Path("params.yaml").read_text())
    params["split"]["index"] = {"path": "index.npz", "sha256": file_hash(Path("index.npz"))}
    for target in params["targets"].values():
        target["split"].pop("member", None)  # some share it
    write_params(params)


def test_names_order_and_times_of_files_move_no_score(tmp_path, monkeypatch):
    """Roles are told by row, so that names are free.  A naive loss draws its noise by a hash of the name: left out."""
    monkeypatch.chdir(tmp_path)
    found, pixels = [], images(0)
    for names in (np.arange(len(pixels)), np.random.default_rng(0).permutation(len(pixels))):
        for number, image in zip(names, pixels, strict=True):
            file = Path(f"photos/{number:03}.png")
            file.parent.mkdir(exist_ok=True)
            Image.fromarray(image).save(file)
            os.utime(file, (number, 10 * number))
        write_targets("flat", 0)
        use_index(names[:MEMBERS], names[MEMBERS:])
        prepare_images("photos")
        score_roles("unconditional", "member", "auxiliary", "holdout")
        found.append(scores_by_pixels("unconditional"))
    first, second = found
    assert first.keys() == second.keys()
    for digest, scores in first.items():
        np.testing.assert_allclose(second[digest], scores, rtol=1e-4)  # batches are summed in another order


def test_the_checks_look_at_pixels_and_not_at_names_or_order(audit):
    figures = Path("metrics/checks/digits_ddpm.json")
    check("digits_ddpm")
    before = figures.read_bytes()
    rng = np.random.default_rng(0)
    for role in ("member", "auxiliary", "holdout"):
        order = pa.array(rng.permutation(read_table(Path(f"data/roles/digits_ddpm/{role}.parquet")).num_rows))
        for folder in ("roles", "features"):
            path = Path(f"data/{folder}/digits_ddpm/{role}.parquet")
            table = read_table(path).take(order)
            ids = pa.array([f"{role}-{number:04}" for number in range(len(table))])
            write_table(path, table.set_column(0, "image_id", ids), read_metadata(path))
    check("digits_ddpm")
    assert figures.read_bytes() == before
