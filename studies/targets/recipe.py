"""What decides a trained model, next to its images; and where it is.

models/<model>/<seed>/<step>/, or models/<model>/ of one that was trained elsewhere.
"""

from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from leakgauge.config import PARAMS, validated
from leakgauge.errors import InputError
from leakgauge.options import Index, Options
from studies.common.population import Shares
from studies.common.settings import entry, params


class Repeats(Options):
    """Duplicates in the training set: the first `share` of the members stand there `times` times."""

    share: float = Field(ge=0, le=1)
    times: PositiveInt


class Privacy(Options):
    """DP-SGD.  Abadi et al., "Deep Learning with Differential Privacy", CCS 2016."""

    epsilon: PositiveFloat | None  # None: gradients are clipped, no noise is added
    delta: float = Field(gt=0, lt=1)
    clip: PositiveFloat  # norm of one image's gradient


class Recipe(Options):
    """An entry of the registry `models`, over section `model`."""

    seeds: list[NonNegativeInt] = Field(min_length=1)  # each draws roles and weights of its own
    shares: Shares
    network: Literal["unet", "dit"]
    width: PositiveInt  # channels of the UNet's first level, the second has twice as many; a DiT: of a head, of four
    process: Literal["ddpm", "v_prediction", "score_sde", "flow"]
    latent: bool  # diffusion in the latent space of an autoencoder that is trained on the members first
    steps: PositiveInt
    snapshots: list[PositiveInt]  # steps after which a copy is kept, as a model of its own, beside the last
    batch_size: PositiveInt
    learning_rate: PositiveFloat
    warmup_steps: PositiveInt
    ema_decay: float = Field(ge=0, lt=1)
    weight_decay: float = Field(ge=0)
    dropout: float = Field(ge=0, lt=1)  # of the UNet
    flip: bool  # training images are mirrored at random
    shift: NonNegativeInt  # and cropped: moved by up to so many pixels, the edge repeated
    repeats: Repeats
    privacy: Privacy | None

    @property
    def kept(self) -> list[int]:
        """The steps after which a model is kept, in order."""
        return sorted({*self.snapshots, self.steps})


class Known(Options):
    """Who trained a model from elsewhere: a pattern of image_ids, or a published split; `auxiliary` others are such."""

    member: str | None = None
    index: Index | None = None
    auxiliary: PositiveInt


class Taken(Options):
    """An entry of the registry `models` that was trained elsewhere."""

    pipeline: str  # a folder of diffusers
    sha256: str  # of its files, so that DVC sees another pipeline
    split: Known
    seeds: list[NonNegativeInt] = Field([0], min_length=1)  # each draws auxiliary and holdout images of its own


def read_model(model: str) -> Recipe | Taken:
    """An entry of the registry `models`.  Raises InputError."""
    own = params("models").get(model)
    if isinstance(own, dict) and "pipeline" in own:
        return validated(Taken, own, lambda _: f"models.{model}")
    return entry("models", model, "model", Recipe)


def read_recipe(model: str) -> Recipe:
    """An entry that is trained here.  Raises InputError for one that is not."""
    recipe = read_model(model)
    if isinstance(recipe, Taken):
        raise InputError(f"{PARAMS}: models.{model}: was trained elsewhere, and is asked for how")
    return recipe


class Target(NamedTuple):
    """One trained model of an entry of the registry `models`."""

    folder: Path
    seed: int
    step: int


def targets_of(model: str, recipe: Recipe | Taken, last_only: bool) -> list[Target]:
    """The models of an entry, in order.  last_only : of each seed's snapshots."""
    if isinstance(recipe, Taken):
        return [Target(Path(f"models/{model}"), seed, 0) for seed in recipe.seeds]
    steps = [recipe.steps] if last_only else recipe.kept
    return [Target(Path(f"models/{model}/{seed}/{step}"), seed, step) for seed in recipe.seeds for step in steps]
