"""WebDataset tars: samples by their keys, whatever their order; what is amiss in a tar is one line."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from conftest import encoded
from readers import read_entry, refused_entry

from leakgauge.datasets.images import Images


def png(level: int, form: str = "PNG") -> bytes:
    return encoded(np.full((4, 4), level, np.uint8), form)


SOUND = {"a.png": png(1), "a.txt": b"one\n", "a.cls": b"3", "b.png": png(2), "b.txt": "zwö".encode(), "b.cls": b"4\n"}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(files: dict[str, bytes], path: str = "photos.tar", **of_last) -> Path:
    """A tar of files.  of_last : attributes of the last member's header."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for number, (name, data) in enumerate(files.items(), start=1):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            if number == len(files):
                for key, value in of_last.items():
                    setattr(member, key, value)
            tar.addfile(member, io.BytesIO(data))
    return Path(path)


def read(**entry) -> Images:
    return read_entry({"source": "webdataset", "path": "photos.tar", **entry})


@pytest.fixture
def wrong(refusal):
    return lambda **entry: refused_entry(refusal, {"source": "webdataset", "path": "photos.tar", **entry})


def test_the_files_of_a_key_are_one_sample():
    write(SOUND | {"a.json": b"{}", "b.seg.png": b"any"})
    images = read()
    assert (images.ids, images.paths) == (["a", "b"], ["a.png", "b.png"])
    assert (images.labels, images.captions) == ([3, 4], ["one", "zwö"])
    assert images.pixels[:, 0, 0, 0].tolist() == [1, 2]
    assert images.notes == ["members not taken: 2 (.json, .seg.png)"]


def test_a_folder_of_tars_names_the_shard_of_each_image():
    write({"0.jpg": png(9, "JPEG"), "0.txt": b"x"}, "shards/train/00001.tar")
    write({"./0.WEBP": png(8, "WEBP"), "./0.txt": b"", "./d/0.png": png(7), "./d/0.txt": b"z"}, "shards/00000.tar")
    Path("shards/00000_stats.json").write_text("{}")
    images = read(path="shards", colour="rgb")
    assert images.ids == ["00000/0", "00000/d/0", "train/00001/0"]
    assert images.captions == ["", "z", "x"]
    assert images.labels == [None] * 3
    assert images.notes == ["other files not taken: 1 (00000_stats.json)", "1 image with an empty caption"]


def test_two_tars_whose_samples_would_have_one_id_are_refused(wrong):
    write({"b/1.png": png(1)}, "shards/a.tar")
    write({"1.png": png(2)}, "shards/a/b.tar")
    assert "shards/a.tar: its sample 'b/1' has the id 'a/b/1', as one of another tar" in wrong(path="shards")


def test_captions_may_be_a_key_of_each_samples_json(wrong):
    write({"a.png": png(1), "a.json": json.dumps({"prompt": "one", "url": "u"}).encode(), "a.txt": b"alt"})
    images = read(caption_key="prompt")
    assert images.captions == ["one"]
    assert images.notes == ["members not taken: 1 (.txt)"]
    assert "photos.tar: a.json: has no caption under 'text' (there is 'prompt', 'url')" in wrong(caption_key="text")


def test_members_in_any_order_and_what_macos_adds_are_told_apart():
    write(
        {"a.txt": b"one", "b.png": png(2), "._a.png": b"any", "__MACOSX/b.png": b"any", "a.png": png(1), "b.txt": b"2"}
    )
    images = read()
    assert (images.ids, images.captions) == (["a", "b"], ["one", "2"])
    assert images.pixels[:, 0, 0, 0].tolist() == [1, 2]
    assert images.notes == ["hidden members not taken: 2 (._a.png, __MACOSX/b.png)"]


def test_folders_in_a_tar_are_no_samples():
    write({"d/a.png": png(1), "d": b""}, type=tarfile.DIRTYPE)
    assert read().ids == ["d/a"]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"b.txt": b"no image"}, "photos.tar: sample 'b' has no image (there is b.txt)"),
        ({"b.cr2": b"any"}, "photos.tar: sample 'b' has no image (there is .cr2)"),
        ({"b.png": png(2)}, "photos.tar: b.png: has no caption: .txt of its key is missing"),
        ({"a.jpg": png(2)}, "photos.tar: a.jpg: is a second image of its key, beside a.png"),
        ({"b.png": png(2), "b.txt": b"x\n\xff"}, "photos.tar: b.txt: line 2 is not UTF-8"),
        ({"b.png": png(2), "b.txt": b"x", "b.cls": b"cat"}, "photos.tar: b.cls: is no label: needs an integer"),
        ({"b.png": png(2), "b.txt": b"x", "b.cls": b"9" * 19}, "photos.tar: b.cls: is no label: needs an integer"),
        ({"b.png": b"any", "b.txt": b"x"}, "photos.tar: b.png: does not decode as an image"),
        ({"README": b"any"}, "photos.tar: README: has no key"),
        ({"../b.png": png(2)}, "photos.tar: ../b.png: its name leads out of the tar"),
        ({"/etc/b.png": png(2)}, "photos.tar: /etc/b.png: its name leads out of the tar"),
        ({"d/../b.png": png(2)}, "photos.tar: d/../b.png: its name leads out of the tar"),
    ],
)
def test_members_that_are_no_sound_samples_are_refused(files, said, wrong):
    write({"a.png": png(1), "a.txt": b"one"} | files)
    assert said in wrong()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(kind, wrong):
    write(SOUND | {"c.png": b""}, type=kind, linkname="/etc/passwd")
    assert "photos.tar: c.png: a link, a device or a sparse file, which is not read" in wrong()
    assert not list(Path().glob("c*"))


def test_a_member_twice_is_refused(wrong):
    tar = write({"a.png": png(1)})
    with tarfile.open(tar, "a") as archive:
        archive.addfile(tarfile.TarInfo("a.png"), io.BytesIO())
    assert "photos.tar: a.png: is there twice" in wrong()


def test_a_name_that_is_no_utf_8_is_refused(wrong):
    with tarfile.open("photos.tar", "w", format=tarfile.GNU_FORMAT) as tar:
        tar.addfile(tarfile.TarInfo("\udcff.png"), io.BytesIO())
    assert "photos.tar: \\xff.png: its name is no UTF-8" in wrong()


def test_a_tar_that_is_cut_damaged_or_goes_on_is_refused(wrong):
    tar = write(SOUND)
    sound = tar.read_bytes()
    with tarfile.open(tar) as archive:
        starts = [member.offset for member in archive]
    end = starts[-1] + 2 * tarfile.BLOCKSIZE
    for cut in (*starts[1:], *(start + 512 + 3 for start in starts), end, end + 512, end + 700):
        tar.write_bytes(sound[:cut])
        assert "photos.tar" in wrong(), cut
    tar.write_bytes(sound[: end + 2 * tarfile.BLOCKSIZE])
    assert read().ids == ["a", "b"]
    for start in starts[1:]:
        tar.write_bytes(sound[:start] + b"damaged!" * 64 + sound[start + 512 :])
        assert "photos.tar: is damaged, or two tars as one, from byte" in wrong(), start
    tar.write_bytes(sound + sound)
    assert "photos.tar: is damaged, or two tars as one, from byte" in wrong()
    tar.write_bytes(b"")
    assert "photos.tar: not a readable .tar, without compression: empty file" in wrong()


def test_what_is_no_tar_and_a_folder_without_any_are_refused(wrong):
    assert "photos.tar: not a readable .tar, without compression: " in wrong()
    Path("photos").mkdir()
    assert "photos: no samples: `path` must be a WebDataset .tar or a folder of such" in wrong(path="photos")
    with tarfile.open("photos.tar", "w:gz"):
        pass
    assert "photos.tar: not a readable .tar, without compression: " in wrong()
    with tarfile.open("photos.tar", "w"):
        pass
    assert "photos.tar: no samples" in wrong()
