"""Orientation, fit, filter: each as Pillow and the common trainers have it, to the pixel; none unless asked for."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import tiny_params, write_params
from PIL import Image, ImageOps

from leakgauge.datasets import READERS, Dataset
from leakgauge.datasets.images import Images
from stages.images import prepare_images

LEVELS = np.random.default_rng(0).integers(0, 256, (7, 11, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def photos(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()


def read(**entry) -> Images:
    options = Dataset.model_validate({"source": "folder", "path": "photos", **entry}).root
    return READERS[options.source](options)


@pytest.fixture
def wrong(refusal):
    def run(**entry) -> str:
        params = tiny_params()
        params["datasets"]["photos"] = {"source": "folder", "path": "photos", **entry}
        write_params(params)
        return refusal(prepare_images, dataset="photos")

    return run


def oriented(orientation: int, form: str = "PNG") -> bytes:
    """An image of 7 rows and 11 columns with an EXIF orientation."""
    stream, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(LEVELS).save(stream, format=form, exif=exif)
    return stream.getvalue()


UPRIGHT = {  # by EXIF's definition: where row 0 and column 0 of what is stored lie in what is seen
    1: LEVELS,  # top, left
    2: LEVELS[:, ::-1],  # top, right
    3: LEVELS[::-1, ::-1],  # bottom, right
    4: LEVELS[::-1],  # bottom, left
    5: LEVELS.transpose(1, 0, 2),  # left, top
    6: LEVELS.transpose(1, 0, 2)[:, ::-1],  # right, top
    7: LEVELS.transpose(1, 0, 2)[::-1, ::-1],  # right, bottom
    8: LEVELS.transpose(1, 0, 2)[::-1],  # left, bottom
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("source", ["folder", "parquet"])
def test_an_orientation_is_followed_where_the_entry_says_and_counted_either_way(orientation, source):
    data = oriented(orientation)
    Path("photos/1.png").write_bytes(data)
    pq.write_table(pa.table({"image": [{"bytes": data, "path": None}]}), "photos.parquet")
    path = "photos" if source == "folder" else "photos.parquet"
    stored, followed = read(source=source, path=path), read(source=source, path=path, orientation="follow")
    np.testing.assert_array_equal(stored.pixels[0], LEVELS)
    np.testing.assert_array_equal(followed.pixels[0], UPRIGHT[orientation])
    with Image.open(io.BytesIO(data)) as picture:
        np.testing.assert_array_equal(followed.pixels[0], np.asarray(ImageOps.exif_transpose(picture)))
    turned = orientation > 1
    assert stored.notes == ["1 image with an EXIF orientation other than upright, which is not followed"] * turned
    assert followed.notes == ["1 image turned as their EXIF orientation says"] * turned


@pytest.mark.parametrize("form", ["JPEG", "WEBP", "TIFF", "MPO"])
def test_other_formats_follow_as_pillow_does(form):
    data = oriented(6, form)
    Path("photos/1.jpg").write_bytes(data)
    with Image.open(io.BytesIO(data)) as picture:
        upright = ImageOps.exif_transpose(picture)
    assert upright.size == (7, 11)
    np.testing.assert_array_equal(read(orientation="follow").pixels[0], np.asarray(upright.convert("RGB")))


def test_an_orientation_that_exif_does_not_know_turns_nothing():
    Path("photos/1.png").write_bytes(oriented(9))
    np.testing.assert_array_equal(read(orientation="follow").pixels[0], LEVELS)
