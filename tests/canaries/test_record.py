"""The sealed record: what is written, and what of a changed one is refused."""

import hashlib
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from leakgauge.canaries.record import drawn, open_record
from leakgauge.canaries.seal import Making, seal
from leakgauge.errors import InputError

PUBLISH, SEALED = Path("publish"), Path("sealed")


@pytest.fixture
def photos(tmp_path, monkeypatch) -> Path:
    """Twenty pictures of 24x16, one of them in a folder and turned by its EXIF."""
    monkeypatch.chdir(tmp_path)
    rng, folder = np.random.default_rng(0), Path("photos")
    (folder / "deep").mkdir(parents=True)
    for number in range(20):
        picture = Image.fromarray(rng.integers(0, 256, (16, 24, 3), np.uint8))
        exif = Image.Exif()
        exif[0x0112], exif[0x010F] = 6, "a camera's name"
        name = "deep/turned.jpg" if number == 0 else f"{number}.png"
        picture.save(folder / name, **({"exif": exif} if number == 0 else {}))
    return folder


@pytest.fixture
def sealed(photos) -> dict:
    """The record of these, as JSON."""
    seal(photos, PUBLISH, SEALED, Making(variants=4))
    return json.loads((SEALED / "record.json").read_text())


def write(record: object) -> None:
    """Write a record that was changed."""
    (SEALED / "record.json").write_text(json.dumps(record))


def test_what_is_published_is_the_variant_that_was_drawn_and_all_are_kept(sealed):
    opened = open_record(SEALED)
    published = sorted(path.relative_to(PUBLISH).as_posix() for path in PUBLISH.rglob("*.png"))
    assert published == [image["name"] for image in sorted(sealed["images"], key=lambda image: image["name"])]
    for number, image in enumerate(sealed["images"]):
        files = [opened.read(number, k) for k in range(4)]
        assert [hashlib.sha256(data).hexdigest() for data in files] == image["sha256"]
        assert (PUBLISH / image["name"]).read_bytes() == files[image["published"]]
    assert SEALED.stat().st_mode & 0o077 == 0, "others on the machine cannot read it"


def test_the_draw_is_uniform_and_another_with_another_seed():
    found = np.array([[drawn(f"{seed:064x}", f"{name}.png", 5) for name in range(500)] for seed in range(2)])
    assert stats.chisquare(np.bincount(found[0], minlength=5)).pvalue > 0.001
    assert 60 < (found[0] == found[1]).sum() < 150


def test_files_are_upright_and_tell_nothing_but_pixels(sealed):
    with Image.open(PUBLISH / "deep/turned.png") as picture:
        assert picture.size == (16, 24)
        assert not picture.getexif()
    assert b"camera" not in (PUBLISH / "deep/turned.png").read_bytes()


def test_jpeg_is_published_where_it_is_asked_for_and_kept_alike(photos):
    seal(photos, PUBLISH, SEALED, Making(format="jpeg"))
    opened = open_record(SEALED / "record.json")
    tables = []
    for data in [(PUBLISH / "1.jpg").read_bytes(), *(opened.read(1, k) for k in range(8))]:
        with Image.open(io.BytesIO(data)) as picture:
            assert picture.format == "JPEG"
            tables.append(picture.quantization)
    assert all(table == tables[0] for table in tables)


def test_no_folder_is_written_over_and_the_secret_is_not_put_into_what_is_published(photos):
    PUBLISH.mkdir()
    with pytest.raises(InputError, match="publish: is there already"):
        seal(photos, PUBLISH, SEALED, Making())
    PUBLISH.rmdir()
    with pytest.raises(InputError, match="publish/s: lies in publish: the sealed folder is secret"):
        seal(photos, PUBLISH, PUBLISH / "s", Making())
    with pytest.raises(InputError, match="sealed/publish: lies in sealed"):
        seal(photos, SEALED / "publish", SEALED, Making())


@pytest.mark.parametrize(
    ("name", "mode", "said"),
    [
        ("broken.png", None, "broken.png: does not decode as an image"),
        ("clear.png", "RGBA", "clear.png: has mode RGBA, .*: --colour rgb"),
        ("deep.png", "I;16", "deep.png: has mode I;16, .*: --colour rgb"),
        ("1.bmp", "RGB", "would be published as 1.png, as photos/1.bmp would|1.bmp: would be|1.png: would be"),
        ("raw.nef", None, "raw.nef: .nef is not read"),
    ],
)
def test_a_bad_photo_leaves_nothing_written(photos, name, mode, said):
    if mode:
        Image.new(mode, (8, 8)).save(photos / name)
    else:
        (photos / name).write_bytes(b"no image")
    before = sorted(Path().rglob("*"))
    with pytest.raises(InputError, match=said):
        seal(photos, PUBLISH, SEALED, Making())
    assert sorted(Path().rglob("*")) == before


def changed(record: dict, **values: object) -> dict:
    """Other values of the record."""
    return record | values


def of_first(record: dict, **values: object) -> dict:
    """Other values of its first image."""
    return record | {"images": [record["images"][0] | values, *record["images"][1:]]}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda r: of_first(r, published=(r["images"][0]["published"] + 1) % 4),
            "published is not what the seed draws",
        ),
        (lambda r: changed(r, seed="0" * 64), "published is not what the seed draws"),
        (lambda r: of_first(r, sha256=["0" * 64] * 3), "has 3 variants, the record 4"),
        (lambda r: changed(r, images=r["images"][:1] * 2), "two images have one name"),
        (lambda r: changed(r, version=2), "version: Input should be 1"),
        (lambda r: changed(r, images=[]), "images: List should have at least 1 item"),
        (lambda r: changed(r, variants=4000), "variants: Input should be less than or equal to 16"),
        (lambda r: changed(r, path="/etc"), "path: Extra inputs are not permitted"),
        (lambda r: changed(r, tone=float("nan")), "tone: Input should be"),
        (lambda r: of_first(r, name="\ud800"), "no sealed record"),
        (lambda r: [r], "no sealed record: Input should be"),
    ],
)
def test_a_changed_record_is_refused_in_one_line(sealed, change, said):
    write(change(sealed))
    with pytest.raises(InputError, match=re.escape(said)) as refused:
        open_record(SEALED)
    assert str(refused.value).startswith("sealed/record.json: ")
    assert "\n" not in str(refused.value)


def test_a_changed_or_missing_variant_is_refused(sealed):
    opened = open_record(SEALED)
    file = SEALED / "variants/00003/2.png"
    file.write_bytes(file.read_bytes() + b"x")
    with pytest.raises(InputError, match=r"variants/00003/2.png: is not the file that was sealed"):
        opened.read(3, 2)
    file.unlink()
    with pytest.raises(InputError, match=r"variants/00003/2.png: not found"):
        opened.read(3, 2)


def test_a_name_leads_nowhere(sealed):
    """Files are found by number: a path in a record is not followed."""
    name = "../../outside.png"
    published = drawn(sealed["seed"], name, 4)
    write(of_first(sealed, name=name, published=published))
    opened = open_record(SEALED)
    assert opened.variant(0, 1) == SEALED / "variants/00000/1.png"
    assert hashlib.sha256(opened.read(0, 1)).hexdigest() == sealed["images"][0]["sha256"][1]
