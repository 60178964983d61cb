"""The images that all studies share, and who is what in a model's life: the roles."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import NonNegativeInt, PositiveInt

from leakgauge.config import PARAMS
from leakgauge.errors import InputError
from leakgauge.options import Options
from leakgauge.tables import decode_images, read_features, read_table
from studies.common.settings import section

ROLES = ("member", "auxiliary", "holdout")


class Source(Options):
    """Section `population`."""

    dataset: str  # a name in the main pipeline's registry `datasets`


@dataclass(frozen=True)
class Population:
    """N images.  Arrays go by image."""

    ids: np.ndarray  # (N,) of strings
    pixels: np.ndarray  # (N, C, H, W) uint8
    labels: np.ndarray  # (N,) int64, -1 where there is none
    hashes: np.ndarray  # (N,) of the pixels, as strings
    features: np.ndarray  # (N, F) float32
    names: list[str]  # of the F features

    def __len__(self) -> int:
        return len(self.ids)

    def rows_of(self, ids: list[str]) -> np.ndarray:
        """Where the images with these ids stand."""
        place = {name: row for row, name in enumerate(self.ids.tolist())}
        return np.array([place[name] for name in ids], dtype=np.int64)


def read_population() -> Population:
    """The images, as `prepare` left them.  Raises InputError for a missing or damaged table."""
    dataset = section("population", Source).dataset
    images, features = (Path(f"data/{folder}/{dataset}.parquet") for folder in ("images", "features"))
    table = read_table(images)
    ids, values = read_features(features)
    if ids != table.column("image_id").to_pylist():
        raise InputError(f"{features}: its image_ids do not match {images}: run `dvc repro`")
    labels = [-1 if label is None else label for label in table.column("label").to_pylist()]
    names = [name for name in read_table(features).column_names if name not in ("image_id", "label")]
    hashes = np.array(table.column("sha256").to_pylist())
    return Population(np.array(ids), decode_images(table), np.array(labels), hashes, values, names)


class Shares(Options):
    """How many images have which role; the others are holdout."""

    member: PositiveInt
    auxiliary: PositiveInt
    of_auxiliary: NonNegativeInt | None  # a shadow: its members are drawn from the auxiliary images of this seed's draw


def draw_roles(hashes: np.ndarray, shares: Shares, seed: int) -> dict[str, np.ndarray]:
    """Role -> rows of distinct images, each in ascending order: of copies the first stands for all.

    hashes : (N,).  A shadow's own auxiliary images are those of its pool that did not train it; it has no holdout.
    Raises InputError where there are too few images.
    """
    distinct = np.sort(np.unique(hashes, return_index=True)[1])
    if shares.of_auxiliary is None:
        order = np.random.default_rng(seed).permutation(distinct)
    else:
        of_target = draw_roles(hashes, shares.model_copy(update={"of_auxiliary": None}), shares.of_auxiliary)
        order = np.random.default_rng([seed, 1]).permutation(of_target["auxiliary"])
    members, others = order[: shares.member], order[shares.member :]
    wanted = shares.auxiliary + 1 if shares.of_auxiliary is None else 1
    if len(members) < shares.member or len(others) < wanted:
        raise InputError(
            f"{PARAMS}: model.shares: {len(order)} images are too few for {shares.member} members and {wanted} others"
        )
    drawn = {"member": members, "auxiliary": others[: shares.auxiliary], "holdout": others[shares.auxiliary :]}
    return {role: np.sort(rows) for role, rows in drawn.items()}
