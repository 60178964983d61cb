"""HEIC photographs: read by the extra `heic`, to the level; turns and depths are counted."""

import io
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from PIL import Image
from readers import read_entry

from leakgauge.datasets.images import Images

LEVELS = np.kron(np.random.default_rng(0).integers(0, 256, (4, 6, 3)), np.ones((16, 16, 1))).astype(np.uint8)


@pytest.fixture(autouse=True)
def photos(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()


def read(**entry) -> Images:
    return read_entry({"source": "folder", "path": "photos", **entry})


def heic(pixels: np.ndarray, **options) -> bytes:
    """An image as losslessly as the encoder can."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="HEIF", quality=-1, chroma=444, **options)
    return stream.getvalue()


def test_a_heic_photograph_is_read_to_the_level():
    Path("photos/1.HEIC").write_bytes(heic(LEVELS))
    images = read()
    assert (images.ids, images.notes) == (["1.HEIC"], [])
    assert np.abs(images.pixels[0].astype(int) - LEVELS).max() <= 1, "conversion from and to YCbCr"


@pytest.mark.parametrize("orientation", [{}, {"orientation": "follow"}])
def test_heif_has_its_own_turns_and_exif_turns_nothing(orientation):
    exif = Image.Exif()
    exif[0x0112] = 6
    Path("photos/1.heic").write_bytes(heic(LEVELS, exif=exif))
    images = read(**orientation)
    assert images.pixels.shape == (1, *LEVELS.shape)
    assert images.notes == ["1 image of HEIF, turned as HEIF says, whatever their EXIF orientation"]


def test_more_than_eight_bits_are_counted():
    levels = LEVELS.astype(np.uint16) * 257
    deep = pillow_heif.from_bytes("RGB;16", (96, 64), levels.tobytes())
    deep.save("photos/1.heif", quality=-1, chroma=444)
    images = read()
    assert np.abs(images.pixels[0].astype(int) - LEVELS).max() <= 1
    assert images.notes == ["1 image of HEIF of more than 8 bits a channel, of which the upper 8 are kept"]


def test_a_heic_file_under_another_name_is_not_left_out():
    Path("photos/1.jpg").write_bytes(heic(LEVELS))
    assert read().ids == ["1.jpg"]
