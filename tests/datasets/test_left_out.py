"""What a reader does not take is listed, or refused by name where it would change the answer."""

import io
import os
import socket
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import REPOSITORY, answer_about, ask_about, encoded, tiny_params, write_params, write_photos
from PIL import Image
from readers import read_entry

from leakgauge.cli import IGNORED
from leakgauge.datasets import folder
from leakgauge.datasets.images import Images
from leakgauge.tables import read_metadata, read_table, write_table
from stages.images import prepare_images
from stages.report import report

PNG = encoded(np.full((4, 4), 7, np.uint8))


@pytest.fixture(autouse=True)
def photos(tmp_path, monkeypatch) -> Path:
    """A folder with one image."""
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    Path("photos/1.png").write_bytes(PNG)
    return Path("photos")


def put(path: str, data: bytes = PNG) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(data)


def read(**entry) -> Images:
    return read_entry({"source": "folder", "path": "photos", **entry})


def name_them() -> None:
    """Write a params.yaml in which the folder is a dataset `photos`."""
    params = tiny_params()
    params["datasets"]["photos"] = {"source": "folder", "path": "photos"}
    write_params(params)


def refused(refusal) -> str:
    """The line that `images` says of the folder; nothing is written."""
    name_them()
    line = refusal(prepare_images, dataset="photos")
    assert not Path("data/images").exists()
    return line


def test_hidden_and_temporary_files_are_no_images_and_are_listed():
    for path in (".ipynb_checkpoints/1.png", ".2.png", "cat/.thumbs/3.png", "cat/4.png.tmp", "old.tmp/5.png"):
        put(f"photos/{path}")
    images = read()
    assert images.ids == ["1.png"]
    assert images.notes == [
        "hidden files or folders not taken: 3 (.2.png, .ipynb_checkpoints, cat/.thumbs)",
        "files or folders ignored by DVC not taken: 2 (cat/4.png.tmp, old.tmp)",
    ]


def test_a_reader_ignores_what_dvc_ignores():
    patterns = [line for line in (REPOSITORY / ".dvcignore").read_text().splitlines() if not line.startswith("#")]
    assert patterns
    assert {pattern.rstrip("/") for pattern in patterns if not pattern.startswith(".")} == set(IGNORED)


def test_a_link_to_a_folder_is_refused_whose_changes_dvc_does_not_see(refusal):
    put("elsewhere/2.png")
    Path("photos/members").symlink_to("../elsewhere")
    assert "photos/members: a link to a folder, in which DVC would see no change" in refused(refusal)


def test_a_link_to_an_image_is_read_through():
    put("elsewhere/2.png", encoded(np.full((4, 4), 9, np.uint8)))
    Path("photos/2.png").symlink_to("../elsewhere/2.png")
    assert read().pixels[:, 0, 0, 0].tolist() == [7, 9]


@pytest.mark.parametrize("leads_to", ["nowhere.png", "loop.png"])
def test_a_link_that_leads_nowhere_is_refused(leads_to, refusal):
    Path("photos/loop.png").symlink_to(leads_to)
    assert "photos/loop.png: a link that leads nowhere" in refused(refusal)


@pytest.mark.parametrize("name", ["pipe", "pipe.png"])
def test_a_fifo_is_refused_and_not_waited_for(name, refusal):
    os.mkfifo(f"photos/{name}")
    assert f"photos/{name}: a FIFO, a socket or a device, no file" in refused(refusal)


def test_a_socket_and_a_link_to_a_device_are_refused(refusal):
    with socket.socket(socket.AF_UNIX) as door:
        door.bind("photos/2.png")
        assert "photos/2.png: a FIFO, a socket or a device, no file" in refused(refusal)
    Path("photos/2.png").unlink()
    Path("photos/2.png").symlink_to("/dev/zero")
    assert "photos/2.png: a FIFO, a socket or a device, no file" in refused(refusal)


@pytest.mark.parametrize("name", [b"\xff.png", b"\xffolder/1.png", b"\xe9t\xe9.txt"])
def test_a_name_that_is_no_utf_8_is_refused_in_text_that_is(name, refusal):
    put(os.fsdecode(b"photos/" + name))
    line = refused(refusal)
    assert "its name is no UTF-8: rename it" in line
    assert "photos/\\x" in line
    line.encode()


@pytest.mark.parametrize("name", ["holiday.jxl", "IMG_1.CR2", "cat/2.NEF", "drawing.svg"])
def test_photographs_that_pillow_cannot_read_are_refused(name, refusal):
    put(f"photos/{name}", b"...")
    assert f"photos/{name}: {Path(name).suffix} is not read: convert it" in refused(refusal)


def test_without_the_extra_heic_the_refusal_of_a_heic_file_names_it(monkeypatch, refusal):
    monkeypatch.setattr(folder, "SUFFIXES", folder.SUFFIXES - {*folder.HEIC})
    put("photos/2.HEIC", b"...")
    line = refused(refusal)
    assert "photos/2.HEIC: .HEIC is not read: convert it, to PNG for instance, or take it away" in line
    assert line.endswith("or `pip install -e '.[heic]'`")


@pytest.mark.parametrize(("name", "form"), [("suffixless", "PNG"), ("2.jpg_large", "JPEG"), ("3.png~", "PNG")])
def test_an_image_by_content_without_the_suffix_of_one_is_refused(name, form, refusal):
    put(f"photos/{name}", encoded(np.zeros((4, 4), np.uint8), form))
    said = f"photos/{name}: is a {form} image without the suffix of one and would be left out"
    assert said in refused(refusal)


def test_other_files_beside_images_are_printed_and_kept(capsys):
    for name in ("README.txt", "labels.json", "a/notes.md", "rows.parquet", ".DS_Store", "Thumbs.db"):
        put(f"photos/{name}", b"%!PS-Adobe-3.0 EPSF-3.0 whatever it says")
    name_them()
    prepare_images("photos")
    notes = [
        "hidden files or folders not taken: 2 (.DS_Store, Thumbs.db)",
        "files that are no images not taken: 4 (README.txt, a/notes.md, labels.json, ...)",
    ]
    assert read_metadata(Path("data/images/photos.parquet"))["notes"] == notes
    said = capsys.readouterr().out
    assert all(f"  {note}\n" in said for note in notes)


def test_what_file_managers_and_zip_programs_leave_is_listed_and_not_read():
    junk = ("._1.png", ".DS_Store", "__MACOSX/1.png", "__MACOSX/._1.png", "cat/Thumbs.db", "cat/thumbs.db")
    junk += ("Desktop.ini", "@eaDir/1.png/SYNOPHOTO_THUMB_M.jpg", "$RECYCLE.BIN/2.png", "Icon\r")
    for name in junk:
        put(f"photos/{name}", b"no image")
    images = read()
    assert images.ids == ["1.png"]
    assert images.notes == ["hidden files or folders not taken: 9 ($RECYCLE.BIN, .DS_Store, ._1.png, ...)"]


def test_a_folder_with_hidden_files_alone_has_no_images_and_says_why(refusal):
    Path("photos/1.png").rename("photos/.1.png")
    line = refused(refusal)
    assert "photos: no images in this folder (hidden files or folders not taken: 1 (.1.png); .apng, " in line


def test_the_page_lists_what_the_readers_left_out_of_the_images_and_of_each_set_of_suspects(audit, random_images):
    params = tiny_params()
    for name, images in {"found": random_images[:3, 0], "sold": random_images[3:6, 0]}.items():
        write_photos(["a", "b", "c"], images, Path(f"{name}.parquet"))
        params = ask_about(name, {"source": "parquet", "path": f"{name}.parquet"}, params)
        write_params(params)
        answer_about(name)
    for dataset in ("digits", "found_images", "sold_images"):
        path = Path(f"data/images/{dataset}.parquet")
        write_table(path, read_table(path), read_metadata(path) | {"notes": [f"columns not taken: 1 (<{dataset}>)"]})
    report()
    page = Path("metrics/report.html").read_text()
    assert "<li>columns not taken: 1 (&lt;digits&gt;)</li>" in page
    for name in ("found", "sold"):
        assert f"<li>{name}: columns not taken: 1 (&lt;{name}_images&gt;)</li>" in page


def test_a_file_that_vanishes_while_it_is_read_is_one_line(monkeypatch, refusal):
    Path("photos/2.png").write_bytes(PNG)
    walk = folder.walk

    def walked(root: Path) -> folder.Found:
        found = walk(root)
        Path("photos/2.png").unlink(missing_ok=True)
        return found

    monkeypatch.setattr(folder, "walk", walked)
    name_them()
    assert "photos/2.png: was there when its folder was read and is gone" in refusal(prepare_images, dataset="photos")


def oriented(form: str, orientation: int) -> bytes:
    stream, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.arange(16, dtype=np.uint8).reshape(4, 4)).save(stream, format=form, exif=exif)
    return stream.getvalue()


def test_orientations_profiles_frames_and_transparency_are_counted():
    put("photos/2.png", oriented("PNG", 6))
    put("photos/3.png", oriented("PNG", 1))
    put("photos/4.tif", oriented("TIFF", 3))
    profiled, frames, clear, keyed = (io.BytesIO() for _ in range(4))
    grey = Image.fromarray(np.zeros((4, 4), np.uint8))
    grey.save(profiled, format="PNG", icc_profile=b"profile")
    grey.save(frames, format="GIF", save_all=True, append_images=[Image.fromarray(np.full((4, 4), 99, np.uint8))])
    Image.fromarray(np.zeros((4, 4, 4), np.uint8)).save(clear, format="PNG")
    grey.save(keyed, format="PNG", transparency=0)
    for number, stream in enumerate((profiled, frames, clear, keyed), start=5):
        put(f"photos/{number}.{'gif' if stream is frames else 'png'}", stream.getvalue())
    images = read(colour="rgb")
    assert images.notes == [
        "1 image with an EXIF orientation other than upright, which is not followed",
        "1 image turned by Pillow as their TIFF orientation says",
        "1 image with a colour profile, which is not applied",
        "1 image with several frames, of which the first counts",
        "2 images with transparency, which is dropped",
    ]
    upright = np.arange(16).reshape(4, 4)
    np.testing.assert_array_equal(images.pixels[1, ..., 0], upright)
    np.testing.assert_array_equal(images.pixels[3, ..., 0], upright[::-1, ::-1])
    assert not images.pixels[5].any(), "the first frame"


def test_notes_of_a_sound_dataset_say_nothing():
    assert read().notes == []
    assert read(source="digits", path="-").notes == []


def write_rows(path: str, count: int = 2, **columns) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    rows = [{"bytes": PNG, "path": None, "width": 4}] * count
    pq.write_table(pa.table({"image": rows, **columns}), path)


def test_columns_fields_and_files_that_are_not_taken_are_listed():
    write_rows("hub/data/train.parquet", label=[1, 2], text=["a", "b"], caption=["c", "d"], quality=[0.1, 0.2])
    write_rows("hub/data/test.parquet")
    put("hub/README.md", b"# Card")
    put("hub/.gitattributes", b"")
    images = read(source="parquet", path="hub", files="data/train*.parquet")
    assert (images.labels, images.captions) == ([1, 2], ["c", "d"])
    assert images.notes == [
        "hidden files or folders not taken: 1 (.gitattributes)",
        "other files not taken: 2 (README.md, data/test.parquet)",
        "columns not taken: 3 (image.width, quality, text)",
    ]


def test_arrays_that_are_not_taken_are_listed():
    np.savez("photos.npz", images=np.zeros((2, 4, 4), np.uint8), labels=[0, 1], groups=[0, 0], z=np.zeros(1))
    images = read(source="npz", path="photos.npz")
    assert images.notes == ["arrays not taken: 2 (groups, z)"]


def test_a_row_group_of_more_than_two_gibibytes_of_images_is_read(tmp_path):
    padded = PNG + bytes(2**20)  # decoders stop at the end of the image
    count = 2**31 // len(padded) + 2
    row = pa.array([{"bytes": padded, "path": None}], pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    table = pa.table({"image": pa.chunked_array([row] * count)})
    options = {"row_group_size": count, "dictionary_pagesize_limit": 2**22}
    pq.write_table(table, "large.parquet", compression="zstd", write_batch_size=1, **options)
    assert Path("large.parquet").stat().st_size < 2**22, "one image, said so often"
    assert pq.read_metadata("large.parquet").num_row_groups == 1
    assert count * len(padded) > 2**31, "more than one Arrow array of bytes holds, which reading it whole would need"
    images = read(source="parquet", path="large.parquet")
    assert images.pixels.shape == (count, 4, 4, 1)
    assert (images.pixels == 7).all()
