"""Captions of folders: each image has its own, where the entry says; whatever is amiss is one line."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import encoded, tiny_params, write_params
from readers import read_entry, refused_entry

from leakgauge.datasets.images import Images
from leakgauge.tables import captions_of, read_table
from stages.images import prepare_images

NAMES = ("a.png", "cat/b.png", "cat/c.png")


@pytest.fixture(autouse=True)
def photos(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(NAMES):
        put(name, encoded(np.full((4, 4), number, np.uint8)))


def put(name: str, data: bytes | str) -> None:
    path = Path("photos", name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)


def put_rows(*rows: dict, name: str = "metadata.jsonl") -> None:
    put(name, "".join(json.dumps(row) + "\n" for row in rows))


def rows(**more) -> list[dict]:
    """A sound row of each image, in another order than theirs."""
    return [{"file_name": name, "text": f"of {name}"} | more for name in reversed(NAMES)]


def read(**entry) -> Images:
    return read_entry({"source": "folder", "path": "photos", **entry})


@pytest.fixture
def wrong(refusal):
    return lambda **entry: refused_entry(refusal, {"source": "folder", "path": "photos", **entry})


def test_rows_of_metadata_jsonl_are_captions_of_the_images_they_name():
    put_rows(*rows(label=3))
    put("notes.md", "any")
    images = read(captions="metadata.jsonl")
    assert images.ids == list(NAMES)
    assert images.captions == ["of a.png", "of cat/b.png", "of cat/c.png"]
    assert images.notes == [
        "files that are no images not taken: 1 (notes.md)",
        "keys of metadata.jsonl not taken: 1 (label)",
    ]


def test_captions_of_a_folder_reach_the_table_of_images():
    put_rows(*rows())
    params = tiny_params()
    params["datasets"]["photos"] = {"source": "folder", "path": "photos", "captions": "metadata.jsonl"}
    write_params(params)
    prepare_images("photos")
    table = read_table(Path("data/images/photos.parquet"))
    assert captions_of(table) == ["of a.png", "of cat/b.png", "of cat/c.png"]


def test_rows_count_from_the_folder_that_their_file_lies_in():
    put_rows({"file_name": "./a.png", "caption": "one"})
    put_rows(
        {"file_name": "b.png", "caption": "two"}, {"file_name": "c.png", "caption": "three"}, name="cat/metadata.jsonl"
    )
    assert read(captions="metadata.jsonl").captions == ["one", "two", "three"]


def test_metadata_csv_as_spreadsheets_write_it():
    put("metadata.csv", '\ufefffile_name,prompt\r\na.png,"one, ""two""\nthree"\r\n\r\ncat/b.png,\r\ncat/c.png,ü\r\n')
    images = read(captions="metadata.csv", caption_key="prompt")
    assert images.captions == ['one, "two"\nthree', "", "ü"]
    assert images.notes == ["1 image with an empty caption"]


def test_a_column_without_a_name_as_pandas_writes_its_index_is_listed():
    put("metadata.csv", ",file_name,text\n0,a.png,x\n1,cat/b.png,y\n2,cat/c.png,z\n")
    assert read(captions="metadata.csv").notes == ["keys of metadata.csv not taken: 1 ()"]


@pytest.mark.parametrize(("suffix", "other"), [("txt", "caption"), ("caption", "txt")])
def test_text_files_beside_images_are_their_captions_as_kohya_has_them(suffix, other, wrong):
    for name in NAMES:
        put(f"{name.removesuffix('.png')}.{suffix}", f" 1girl, {name} \r\n\n \n")
    put("readme.txt", "no image has this name")
    assert f"a.png: has no caption: a.{other} is not beside it (`captions: {other}`)" in wrong(captions=other)
    images = read(captions=suffix)
    assert images.captions == ["1girl, a.png", "1girl, cat/b.png", "1girl, cat/c.png"]
    assert images.notes == ["files that are no images not taken: 1 (readme.txt)"]


@pytest.mark.parametrize(("suffix", "other"), [("txt", "caption"), ("caption", "txt")])
def test_two_text_files_beside_an_image_must_say_the_same(suffix, other, wrong):
    for name in NAMES:
        put(f"{name.removesuffix('.png')}.{suffix}", "1girl")
    put(f"cat/b.{other}", " 1girl\r\n\n")
    images = read(captions=suffix)
    assert (images.captions, images.notes) == (["1girl"] * 3, [])
    for text in ("1boy", "1girl\nsolo", ""):
        put(f"cat/b.{other}", text)
        line = wrong(captions=suffix)
        assert f"photos/cat/b.png: has two captions, b.{suffix} and b.{other}: take away the one that the model" in line


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1girl\nsolo\n", "has text on line 2, too"),
        ("1girl\r\rsolo", "has text on line 3, too"),
        (" \n1girl\n", "has text on line 2, and none on line 1"),
    ],
)
def test_a_text_file_of_several_lines_is_refused_for_trainers_differ_in_which_they_read(text, said, wrong):
    for name in NAMES:
        put(f"{name.removesuffix('.png')}.txt", "x\u2028y")
    assert read(captions="txt").captions == ["x\u2028y"] * 3
    put("cat/b.txt", text)
    line = wrong(captions="txt")
    assert f"photos/cat/b.txt: {said}: trainers differ in which lines they read: write the caption that" in line


def test_captions_that_the_entry_does_not_name_are_not_read_and_the_note_names_the_key():
    put_rows(*rows())
    put("cat/metadata.csv", "file_name,text\nb.png,x\n")
    put("a.txt", "x")
    images = read()
    assert images.captions is None
    advice = "in the dataset's entry would read captions from there"
    assert images.notes[1:] == [
        f"metadata.jsonl lies beside the images: `captions: metadata.jsonl` {advice}",
        f"metadata.csv lies beside the images: `captions: metadata.csv` {advice}",
        f"1 .txt named like images: `captions: txt` {advice}",
    ]


@pytest.mark.parametrize(
    "name",
    [
        "../photos/a.png",
        "/etc/passwd",
        "cat/../a.png",
        "a.png\n",
        "cat",
        "",
        "cat\\b.png",
        "A.png",
        ".",
        "metadata.jsonl",
    ],
)
def test_a_file_name_that_is_no_image_below_the_folder_is_refused_in_one_line(name, wrong):
    put_rows(*rows(), {"file_name": name, "text": "x"})
    line = wrong(captions="metadata.jsonl")
    assert f"photos/metadata.jsonl: line 4: 'file_name' is {name!r}, which is no image below its folder" in line


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"{", "line 4: not JSON in UTF-8: Expecting"),
        (b"[" * 100_000, "line 4: not JSON in UTF-8: "),
        (b'{"file_name": "a.png", "text": "x", "text": "y"}', "line 4: not JSON in UTF-8: key 'text' is there twice"),
        (b"[1]", "line 4: needs a JSON object"),
        (b'{"file_name": "a.png", "text": "\\ud800"}', "line 4: not JSON in UTF-8: 'utf-8' codec can't encode"),
        (b'{"file_name": "a.png", "text": "\xe9"}', "line 4 is not UTF-8: save it as UTF-8"),
        (b'{"text": "x"}', "line 4: has no 'file_name' (there is 'text')"),
        (b'{"file_name": 7, "text": "x"}', "line 4: has no 'file_name'"),
        (
            b'{"file_name": "a.png", "text": "x"}',
            "line 4: 'a.png' has a caption already, in photos/metadata.jsonl: line",
        ),
        (b'{"file_name": "a.png", "text": null}', "line 4: has no caption under 'caption' or 'text' (there is"),
        (b'{"file_name": "a.png", "prompt": "x"}', "'prompt'): `caption_key` in the dataset's entry names the key"),
        (b'{"file_name": "a.png", "text": ["x"]}', "line 4: 'text' is no text"),
        (b'{"file_name": "a.png", "text": "x", "caption": "y"}', "line 4: has both 'caption' and 'text': name one by"),
    ],
)
def test_a_row_that_is_none_is_refused_by_its_line(line, said, wrong):
    sound = "".join(json.dumps(row) + "\n" for row in rows()).encode()
    put("metadata.jsonl", sound + line)
    if b"already" not in said.encode():
        Path("photos/d.png").write_bytes(Path("photos/a.png").read_bytes())
        put("metadata.jsonl", sound + line.replace(b"a.png", b"d.png"))
    assert said in wrong(captions="metadata.jsonl")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("file_name,text\na.png\n", "photos/metadata.csv: line 2 has not as many fields as the first line"),
        ("file_name,text\na.png,x,y\n", "photos/metadata.csv: line 2 has not as many fields as the first line"),
        ("file_name,text,text\na.png,x,y\n", "photos/metadata.csv: has column 'text' twice"),
        ('file_name,text\na.png,"x\n', "photos/metadata.csv: line 2: not CSV: unexpected end of data"),
        (f"file_name,text\na.png,{'x' * 200_000}\n", "photos/metadata.csv: line 2: not CSV: field larger than"),
        ("", "photos/a.png: has no caption: no row of metadata.csv names it (3 such)"),
        ("name,text\na.png,x\n", "photos/metadata.csv: line 2: has no 'file_name' (there is 'name', 'text')"),
    ],
)
def test_a_csv_that_is_none_is_refused(text, said, wrong):
    put("metadata.csv", text)
    assert said in wrong(captions="metadata.csv")


def test_an_image_without_a_caption_is_refused(wrong):
    assert "photos: has no metadata.jsonl, which `captions` in the dataset's entry names" in wrong(
        captions="metadata.jsonl"
    )
    put_rows(*rows()[1:])
    assert "photos/cat/c.png: has no caption: no row of metadata.jsonl names it (1 such)" in wrong(
        captions="metadata.jsonl"
    )
    put("a.txt", "x")
    assert "photos/cat/b.png: has no caption: b.txt is not beside it (`captions: txt`)" in wrong(captions="txt")
    put("cat/b.txt", b"line\n\xff")
    put("cat/c.txt", "x")
    assert "photos/cat/b.txt: line 2 is not UTF-8" in wrong(captions="txt")


@pytest.mark.parametrize("captions", ["metadata.parquet", "../metadata.jsonl", "/etc/metadata.csv", "jsonl", True])
def test_captions_are_named_by_a_file_or_by_txt(captions, wrong):
    assert "params.yaml: datasets.photos.captions: " in wrong(captions=captions)


@pytest.mark.parametrize("keys", [{}, {"captions": "txt"}])
def test_a_key_of_captions_that_have_no_rows_is_refused(keys, wrong):
    assert "caption_key names a key of rows: name their file by `captions`" in wrong(caption_key="text", **keys)
