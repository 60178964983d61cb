"""Hundreds of seeded mutations of every kind of file that a dataset may be: each is read, or refused in one line.

What is read must be valid images.  No other exception may leave a reader.
"""

import io
import json
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import encoded
from PIL import Image

from leakgauge.datasets import READERS, Dataset
from leakgauge.datasets.images import FORMATS
from leakgauge.errors import InputError
from leakgauge.tables import image_table

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 6, 3), dtype=np.uint8)
FEW, SOME = 12, 60  # mutations of a small file's bytes, of a larger one's
GOOD = {"source": "folder", "path": "photos", "orientation": "follow", "colour": "rgb", "bits": 16}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()


def read(**entry) -> bool:
    """Whether an entry's images are read; if not, they were refused in words.  Asserts that what is read is valid."""
    options = Dataset.model_validate(entry).root
    try:
        images = READERS[options.source](options)
    except InputError as refused:
        assert ": " in str(refused)
        return False
    count = len(images.ids)
    assert count == len(set(images.ids)) == len(images.labels) == len(images.paths) >= 1
    assert images.pixels.dtype == np.uint8
    assert images.pixels.ndim == 4
    assert len(images.pixels) == count
    assert images.pixels.shape[3] in (1, 3)
    assert min(images.pixels.shape[1:3]) >= 2
    table = image_table(images.ids, images.pixels, images.labels, images.paths, images.captions)
    assert table.num_rows == count
    return True


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """The bytes with a few flipped, overwritten, cut off, left out, put in or repeated."""
    flipped = bytearray(data)
    kind, at = rng.integers(6), int(rng.integers(len(data)))
    length = int(rng.integers(1, 1 + max(1, len(data) // 4)))
    if kind == 0:
        for place in rng.integers(len(data), size=rng.integers(1, 5)):
            flipped[place] ^= 1 << rng.integers(8)
        return bytes(flipped)
    if kind == 1:
        flipped[at : at + 4] = rng.choice([b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x80\0\0\0"])
        return bytes(flipped[: len(data)])
    pieces = {
        2: data[:at],
        3: data[:at] + data[at + length :],
        4: data[:at] + rng.bytes(length) + data[at:],
        5: data[:at] + data[at : at + length] * 3 + data[at + length :],
    }
    return pieces[int(kind)]


def mutations(data: bytes, count: int, seed: int) -> Iterator[bytes]:
    rng = np.random.default_rng(seed)
    yield from (b"", data[:1], data + data)
    for _ in range(count):
        yield mutated(data, rng)


def picture(form: str, **options) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(PIXELS).convert("P" if form == "GIF" else "RGB").save(stream, format=form, **options)
    return stream.getvalue()


@pytest.mark.parametrize("form", FORMATS)
def test_a_damaged_image_is_read_or_refused(form):
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {"exif": exif} if form in ("JPEG", "PNG", "TIFF", "WEBP", "AVIF") else {}
    data = picture(form, **options) if form != "ICO" else picture(form, sizes=[(6, 6)])
    Path("photos/1.png").write_bytes(data)
    assert read(**GOOD)
    for changed in mutations(data, 2 * FEW, FORMATS.index(form)):
        Path("photos/1.png").write_bytes(changed)
        read(**GOOD)


@pytest.mark.parametrize("side", [2**15, 2**31 - 1, 2**32 - 1, 0])
def test_a_png_that_claims_any_size_is_refused(side):
    data = bytearray(picture("PNG"))
    data[16:20] = data[20:24] = side.to_bytes(4, "big")
    Path("photos/1.png").write_bytes(data)
    assert not read(**GOOD)


@pytest.mark.parametrize(
    "name",
    [
        " .png",
        "-rf.png",
        "a\nb.png",
        "'\".png",
        "$(x).png",
        "*.png",
        "\u202egnp.png",
        "e\u0301.png",
        "x" * 250 + ".png",
    ],
)
def test_any_name_that_is_text_is_an_id(name):
    Path("photos", name).write_bytes(picture("PNG"))
    assert read(**GOOD)


def test_one_name_composed_in_two_ways_is_two_images():
    for name in ("\u00e9.png", "e\u0301.png"):
        Path("photos", name).write_bytes(picture("PNG"))
    assert read(**GOOD)


CAPTIONS = {
    "metadata.jsonl": b'{"file_name": "1.png", "text": "one"}\n{"file_name": "2.png", "text": "\\u00e9"}\n',
    "metadata.csv": b'file_name,text\n1.png,"one, ""two"""\n2.png,x\n',
}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", CAPTIONS)
def test_damaged_captions_are_read_or_refused(name, seed):
    for number in (1, 2):
        Path(f"photos/{number}.png").write_bytes(picture("PNG"))
    Path("photos", name).write_bytes(CAPTIONS[name])
    assert read(**GOOD, captions=name)
    for changed in mutations(CAPTIONS[name], SOME, seed):
        Path("photos", name).write_bytes(changed)
        read(**GOOD, captions=name)


IMAGES = [{"bytes": encoded(PIXELS), "path": f"{number}.png"} for number in range(3)]
STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
COLUMNS: dict[str, pa.Array] = {
    "image": pa.array(IMAGES, STRUCT),
    "image_id": pa.array(["a", "b", "c"]),
    "label": pa.array([0, 1, 2]),
    "caption": pa.array(["x", "y", "z"]),
}
COLUMNS_INSTEAD: tuple[pa.Array, ...] = (
    pa.nulls(3),
    *(pa.nulls(3, kind) for kind in (pa.string(), pa.int64(), STRUCT)),
    *(pa.array([1, 2, 3], kind) for kind in (pa.int8(), pa.uint64(), pa.float64(), pa.timestamp("s"))),
    pa.array([1, 1, None]),
    pa.array([2**64 - 1, 2**63, 0], pa.uint64()),
    pa.array([-(2**63), 2**63 - 1, 0]),
    pa.array([True, False, True]),
    pa.array(["", "a", "a\n"]),
    pa.array(["a", "a", "b"]).dictionary_encode(),
    pa.array([b"a", b"\xff", b""]),
    pa.array([b"\xff\xfe", b"b", b"c"]).view(pa.string()),
    pa.array([[1], [], [2, 3]]),
    pa.array([[1, 2], [3, 4], [5, 6]], pa.list_(pa.int32(), 2)),
    pa.array([{"bytes": "text", "path": "p"}] * 3),
    pa.array([{"path": "p"}] * 3),
    pa.array([{"bytes": encoded(PIXELS)}] * 3, pa.struct([("bytes", pa.large_binary())])),
    pa.array([{"bytes": encoded(PIXELS), "path": 5}] * 3),
    pa.array([{"bytes": encoded(PIXELS), "path": [5]}] * 3),
    pa.array([{"bytes": encoded(PIXELS), "path": b"\xff"}] * 3),
    pa.array([{"bytes": None, "path": "p"}, None, {"bytes": b"", "path": None}], STRUCT),
    pa.array([IMAGES[0], None, IMAGES[1]], STRUCT),
    pa.array([IMAGES[0], {"bytes": b"no image", "path": None}, IMAGES[1]], STRUCT),
    pa.array([IMAGES[0], IMAGES[1], {"bytes": encoded(PIXELS[:4]), "path": None}], STRUCT),
)


@pytest.mark.parametrize("name", COLUMNS)
def test_a_parquet_file_with_any_column_instead_of_one_is_read_or_refused(name):
    for column in COLUMNS_INSTEAD:
        pq.write_table(pa.table(COLUMNS | {name: column}), "photos.parquet")
        read(source="parquet", path="photos.parquet")


def table(columns: dict[str, pa.Array], **changes) -> pa.Table:
    return pa.table(columns | changes)


TABLES: dict[str, Callable[[], pa.Table]] = {
    "sound": lambda: table(COLUMNS),
    "without labels": lambda: pa.table({"image": COLUMNS["image"]}),
    "without images": lambda: pa.table({name: COLUMNS[name] for name in ("image_id", "label")}),
    "without rows": lambda: table(COLUMNS).slice(0, 0),
    "without columns": lambda: pa.table({}),
    "an image twice": lambda: table(COLUMNS).append_column("image", COLUMNS["image"]),
    "two ids": lambda: table(COLUMNS).append_column("image_id", COLUMNS["image_id"]),
    "image and img": lambda: table(COLUMNS, img=COLUMNS["image"]),
    "caption and text": lambda: table(COLUMNS, text=COLUMNS["label"]),
    "a name with a dot": lambda: table(COLUMNS, **{"image.path": COLUMNS["label"], "label.x": COLUMNS["image"]}),
    "bytes twice": lambda: table(
        COLUMNS,
        image=pa.StructArray.from_arrays([pa.array([b"a"] * 3)] * 2, ["bytes", "bytes"]),
    ),
    "names in capitals": lambda: table(COLUMNS).rename_columns([name.upper() for name in COLUMNS]),
}
READ = {"sound", "without labels", "image and img", "caption and text", "a name with a dot"}


@pytest.mark.parametrize("name", TABLES)
def test_a_parquet_file_with_other_columns_is_read_or_refused(name):
    pq.write_table(TABLES[name](), "photos.parquet")
    assert read(source="parquet", path="photos.parquet") == (name in READ)
    Path("hub").mkdir()
    pq.write_table(table(COLUMNS, image_id=pa.array(["d", "e", "f"])), "hub/0.parquet")
    pq.write_table(TABLES[name](), "hub/1.parquet")
    read(source="parquet", path="hub")


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("checked", [True, False])
def test_a_damaged_parquet_file_is_read_or_refused(seed, checked):
    pq.write_table(table(COLUMNS), "photos.parquet", write_page_checksum=checked)
    data = Path("photos.parquet").read_bytes()
    for changed in mutations(data, SOME // 2, seed):
        Path("photos.parquet").write_bytes(changed)
        read(source="parquet", path="photos.parquet")


def save_to_disk(table: pa.Table, folder: str = "saved") -> Path:
    """A folder as `datasets.save_to_disk` writes it, of two batches; returns the file of rows."""
    Path(folder).mkdir(exist_ok=True)
    file = Path(folder, "data-00000-of-00001.arrow")
    with pa.OSFile(str(file), "wb") as stream, pa.ipc.new_stream(stream, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    Path(folder, "state.json").write_text(json.dumps({"_data_files": [{"filename": file.name}], "_split": "train"}))
    return file


@pytest.mark.parametrize("name", COLUMNS)
def test_a_saved_dataset_with_any_column_instead_of_one_is_read_or_refused(name):
    for column in COLUMNS_INSTEAD:
        save_to_disk(pa.table(COLUMNS | {name: column}))
        read(source="arrow", path="saved")


@pytest.mark.parametrize("name", TABLES)
def test_a_saved_dataset_with_other_columns_is_read_or_refused(name):
    save_to_disk(TABLES[name]())
    assert read(source="arrow", path="saved") == (name in READ)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", ["data-00000-of-00001.arrow", "state.json"])
def test_a_damaged_saved_dataset_is_read_or_refused(name, seed):
    save_to_disk(table(COLUMNS))
    file = Path("saved", name)
    data = file.read_bytes()
    for changed in mutations(data, SOME // 2, seed):
        file.write_bytes(changed)
        read(source="arrow", path="saved")
    for changed in mutations(data[:-8], SOME // 2, seed):  # the end of a stream
        file.write_bytes(changed + data[-8:])
        read(source="arrow", path="saved")


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_damaged_tar_is_read_or_refused(form, seed):
    files = {"a.png": encoded(PIXELS), "a.txt": b"one", "a.cls": b"1", f"{'long' * 24}/b.png": encoded(PIXELS)}
    with tarfile.open("photos.tar", "w", format=form) as tar:
        for name, data in (files | {f"{'long' * 24}/b.txt": b"two"}).items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    assert read(source="webdataset", path="photos.tar")
    data = Path("photos.tar").read_bytes()
    for changed in mutations(data, SOME, seed):
        Path("photos.tar").write_bytes(changed)
        read(source="webdataset", path="photos.tar")


SHAPES = (
    (),
    (0,),
    (3,),
    (3, 6),
    (3, 6, 6),
    (3, 6, 6, 3),
    (3, 3, 6, 6),
    (3, 6, 6, 4),
    (3, 6, 6, 2),
    (0, 6, 6),
    (3, 0, 6),
)
SHAPES += ((3, 1, 6), (3, 6, 1), (3, 1, 1), (1, 6, 6), (3, 6, 6, 3, 1))
TYPES = ("u1", "i1", ">u2", "i8", "f4", "f8", "c8", "?", "U3", "S3", "M8[s]", "V2", [("r", "u1"), ("g", "u1")], "O")


@pytest.mark.parametrize("name", ["images", "labels"])
def test_an_npz_with_any_array_is_read_or_refused(name):
    accepted = 0
    for kind in TYPES:
        for shape in SHAPES:
            sound = {"images": np.zeros((3, 6, 6), np.uint8), "labels": np.arange(3)}
            np.savez("photos.npz", **(sound | {name: np.zeros(shape, kind)}))
            accepted += read(source="npz", path="photos.npz")
    assert accepted == {"images": 2, "labels": 4}[name]  # of 224


def npz(images: bytes, *more: tuple[str, bytes], method: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile("photos.npz", "w", method) as archive:
        for name, data in (("images.npy", images), *more):
            archive.writestr(name, data)


def npy(array: np.ndarray, **options: Any) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, **options)
    return stream.getvalue()


def test_an_npz_that_claims_any_header_is_refused():
    sound = npy(np.zeros((3, 6, 6), np.uint8))
    for claim in (b"(9, 9, 9)", b"(-3, 6, 6", b"(3, 6, 6]", b"(3, 6, '6", b"9" * 9, b"(9**9,9,9", b"\xff" * 9):
        npz(sound.replace(b"(3, 6, 6)", claim.ljust(9)[:9]))
        assert not read(source="npz", path="photos.npz"), claim
    huge = sound.replace(b"(3, 6, 6), }" + b" " * 40, b"(3, 99999999999999, 99999999999999999), }".ljust(52))
    assert huge != sound
    for changed in (
        huge,
        sound[:50],
        sound[:9],
        b"",
        sound[:-1],
        b"no array",
        npy(np.array([None]), allow_pickle=True),
    ):
        npz(changed)
        assert not read(source="npz", path="photos.npz")
    npz(sound, ("images.npy", sound))
    assert not read(source="npz", path="photos.npz"), "two arrays of one name"
    for form in (np.save, np.savetxt):
        form("photos.npz", np.zeros((3, 6), np.uint8))
        name = next(Path().glob("photos.npz*.npy"), Path("photos.npz"))
        assert not read(source="npz", path=str(name))
    for method in (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        npz(sound, ("notes.txt", b"any"), method=method)
        assert read(source="npz", path="photos.npz")


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_damaged_npz_is_read_or_refused(save, seed):
    save("photos.npz", images=np.stack([PIXELS] * 3), labels=np.arange(3))
    data = Path("photos.npz").read_bytes()
    for changed in mutations(data, SOME, seed):
        Path("photos.npz").write_bytes(changed)
        read(source="npz", path="photos.npz")


@pytest.mark.parametrize("name", ["wnids.txt", "val/val_annotations.txt"])
def test_a_damaged_list_of_tiny_imagenet_is_read_or_refused(name):
    for path in ("train/n01/images/n01_0.JPEG", "train/n02/images/n02_0.JPEG", "val/images/val_0.JPEG"):
        Path("photos", path).parent.mkdir(parents=True, exist_ok=True)
        Path("photos", path).write_bytes(picture("JPEG"))
    Path("photos/wnids.txt").write_text("n01\nn02\nn03\n")
    Path("photos/val/val_annotations.txt").write_text("val_0.JPEG\tn02\t0\t0\t9\t9\n")
    entry = {"source": "tiny_imagenet", "path": "photos", "part": "all"}
    assert read(**entry)
    data = Path("photos", name).read_bytes()
    for changed in mutations(data, SOME, 0):
        Path("photos", name).write_bytes(changed)
        read(**entry)


@pytest.mark.parametrize("source", ["cifar10", "cifar100", "stl10"])
def test_any_file_that_is_not_the_official_archive_is_refused(source):
    for data in (b"", b"\x1f\x8b\x08\0", picture("PNG")):
        Path("archive.tar.gz").write_bytes(data)
        assert not read(source=source, path="archive.tar.gz")
    assert not read(source=source, path="photos")


@pytest.mark.parametrize(
    "source", ["folder", "parquet", "arrow", "webdataset", "npz", "cifar10", "stl10", "tiny_imagenet"]
)
def test_a_path_to_anything_else_is_refused(source):
    Path("file").write_bytes(b"any")
    Path("loop").symlink_to("loop")
    for path in ("file", "loop", "nowhere", "photos", "/dev/null", ""):
        assert not read(source=source, path=path), path
