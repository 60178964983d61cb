"""Entries of the registry of datasets, read as a stage reads them, or refused by it."""

from collections.abc import Callable

from conftest import tiny_params, write_params

from leakgauge.datasets import READERS, Dataset
from leakgauge.datasets.images import Images
from stages.images import prepare_images


def read_entry(entry: dict) -> Images:
    """The images of an entry."""
    options = Dataset.model_validate(entry).root
    return READERS[options.source](options)


def refused_entry(refusal: Callable[..., str], entry: dict) -> str:
    """The line by which stage `images` refuses an entry."""
    params = tiny_params()
    params["datasets"]["photos"] = entry
    write_params(params)
    return refusal(prepare_images, dataset="photos")
