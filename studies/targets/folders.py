"""Where trained models are: models/<model>/<seed>/<step>/, each in the layout of a diffusers pipeline."""

from pathlib import Path
from typing import NamedTuple

from studies.targets.recipe import Recipe
from studies.targets.trainer import Trained


class Target(NamedTuple):
    """One trained model of an entry of the registry `models`."""

    folder: Path
    seed: int
    step: int


def targets_of(model: str, recipe: Recipe, last_only: bool) -> list[Target]:
    """The models that a recipe makes, in order.  last_only : of each seed's snapshots."""
    steps = [recipe.steps] if last_only else recipe.kept
    return [Target(Path(f"models/{model}/{seed}/{step}"), seed, step) for seed in recipe.seeds for step in steps]


def save(trained: Trained, folder: Path) -> None:
    """Write a model's parts: safetensors and JSON."""
    kind = "transformer" if type(trained.network).__name__ == "DiTTransformer2DModel" else "unet"
    trained.network.save_pretrained(folder / kind)
    trained.scheduler.save_pretrained(folder / "scheduler")
    if trained.autoencoder:
        trained.autoencoder.save_pretrained(folder / "vae")
