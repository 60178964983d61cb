"""Readers return hand-made pixels exactly, change an image only where its entry says so, and refuse the rest."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import encoded, tiny_params, write_params
from PIL import Image

from stages.command import InputError
from stages.datasets import READERS, Dataset, cifar, stl10
from stages.datasets.archive import Archive
from stages.datasets.images import Images
from stages.files import file_hash
from stages.prepare import prepare
from stages.published.index import read_index
from stages.tables import decode_images, read_metadata, read_table


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def read(**entry) -> Images:
    """What the reader of an entry returns."""
    options = Dataset.model_validate(entry).root
    return READERS[options.source](options)


def wrong(refusal, **entry) -> str:
    """The one line that `prepare` says of an entry."""
    params = tiny_params()
    params["datasets"]["photos"] = entry
    write_params(params)
    line = refusal(prepare, dataset="photos")
    assert not list(Path().rglob("data/images/*"))
    return line


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
    Path("tiny/val/val_annotations.txt").write_text("val_0.JPEG\tn02\t0\t0\t9\t9\nval_1.JPEG\tn01\t0\t0\t9\t9\n")
    return "tiny"


def test_tiny_imagenet_is_labelled_alike_in_both_parts(tiny_imagenet):
    images = read(source="tiny_imagenet", path=tiny_imagenet, part="all", colour="rgb")
    assert images.ids[0] == "train/n01/images/n01_0.JPEG"
    assert images.ids[2:] == ["val/images/val_0.JPEG", "val/images/val_1.JPEG"]
    assert images.labels == [0, 1, 1, 0]
    assert images.pixels[:, 0, 0].tolist() == [[10] * 3, [20] * 3, [21] * 3, [11] * 3]
    assert read(source="tiny_imagenet", path=tiny_imagenet).labels == [0, 1]


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
    assert f"{listed}: not found: it tells the classes" in wrong(refusal, **entry)


def test_a_folders_class_folders_number_its_images():
    for path in ("photos/members/dog/1.png", "photos/members/cat/2.png", "photos/cat/3.png"):
        save(np.zeros((4, 4), np.uint8), path)
    images = read(source="folder", path="photos")
    assert images.ids == ["cat/3.png", "members/cat/2.png", "members/dog/1.png"]
    assert images.labels == [0, 0, 1]
    save(np.zeros((4, 4), np.uint8), "photos/4.png")
    assert read(source="folder", path="photos").labels == [None] * 4


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
    assert "hub: image_id 'b' stands there twice" in wrong(refusal, **entry)


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
    pixels = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)
    assert framed(pixels, colour="grey").ravel().tolist() == [76, 150, 29]  # 0.299, 0.587 and 0.114 of 255


def test_of_sixteen_bits_the_upper_eight_stay(refusal):
    deep = np.array([[0, 255, 256, 32768, 65535]], np.uint16)
    save(deep, "photos/1.png")
    assert "has mode I;16" in wrong(refusal, source="folder", path="photos")
    assert framed(deep, colour="grey").ravel().tolist() == [0, 0, 1, 128, 255]
    assert framed(deep, colour="rgb")[0, 3].tolist() == [128, 128, 128]


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


def test_prepare_writes_what_the_reader_read_and_what_the_entry_said(cifar10):
    params = tiny_params()
    params["datasets"]["cifar"] = {"source": "cifar10", "path": cifar10, "part": "test"}
    write_params(params)
    prepare("cifar")
    written = Path("data/images/cifar.parquet")
    assert read_metadata(written) == {"dataset": "cifar", **params["datasets"]["cifar"]}
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
