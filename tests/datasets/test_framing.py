"""Orientation, square, filter: each as Pillow and the common trainers have it, to the pixel; none unless asked for."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageOps
from readers import read_entry, refused_entry

from leakgauge.datasets.images import Images

LEVELS = np.random.default_rng(0).integers(0, 256, (7, 11, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def photos(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()


def read(**entry) -> Images:
    return read_entry({"source": "folder", "path": "photos", **entry})


@pytest.fixture
def wrong(refusal):
    return lambda **entry: refused_entry(refusal, {"source": "folder", "path": "photos", **entry})


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


FILTERS = {name: Image.Resampling[name.upper()] for name in ("lanczos", "bicubic", "bilinear", "nearest")}


def framed(pixels: np.ndarray, **keys) -> np.ndarray:
    """One image as a folder's reader returns it, without the axis of one channel."""
    Image.fromarray(pixels).save("photos/1.png")
    found = read(**keys).pixels[0]
    return found[..., 0] if found.shape[2] == 1 else found


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("size", [4, 9, 16])
@pytest.mark.parametrize("turned", [False, True])
def test_every_fit_is_what_pillow_makes_of_the_same_calls(name, size, turned):
    pixels = LEVELS.transpose(1, 0, 2).copy() if turned else LEVELS
    picture, keys = Image.fromarray(pixels), {"size": size, "resample": name}
    stretched = picture.resize((size, size), FILTERS[name])
    np.testing.assert_array_equal(framed(pixels, square="stretch", **keys), np.asarray(stretched))
    longer = {4: 6, 9: 14, 16: 25}[size]  # 11/7 of it, rounded down
    scaled = np.asarray(picture.resize((size, longer) if turned else (longer, size), FILTERS[name]))
    before = {4: 1, 9: 2, 16: 4}[size]  # half of what is spare: 1; of 2.5 and 4.5 the even neighbour
    cut = scaled[before : before + size] if turned else scaled[:, before : before + size]
    np.testing.assert_array_equal(framed(pixels, square="crop", **keys), cut)
    padded = ImageOps.pad(picture, (size, size), FILTERS[name], (9, 8, 7))
    np.testing.assert_array_equal(framed(pixels, square="pad", fill=[9, 8, 7], **keys), np.asarray(padded))


def test_fits_by_hand():
    rows = np.array([[1, 2, 3, 4], [5, 6, 7, 8]], np.uint8)  # 4 wide, 2 high
    assert framed(rows, size=2, square="crop", resample="nearest").tolist() == [[2, 3], [6, 7]]
    assert framed(rows, size=2, square="stretch", resample="nearest").tolist() == [[2, 4], [6, 8]]
    assert framed(rows, size=4, square="pad", fill=[9]).tolist() == [[9] * 4, *rows.tolist(), [9] * 4]
    assert framed(rows.T.copy(), size=4, square="pad", fill=[9]).tolist() == [[9, *row, 9] for row in rows.T.tolist()]
    assert framed(rows, size=2, square="stretch", resample="bilinear").tolist() == [[2, 3], [6, 7]]


def test_a_square_is_resized_alike_by_every_fit_and_by_none():
    square = LEVELS[:7, :7].copy()
    expected = np.asarray(Image.fromarray(square).resize((5, 5), Image.Resampling.LANCZOS))
    for keys in ({}, {"crop": "centre"}, {"square": "crop"}, {"square": "stretch"}, {"square": "pad", "fill": [0]}):
        np.testing.assert_array_equal(framed(square, size=5, **keys), expected)


def test_one_level_fills_every_channel_and_a_colour_needs_channels(wrong):
    assert framed(LEVELS, size=11, square="pad", fill=[3])[0].tolist() == [[3, 3, 3]] * 11
    Image.fromarray(LEVELS[..., 0]).save("photos/1.png")
    line = wrong(size=4, square="pad", fill=[1, 2, 3])
    assert "photos/1.png: has 1 channel(s), and `fill` in the dataset's entry has 3 levels" in line


def test_images_of_several_sizes_become_one_by_any_fit():
    Image.fromarray(LEVELS).save("photos/1.png")
    Image.fromarray(LEVELS[:4, :3]).save("photos/2.png")
    for keys in ({"square": "crop"}, {"square": "stretch"}, {"square": "pad", "fill": [0, 0, 0]}):
        assert read(size=6, **keys).pixels.shape == (2, 6, 6, 3)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"square": "crop"}, "square and resample say how to resize: add `size`"),
        ({"resample": "nearest"}, "square and resample say how to resize: add `size`"),
        ({"size": 4, "crop": "centre", "square": "crop"}, "crop cuts the square out before it is resized"),
        ({"size": 4, "square": "pad"}, "`square: pad` needs `fill`"),
        ({"size": 4, "square": "crop", "fill": [0]}, "`square: pad` needs `fill`"),
        (
            {"size": 4, "square": "pad", "fill": [256]},
            "datasets.photos.fill.0: Input should be less than or equal to 255",
        ),
        ({"size": 4, "square": "pad", "fill": []}, "datasets.photos.fill: List should have at least 1 item"),
        ({"size": [64, 96]}, "datasets.photos.size: Input should be a valid integer"),
        ({"size": 4, "resample": "cubic"}, "datasets.photos.resample: Input should be 'lanczos'"),
    ],
)
def test_keys_that_contradict_each_other_are_refused(keys, said, wrong):
    assert said in wrong(**keys)


def test_several_sizes_are_refused_and_buckets_named(wrong):
    Image.fromarray(LEVELS).save("photos/1.png")
    Image.fromarray(LEVELS[:4]).save("photos/2.png")
    line = wrong()
    assert "would make it one (one audit has one size: of a trainer's buckets make a dataset and a target for" in line


def test_images_of_one_shape_need_not_be_squares():
    """What the guide says of buckets: one dataset for each shape."""
    for number in (1, 2):
        Image.fromarray(LEVELS).save(f"photos/{number}.png")
    images = read()
    np.testing.assert_array_equal(images.pixels, [LEVELS] * 2)


def test_images_too_narrow_to_fit_are_refused(wrong):
    Image.fromarray(np.zeros((1, 40_000), np.uint8)).save("photos/1.png")
    assert "photos/1.png: is 40000x1, too narrow for `square: crop` to `size: 64`" in wrong(size=64, square="crop")
    assert "photos/1.png: is 40000x1, of which `square: pad` would leave no pixel" in wrong(
        size=64, square="pad", fill=[0]
    )
