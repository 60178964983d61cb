"""Folders that `datasets.save_to_disk` wrote: read as Parquet of the same rows is; what is amiss is one line."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import encoded
from readers import read_entry, refused_entry

from leakgauge.datasets.images import Images


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)


def read(**entry) -> Images:
    return read_entry({"source": "arrow", "path": "saved", **entry})


@pytest.fixture
def wrong(refusal):
    return lambda **entry: refused_entry(refusal, {"source": "arrow", "path": "saved", **entry})


def rows(first: int, count: int, **columns) -> pa.Table:
    """Rows of one-colour 4x4 images, the first of value `first`, with the schema that `datasets` writes."""
    images = [{"bytes": encoded(np.full((4, 4), first + row, np.uint8)), "path": None} for row in range(count)]
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    features = {"image": {"_type": "Image"}, "label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}
    table = pa.table({"image": pa.array(images, struct), **columns})
    return table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def save(*tables: pa.Table, folder: str = "saved", **state) -> list[str]:
    """What `save_to_disk` writes of a dataset in so many files; returns their names."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    names = [f"data-{number:05d}-of-{len(tables):05d}.arrow" for number in range(len(tables))]
    for name, table in zip(names, tables, strict=True):
        with pa.OSFile(f"{folder}/{name}", "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table, max_chunksize=100)
    files = [{"filename": name} for name in names]
    said = {"_data_files": files, "_fingerprint": "0123456789abcdef", "_format_type": None, "_split": "train"}
    Path(folder, "state.json").write_text(json.dumps(said | state))
    Path(folder, "dataset_info.json").write_text(json.dumps({"citation": "", "features": {}}))
    return names


def test_files_are_read_in_the_order_of_the_state_and_with_what_parquet_takes():
    tables = [
        rows(first, count, label=[1] * count, text=[f"{first}"] * count, artist=[f"by {first}"] * count, z=[0] * count)
        for first, count in ((100, 40), (0, 3))
    ]
    save(*tables)
    Path("saved/cache-0123.arrow").write_bytes(b"any")
    images = read(unit="artist")
    assert images.pixels[:, 0, 0, 0].tolist() == [*range(100, 140), 0, 1, 2]
    assert images.ids == [str(number) for number in range(43)]
    assert images.captions == ["100"] * 40 + ["0"] * 3
    assert images.notes == ["other files not taken: 1 (cache-0123.arrow)", "columns not taken: 1 (z)"]
    pq.write_table(pa.concat_tables(tables), "same.parquet")
    same = read(source="parquet", path="same.parquet", unit="artist")
    np.testing.assert_array_equal(images.pixels, same.pixels)
    assert (images.ids, images.labels, images.units, images.captions, images.paths) == (
        same.ids,
        same.labels,
        same.units,
        same.captions,
        same.paths,
    )


def test_of_several_splits_one_is_named(wrong):
    save(rows(0, 2), folder="saved/train")
    Path("saved/dataset_dict.json").write_text(json.dumps({"splits": ["train", "test"]}))
    assert "saved: holds several splits: `path` must be the folder of one, of ['train', 'test']" in wrong()
    assert read(path="saved/train").ids == ["0", "1"]


def test_a_folder_of_anything_else_is_refused(wrong):
    Path("saved").mkdir()
    assert "saved: has no state.json: `path` must be a folder that `save_to_disk` of `datasets` wrote" in wrong()


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({"_data_files": [{"filename": "../data-00000-of-00001.arrow"}]}, "which is no file in its folder"),
        ({"_data_files": [{"filename": "/etc/passwd"}]}, "names '/etc/passwd', which is no file in its folder"),
        ({"_data_files": [{"filename": "data-00000-of-00001.arrow"}] * 2}, "names a file twice"),
        ({"_data_files": []}, "names no files under '_data_files'"),
        ({"_data_files": [{"filename": 7}]}, "names no files under '_data_files'"),
        ({"_indices_data_files": [{"filename": "indices.arrow"}]}, "save it again by `flatten_indices()`"),
    ],
)
def test_a_state_that_names_other_files_is_refused(state, said, wrong):
    save(rows(0, 2), **state)
    Path("data-00000-of-00001.arrow").write_bytes(Path("saved/data-00000-of-00001.arrow").read_bytes())
    line = wrong()
    assert "saved/state.json: " in line
    assert said in line


def test_a_stream_that_is_cut_or_goes_on_is_refused(wrong):
    name = save(rows(0, 200))[0]
    file = Path("saved", name)
    sound = file.read_bytes()
    for changed in (sound[:-8], sound[: len(sound) // 2], b"", sound[:-8] + sound[-4:]):
        file.write_bytes(changed)
        assert f"{file}: not a readable Arrow stream: " in wrong()
    file.write_bytes(sound + sound)
    assert f"{file}: not a readable Arrow stream: it goes on behind its end" in wrong()


def test_images_that_the_dataset_only_names_are_refused(wrong):
    table = rows(0, 1)
    save(table.set_column(0, "image", pa.array([{"bytes": None, "path": "/data/1.png"}], table.schema.field(0).type)))
    assert "image '0': has no bytes: the file must hold the images, not only their paths" in wrong()
