"""A folder that `datasets.save_to_disk` wrote: files of Arrow IPC streams, and `state.json`, which names them.

The columns are those of `leakgauge/datasets/rows.py`.  Files are mapped into memory, not read as a whole.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import pyarrow as pa

from leakgauge.datasets.captions import json_object, text_of
from leakgauge.datasets.folder import walk
from leakgauge.datasets.images import Entry, Images, listed
from leakgauge.datasets.rows import Tables, read_rows
from leakgauge.errors import InputError

STATE, INFO, SPLITS = "state.json", "dataset_info.json", "dataset_dict.json"
END = b"\xff\xff\xff\xff\0\0\0\0"  # of a stream: without it the file is cut short


class ArrowEntry(Entry):
    """An entry of the `datasets` registry.  path : the folder with `state.json`; of several splits that of one."""

    source: Literal["arrow"]


def read(entry: ArrowEntry) -> Images:
    """The images in the order of the files that `state.json` names, and their rows.

    Raises InputError naming the file and the column or image at fault.
    """
    folder = Path(entry.path)
    names = _files(folder)
    found = walk(folder)
    there = {file.relative_to(folder).as_posix(): file for file in found.files}
    if missing := [name for name in names if name not in there]:
        raise InputError(f"{folder / STATE}: names {missing[0]!r}, which is no file in its folder: fetch it again")
    others = [name for name in there if name not in {*names, STATE, INFO}]
    notes = found.notes + listed("other files", others)
    return read_rows([there[name] for name in names], entry, notes, Tables(_schema, _batches))


def _files(folder: Path) -> list[str]:
    """The names of the files with the rows, in their order.  Raises InputError."""
    if (folder / SPLITS).is_file():
        splits = json_object(text_of(folder / SPLITS), str(folder / SPLITS)).get("splits")
        raise InputError(f"{folder}: holds several splits: `path` must be the folder of one, of {splits}")
    state = folder / STATE
    if not state.is_file():
        raise InputError(f"{folder}: has no {STATE}: `path` must be a folder that `save_to_disk` of `datasets` wrote")
    known = json_object(text_of(state), str(state))
    if known.get("_indices_data_files"):
        raise InputError(f"{state}: selects rows by a file of indices: save it again by `flatten_indices()`")
    files = known.get("_data_files")
    found = [file.get("filename") for file in files if isinstance(file, dict)] if isinstance(files, list) else []
    if not found or not all(isinstance(name, str) for name in found):
        raise InputError(f"{state}: names no files under '_data_files': it is damaged or another file")
    names = [str(name) for name in found]
    if len({*names}) < len(names):
        raise InputError(f"{state}: names a file twice under '_data_files'")
    return names


def _schema(file: Path) -> pa.Schema:
    with _mapped(file) as data:
        schema = pa.ipc.open_stream(data).schema
        for field in schema:  # Arrow decodes names when they are asked for, and raises for those that are no UTF-8
            _ = field.name, [inner.name for inner in field.type] if pa.types.is_struct(field.type) else None
        return schema


def _batches(file: Path, columns: list[str], rows: int) -> Iterator[pa.Table]:
    """A file's rows, at most so many at a time, with all columns: those not asked for cost nothing."""
    with _mapped(file) as data:
        for batch in pa.ipc.open_stream(data):
            table = pa.Table.from_batches([batch])
            table.validate(full=True)
            for start in range(0, len(table), rows):
                yield table.slice(start, rows)
        if data.tell() != data.size():
            raise pa.ArrowInvalid("it goes on behind its end: two files as one?")


@contextmanager
def _mapped(file: Path) -> Iterator[pa.MemoryMappedFile]:
    """A file that ends as a stream does.  Raises InputError naming a damaged file."""
    try:
        with pa.memory_map(str(file)) as data:
            if data.size() < len(END) or data.read_at(len(END), data.size() - len(END)) != END:
                raise pa.ArrowInvalid("it does not end as a stream does: it is cut short or of another format")
            yield data
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: not a readable Arrow stream: {error}") from None
