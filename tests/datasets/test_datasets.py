"""Readers return hand-made pixels exactly, change an image only where its entry says so, and refuse the rest."""

import io
import struct
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import encoded, tiny_params, write_params
from PIL import Image

from leakgauge.checks.near_duplicates import perceptual_hash
from leakgauge.datasets import READERS, Dataset, cifar, stl10
from leakgauge.datasets.archive import Archive
from leakgauge.datasets.images import Images
from leakgauge.errors import InputError
from leakgauge.features import named_features
from leakgauge.files import file_hash
from leakgauge.imports import read_index
from leakgauge.tables import decode_images, read_metadata, read_table
from stages.images import prepare_images


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def read(**entry) -> Images:
    """What the reader of an entry returns."""
    options = Dataset.model_validate(entry).root
    return READERS[options.source](options)


def wrong(refusal, **entry) -> str:
    """The one line that `images` says of an entry."""
    params = tiny_params()
    params["datasets"]["photos"] = entry
    write_params(params)
    line = refusal(prepare_images, dataset="photos")
    assert not list(Path().rglob("data/images/*"))
    return line


@pytest.fixture
def prepared(capsys) -> Callable[..., Any]:
    """What `images` says of an entry of which it takes images."""

    def run(**entry) -> Any:
        params = tiny_params()
        params["datasets"]["photos"] = entry
        write_params(params)
        capsys.readouterr()
        prepare_images("photos")
        return capsys.readouterr()

    return run


def gradient(size: int, blue: int) -> np.ndarray:
    """(size, size, 3) uint8 in which every pixel tells where it is: red the row, green the column."""
    rows, columns = np.mgrid[:size, :size]
    return np.stack([rows, columns, np.full_like(rows, blue)], axis=-1).astype(np.uint8)


def save(pixels: np.ndarray, path: str, mode: str | None = None) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(pixels)
    (picture.convert(mode) if mode else picture).save(path)


def write_tar(path: str, files: dict[str, bytes]) -> Archive:
    with tarfile.open(path, "w:gz") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return Archive(f"https://example.invalid/{path}", Path(path).stat().st_size, file_hash(Path(path)))


def cifar_record(*labels: int, blue: int) -> bytes:
    """The format by its description: the label bytes, 1,024 red, 1,024 green and 1,024 blue ones, row by row."""
    red = bytes(row for row in range(32) for _ in range(32))
    green = bytes(column for _ in range(32) for column in range(32))
    return bytes(labels) + red + green + bytes([blue] * 1024)


@pytest.fixture
def cifar10(monkeypatch) -> str:
    """Two images a batch: labels 0..9 in training order, blue ten times that; two test images of label 7."""
    files = {
        f"cifar-10-batches-bin/data_batch_{batch + 1}.bin": b"".join(
            cifar_record(number, blue=10 * number) for number in (2 * batch, 2 * batch + 1)
        )
        for batch in reversed(range(5))  # the archive's own order must not matter
    }
    files["cifar-10-batches-bin/test_batch.bin"] = cifar_record(7, blue=200) + cifar_record(7, blue=201)
    monkeypatch.setitem(cifar.ARCHIVES, "cifar10", write_tar("ten.tar.gz", files))
    return "ten.tar.gz"


def test_cifar10_is_read_in_the_official_order_pixel_by_pixel(cifar10):
    images = read(source="cifar10", path=cifar10)
    assert images.ids == [f"train-{number:05d}" for number in range(10)]
    assert images.labels == list(range(10))
    np.testing.assert_array_equal(images.pixels, [gradient(32, 10 * number) for number in range(10)])


def test_all_of_cifar10_is_the_training_images_and_then_the_test_images(cifar10):
    images = read(source="cifar10", path=cifar10, part="all")
    assert images.ids[9:] == ["train-00009", "test-00000", "test-00001"]
    assert images.pixels[:, 0, 0, 2].tolist() == [*range(0, 100, 10), 200, 201]
    assert read(source="cifar10", path=cifar10, part="test").ids == ["test-00000", "test-00001"]


def test_cifar100_has_its_fine_labels(monkeypatch):
    files = {
        "cifar-100-binary/train.bin": cifar_record(3, 99, blue=1) + cifar_record(4, 50, blue=2),
        "cifar-100-binary/test.bin": cifar_record(5, 6, blue=3),
    }
    monkeypatch.setitem(cifar.ARCHIVES, "cifar100", write_tar("hundred.tar.gz", files))
    images = read(source="cifar100", path="hundred.tar.gz", part="all")
    assert images.labels == [99, 50, 6]
    np.testing.assert_array_equal(images.pixels, [gradient(32, blue) for blue in (1, 2, 3)])


def stl10_image(blue: int) -> bytes:
    """The format by its description: red, green and blue planes, each column by column."""
    red = bytes(row for _ in range(96) for row in range(96))
    green = bytes(column for column in range(96) for _ in range(96))
    return red + green + bytes([blue] * 96 * 96)


@pytest.fixture
def stl10_archive(monkeypatch) -> str:
    files = {
        "stl10_binary/test_X.bin": stl10_image(3),
        "stl10_binary/test_y.bin": bytes([2]),
        "stl10_binary/train_X.bin": stl10_image(1) + stl10_image(2),
        "stl10_binary/train_y.bin": bytes([10, 1]),
        "stl10_binary/unlabeled_X.bin": stl10_image(4),
    }
    monkeypatch.setattr(stl10, "ARCHIVE", write_tar("stl.tar.gz", files))
    return "stl.tar.gz"


def test_stl10_is_read_column_by_column_and_counts_labels_from_zero(stl10_archive):
    images = read(source="stl10", path=stl10_archive)
    assert (images.ids, images.labels) == (["train-00000", "train-00001"], [9, 0])
    np.testing.assert_array_equal(images.pixels, [gradient(96, 1), gradient(96, 2)])


def test_all_of_stl10_ends_with_the_images_without_labels(stl10_archive):
    images = read(source="stl10", path=stl10_archive, part="all", size=8)
    assert images.ids == ["train-00000", "train-00001", "test-00000", "unlabeled-00000"]
    assert images.labels == [9, 0, 1, None]
    assert images.pixels[:, 3, 3, 2].tolist() == [1, 2, 3, 4]


@pytest.fixture
def tiny_imagenet() -> str:
    for path, value in {
        "tiny/train/n02/images/n02_0.JPEG": 20,
        "tiny/train/n01/images/n01_0.JPEG": 10,
        "tiny/val/images/val_0.JPEG": 21,
        "tiny/val/images/val_1.JPEG": 11,
    }.items():
        save(np.full((64, 64, 3), value, np.uint8), path, "L" if value == 11 else None)
    Path("tiny/wnids.txt").write_text("n02\nn03\nn01\n")
    Path("tiny/val/val_annotations.txt").write_text("val_0.JPEG\tn02\t0\t0\t9\t9\nval_1.JPEG\tn01\t0\t0\t9\t9\n")
    return "tiny"


def test_tiny_imagenet_is_labelled_alike_in_both_parts(tiny_imagenet):
    images = read(source="tiny_imagenet", path=tiny_imagenet, part="all", colour="rgb")
    assert images.ids[0] == "train/n01/images/n01_0.JPEG"
    assert images.ids[2:] == ["val/images/val_0.JPEG", "val/images/val_1.JPEG"]
    assert images.labels == [0, 1, 1, 0]
    assert images.pixels[:, 0, 0].tolist() == [[10] * 3, [20] * 3, [21] * 3, [11] * 3]
    assert read(source="tiny_imagenet", path=tiny_imagenet).labels == [0, 1]


def test_tiny_imagenet_counts_its_classes_over_the_official_list_not_over_what_is_there(tiny_imagenet, refusal):
    Path("tiny/wnids.txt").write_text("n03\nn02\nn00\nn01\n")
    assert read(source="tiny_imagenet", path=tiny_imagenet).labels == [1, 2]
    Path("tiny/wnids.txt").write_text("n02\nn03\n")
    line = wrong(refusal, source="tiny_imagenet", path=tiny_imagenet)
    assert "tiny/train/n01/images/n01_0.JPEG: its class is 'n01', and the classes are n02, n03" in line
    Path("tiny/wnids.txt").unlink()
    assert "tiny/wnids.txt: not found: it lists the classes" in wrong(
        refusal, source="tiny_imagenet", path=tiny_imagenet
    )


def test_grey_images_among_coloured_ones_are_refused_with_the_key_that_helps(tiny_imagenet, refusal):
    line = wrong(refusal, source="tiny_imagenet", path=tiny_imagenet, part="val")
    assert "val_1.JPEG: is 64x64 with 1 channel, but tiny/val/images/val_0.JPEG is 64x64 with 3 channels" in line
    assert "`colour` in the dataset's entry of params.yaml would make it one" in line


def test_a_tiny_imagenet_with_parts_missing_is_refused(tiny_imagenet, refusal):
    assert "tiny/val/train: no images: `path` must be the folder tiny-imagenet-200" in wrong(
        refusal, source="tiny_imagenet", path="tiny/val"
    )
    listed = Path("tiny/val/val_annotations.txt")
    listed.write_text("val_0.JPEG\tn02\t0\t0\t9\t9\nval_1.JPEG\n")
    entry = {"source": "tiny_imagenet", "path": tiny_imagenet, "part": "val"}
    assert f"tiny/val/images/val_1.JPEG: {listed} does not tell its class" in wrong(refusal, **entry)
    listed.unlink()
    assert f"{listed}: not found: it lists the classes" in wrong(refusal, **entry)


@pytest.mark.parametrize(
    "paths",
    [
        ("members/1.png", "others/2.png"),
        ("photos/members/1.png", "photos/others/2.png"),
        ("members/cat/1.png", "others/dog/2.png"),
        ("1.png", "others/2.png"),
        ("cat/1.png", "dog/2.png"),
    ],
)
def test_a_folders_name_is_no_class_unless_it_is_listed(paths):
    for path in paths:
        save(np.zeros((4, 4), np.uint8), f"photos/{path}")
    assert read(source="folder", path="photos").labels == [None, None]


def test_a_label_is_the_place_of_its_folder_in_the_list_of_classes_whatever_else_is_there():
    for path in ("photos/members/dog/1.png", "photos/members/cat/2.png", "photos/cat/3.png", "photos/.hidden/4.png"):
        save(np.zeros((4, 4), np.uint8), path)
    images = read(source="folder", path="photos", classes=["dog", "bird", "cat"])
    assert images.ids == ["cat/3.png", "members/cat/2.png", "members/dog/1.png"]
    assert images.labels == [2, 2, 0]
    assert images.classes == ["dog", "bird", "cat"]


def test_an_image_in_no_folder_of_the_list_of_classes_is_refused(refusal):
    save(np.zeros((4, 4), np.uint8), "photos/cat/1.png")
    save(np.zeros((4, 4), np.uint8), "photos/cats/2.png")
    entry = {"source": "folder", "path": "photos", "classes": ["cat", "dog"]}
    assert "photos/cats/2.png: its class is 'cats', and the classes are cat, dog: add it to" in wrong(refusal, **entry)
    Path("photos/cats/2.png").rename("photos/2.png")
    assert "photos/2.png: it lies in no folder of a class, and the classes are cat, dog" in wrong(refusal, **entry)
    entry["classes"] = ["cat", "dog", "cat"]
    assert "params.yaml: datasets.photos.classes: Value error, 'cat' is listed twice" in wrong(refusal, **entry)


def test_images_prints_each_label_its_name_and_its_images_and_warns_of_classes_without_any(prepared):
    for number, name in enumerate(("cat", "cat", "dog")):
        save(np.full((4, 4), number, np.uint8), f"photos/{name}/{number}.png")
    said = prepared(source="folder", path="photos", classes=["bird", "cat", "dog"])
    assert "name -> label: images\n    bird -> 0: 0 images\n    cat -> 1: 2 images\n    dog -> 2: 1 image\n" in said.out
    assert "warning: photos: 1 of 3 classes have no images, the first is 'bird'" in said.err
    np.savez("photos.npz", images=np.zeros((60, 4, 4), np.uint8), labels=np.arange(60) // 2)
    said = prepared(source="npz", path="photos.npz")
    assert "label: images\n    0: 2 images\n" in said.out
    assert "10 more labels, up to 29, each of 2 to 2 images" in said.out
    assert "labels: none" in prepared(source="folder", path="photos").out


@pytest.mark.parametrize("suffix", [".bmp", ".gif", ".ppm", ".tif", ".TGA"])
def test_a_folder_may_hold_any_lossless_format(suffix):
    save(np.arange(16, dtype=np.uint8).reshape(4, 4), f"photos/1{suffix}")
    assert read(source="folder", path="photos", colour="grey").pixels.ravel().tolist() == list(range(16))


def write_rows(path: str, first: int, count: int, name: str = "image", **columns) -> None:
    """Rows of one-colour 4x4 images, the first of value `first`."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    images = [{"bytes": encoded(np.full((4, 4), first + row, np.uint8)), "path": None} for row in range(count)]
    pq.write_table(pa.table({name: images, **columns}), path)


def test_a_folder_of_parquet_files_is_read_in_the_order_of_their_paths():
    write_rows("hub/data/train-00001.parquet", 2, 2, "img", label=[2, 3])
    write_rows("hub/data/train-00000.parquet", 0, 2, "img", label=[0, 1])
    write_rows("hub/data/test-00000.parquet", 9, 1, "img", label=[9])
    images = read(source="parquet", path="hub", files="data/train-*.parquet")
    assert images.ids == ["0", "1", "2", "3"]
    assert images.labels == images.pixels[:, 0, 0, 0].tolist() == [0, 1, 2, 3]
    assert read(source="parquet", path="hub").labels == [9, 0, 1, 2, 3]


def test_parquet_files_that_contradict_each_other_are_refused(refusal):
    entry = {"source": "parquet", "path": "hub"}
    Path("hub").mkdir()
    assert "hub: no files match '*.parquet' (`files` in the dataset's entry" in wrong(refusal, **entry)
    write_rows("hub/0.parquet", 0, 2, image_id=["a", "b"])
    write_rows("hub/1.parquet", 0, 2)
    assert "hub/1.parquet: no column 'image_id', which other files beside it have" in wrong(refusal, **entry)
    write_rows("hub/1.parquet", 0, 2, image_id=["c", "b"])
    assert "hub: duplicate image_id 'b'" in wrong(refusal, **entry)


def test_encoded_images_that_are_text_are_refused(refusal):
    pq.write_table(pa.table({"img": [{"bytes": "x"}]}), "photos.parquet")
    line = wrong(refusal, source="parquet", path="photos.parquet")
    assert "photos.parquet: column 'img' has bytes of type string: needs encoded images" in line


@pytest.mark.parametrize("shape", [(3, 4, 5), (3, 4, 5, 1), (3, 4, 5, 3)])
def test_an_npz_is_read_as_it_is(shape):
    pixels = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    np.savez_compressed("photos.npz", images=pixels, labels=np.array([5, 0, 5]))
    images = read(source="npz", path="photos.npz")
    assert (images.ids, images.labels) == (["0", "1", "2"], [5, 0, 5])
    np.testing.assert_array_equal(images.pixels, pixels.reshape(3, 4, 5, -1))


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"x": np.zeros(3)}, "no array 'images'"),
        ({"images": np.zeros((2, 4, 4))}, "'images' is float64 of shape (2, 4, 4): needs uint8"),
        ({"images": np.zeros((2, 3, 5, 5), np.uint8)}, "channels come last: save images.transpose(0, 2, 3, 1)"),
        ({"images": np.zeros((2, 5, 5, 2), np.uint8)}, "needs (N, H, W) or (N, H, W, C) with 1, 3 or 4 channels"),
        ({"images": np.zeros((0, 4, 4), np.uint8)}, "needs (N, H, W)"),
        ({"images": np.array([[None]])}, "not a readable .npz file: Object arrays cannot be loaded"),
        ({"images": np.zeros((2, 4, 4), np.uint8), "labels": np.zeros(2)}, "'labels' is float64 of shape (2,): needs"),
        ({"images": np.zeros((2, 4, 4), np.uint8), "labels": np.zeros(3, int)}, "an integer for each of 2 images"),
    ],
)
def test_an_npz_of_anything_else_is_refused(arrays, said, refusal):
    np.savez("photos.npz", **arrays)
    line = wrong(refusal, source="npz", path="photos.npz")
    assert "photos.npz: " in line
    assert said in line


def test_an_npz_that_is_none_or_is_not_there_is_refused(refusal):
    assert "photos.npz: not found" in wrong(refusal, source="npz", path="photos.npz")
    Path("photos.npz").write_bytes(b"PK\x03\x04 torn")
    assert "photos.npz: not a readable .npz file" in wrong(refusal, source="npz", path="photos.npz")


def framed(pixels: np.ndarray, mode: str | None = None, form: str = "png", **keys) -> np.ndarray:
    """One image as a folder's reader returns it."""
    save(pixels, f"photos/1.{form}", mode)
    return read(source="folder", path="photos", **keys).pixels[0]


def test_a_centre_crop_is_the_middle_square():
    wide = np.arange(4 * 9, dtype=np.uint8).reshape(4, 9)
    np.testing.assert_array_equal(framed(wide, crop="centre")[..., 0], wide[:, 2:6])
    np.testing.assert_array_equal(framed(wide.T, crop="centre")[..., 0], wide.T[2:6])


def test_resizing_averages_rather_than_picks():
    checks = np.indices((32, 32)).sum(0) % 2 * 200
    assert np.abs(framed(checks.astype(np.uint8), size=4)[1:3, 1:3].astype(int) - 100).max() <= 1


def test_an_image_that_has_the_size_is_not_touched():
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    np.testing.assert_array_equal(framed(pixels, size=8, crop="centre", colour="rgb"), pixels)


def test_a_size_for_an_image_that_is_no_square_is_refused_not_distorted(refusal):
    save(np.zeros((4, 9), np.uint8), "photos/1.png")
    line = wrong(refusal, source="folder", path="photos", size=4)
    assert "photos/1.png: is 9x4, no square that `size` could resize: `crop: centre`" in line
    assert framed(np.zeros((4, 9), np.uint8), size=3, crop="centre").shape == (3, 3, 1)


def test_images_of_several_sizes_are_refused_with_the_key_that_helps(refusal):
    save(np.zeros((4, 4), np.uint8), "photos/1.png")
    save(np.zeros((6, 6), np.uint8), "photos/2.png")
    line = wrong(refusal, source="folder", path="photos")
    assert "2.png: is 6x6 with 1 channel, but photos/1.png is 4x4 with 1 channel: all images must have one size" in line
    assert "`size` in the dataset's entry of params.yaml would make it one" in line
    assert read(source="folder", path="photos", size=5).pixels.shape == (2, 5, 5, 1)


@pytest.mark.parametrize(
    ("mode", "form"), [("RGBA", "png"), ("P", "png"), ("CMYK", "tif"), ("1", "png"), ("LA", "png")]
)
def test_other_modes_are_refused_until_a_colour_is_named(mode, form, refusal):
    pixels = np.full((4, 4, 3), 255, np.uint8)
    save(pixels, f"photos/1.{form}", mode)
    line = wrong(refusal, source="folder", path="photos")
    assert f"photos/1.{form}: has mode {mode}, neither 8-bit grey (L) nor RGB: `colour: rgb` (or grey)" in line
    np.testing.assert_array_equal(framed(pixels, mode, form, colour="rgb"), pixels)
    np.testing.assert_array_equal(framed(pixels, mode, form, colour="grey"), pixels[..., :1])


def test_grey_is_the_luma_of_itu_r_601():
    pixels = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]] * 2, np.uint8)
    assert framed(pixels, colour="grey")[0].ravel().tolist() == [76, 150, 29]  # 0.299, 0.587 and 0.114 of 255


def test_of_sixteen_bits_the_upper_eight_of_those_in_use_are_kept(refusal):
    deep = np.array([[0, 15, 16, 2048, 4095]] * 2, np.uint16)
    save(deep, "photos/1.png")
    line = wrong(refusal, source="folder", path="photos", colour="grey")
    assert "photos/1.png: has 16 bits a pixel and levels up to 4095: say how many bits are in use by `bits`" in line
    assert "this image needs at least `bits: 12`" in line
    assert framed(deep, bits=12)[0].ravel().tolist() == [0, 0, 1, 128, 255]
    assert framed(deep, bits=16, colour="rgb")[0, :, 0].tolist() == [0, 0, 0, 8, 15]
    line = wrong(refusal, source="folder", path="photos", bits=11)
    assert "photos/1.png: has level 4095, above 2047, the highest of `bits: 11`" in line
    assert "datasets.photos.bits: Input should be less than or equal to 16" in wrong(
        refusal, source="folder", path="photos", bits=17
    )


def test_a_twelve_bit_ramp_keeps_all_256_levels():
    ramp = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    np.testing.assert_array_equal(framed(ramp, bits=12)[..., 0], ramp // 16)


def deep_colour(levels: np.ndarray) -> bytes:
    """A PNG of 16 bits a channel, which Pillow does not write.  levels : (H, W, 3) uint16."""
    height, width, _ = levels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in levels)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    written = (struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(written)


def test_sixteen_bits_of_colour_are_not_cut_to_eight_in_silence(refusal, prepared):
    levels = np.arange(12, dtype=np.uint16).reshape(2, 2, 3) * 5000
    Path("photos").mkdir()
    Path("photos/1.png").write_bytes(deep_colour(levels))
    for keys in ({}, {"colour": "rgb"}, {"bits": 12}):
        line = wrong(refusal, source="folder", path="photos", **keys)
        assert "photos/1.png: has 16 bits a channel in colour: if all 16 are in use, `bits: 16`" in line
    np.testing.assert_array_equal(read(source="folder", path="photos", bits=16).pixels[0], levels // 256)
    said = prepared(source="folder", path="photos", bits=16)
    assert "1 image of 16 bits a channel, of which the upper 8 in use are kept" in said.out


@pytest.mark.parametrize("shape", [(1, 8), (8, 1), (1, 1), (1, 8, 3)])
def test_images_one_pixel_wide_or_high_are_refused(shape, refusal):
    save(np.zeros(shape, np.uint8), "photos/1.png")
    line = wrong(refusal, source="folder", path="photos")
    assert f"photos/1.png: is {shape[1]}x{shape[0]} with" in line
    assert "an image must be at least 2 pixels wide and high" in line
    np.savez("photos.npz", images=np.zeros((2, *shape), np.uint8))
    assert "must be at least 2 pixels" in wrong(refusal, source="npz", path="photos.npz")
    assert "must be at least 2 pixels" in wrong(refusal, source="folder", path="photos", size=1, crop="centre")


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("height", "width"), [(2, 2), (2, 3), (3, 2), (2, 40), (40, 2), (3, 3), (4, 9)])
def test_every_image_of_two_pixels_or_more_has_finite_features_and_a_hash(height, width, channels):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (5, channels, height, width), dtype=np.uint8)
    described = named_features(np.concatenate([pixels, np.zeros_like(pixels)]))
    assert all(np.isfinite(values).all() for values in described.values())
    assert perceptual_hash(pixels).shape == (5,)


def test_grey_levels_of_no_known_range_are_refused_whatever_the_colour(refusal):
    save(np.zeros((2, 2), np.float32), "photos/1.tif")
    line = wrong(refusal, source="folder", path="photos", colour="grey")
    assert "photos/1.tif: has mode F, convert it to 8 bits a channel yourself" in line


def test_every_source_takes_the_same_keys(cifar10):
    np.savez("photos.npz", images=np.full((2, 4, 6, 4), 9, np.uint8))
    write_rows("photos.parquet", 0, 2)
    framed_alike = {"size": 2, "crop": "centre", "colour": "grey"}
    for source, path in {"digits": "-", "npz": "photos.npz", "parquet": "photos.parquet", "cifar10": cifar10}.items():
        assert read(source=source, path=path, **framed_alike).pixels.shape[1:] == (2, 2, 1), source


def test_images_writes_what_the_reader_read_and_what_the_entry_said(cifar10):
    params = tiny_params()
    params["datasets"]["cifar"] = {"source": "cifar10", "path": cifar10, "part": "test"}
    write_params(params)
    prepare_images("cifar")
    written = Path("data/images/cifar.parquet")
    notes = ["parts not taken: 1 (train)"]
    assert read_metadata(written) == {"dataset": "cifar", **params["datasets"]["cifar"], "names": [], "notes": notes}
    table = read_table(written)
    assert table.column("label").to_pylist() == [7, 7]
    np.testing.assert_array_equal(decode_images(table)[0], gradient(32, 200).transpose(2, 0, 1))


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"source": "jpegs"}, "datasets.photos: Input tag 'jpegs' found using 'source'"),
        ({"source": "folder", "colour": "sepia"}, "datasets.photos.colour: Input should be 'rgb' or 'grey'"),
        ({"source": "folder", "color": "rgb"}, "datasets.photos.color: unknown key"),
        ({"source": "folder", "size": 0}, "datasets.photos.size: Input should be greater than 0"),
        ({"source": "folder", "part": "train"}, "datasets.photos.part: unknown key"),
        ({"source": "cifar10", "part": "unlabeled"}, "datasets.photos.part: Input should be 'train', 'test' or 'all'"),
    ],
)
def test_a_key_that_a_source_does_not_know_is_refused(entry, said, refusal):
    assert f"params.yaml: {said}" in wrong(refusal, path="photos", **entry)


def test_a_published_index_counts_from_zero_not_from_the_end():
    np.savez("roles.npz", mia_train_idxs=[-1], mia_eval_idxs=[3])
    with pytest.raises(InputError, match="rows run from -1 to 3, the dataset has 10 images"):
        read_index(Path("roles.npz"), file_hash(Path("roles.npz")), 10)
