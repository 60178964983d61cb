"""More than 8 bits a channel: kept by the rule of `bits`, counted, or refused; never cut in silence."""

import base64
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from readers import read_entry, refused_entry

from leakgauge.datasets.depth import bits_of
from leakgauge.datasets.images import Images

COLOUR = np.arange(4 * 4 * 3, dtype=np.uint16).reshape(4, 4, 3) * 1300 + 77
GREY = COLOUR[..., :1]
KEPT = "1 image of 16 bits a channel, of which the upper 8 in use are kept"
ENCODED = {  # of COLOUR, or its upper bits, by OpenJPEG and libavif, which Pillow does not write so deep
    "8.j2k": (
        "/0//UQAvAAAAAAAEAAAABAAAAAAAAAAAAAAABAAAAAQAAAAAAAAAAAADBwEBBwEBBwEB/1IADAAAAAEBAAQEAAH/XAAEQED/ZAAlAAFDcmVh"
        "dGVkIGJ5IE9wZW5KUEVHIHZlcnNpb24gMi41LjT/kAAKAAAAAAAxAAH/k8+0QBJUZwYsUAlmbCl41XmqwJXA+EUUAFAer8D4RRFQR+Cv/9k="
    ),
    "16.j2k": (
        "/0//UQAvAAAAAAAEAAAABAAAAAAAAAAAAAAABAAAAAQAAAAAAAAAAAADDwEBDwEBDwEB/1IADAAAAAEBAAQEAAH/XAAEQID/ZAAlAAFDcmVh"
        "dGVkIGJ5IE9wZW5KUEVHIHZlcnNpb24gMi41LjT/kAAKAAAAAABbAAH/k8/8MHwSVGcD6U2Y2QFZWSifXUFjsmFW/jJD828vD05JrMxSwP5E"
        "QBQAUmZ3ISDynwYHlQaUebEHwP5EQBFQSmZ3ISDynwYHlQaUebEH/9k="
    ),
    "10.avif": (
        "AAAAIGZ0eXBhdmlmAAAAAGF2aWZtaWYxbWlhZk1BMUEAAADrbWV0YQAAAAAAAAAhaGRscgAAAAAAAAAAcGljdAAAAAAAAAAAAAAAAAAAAAAO"
        "cGl0bQAAAAAAAQAAAB5pbG9jAAAAAEQAAAEAAQAAAAEAAAETAAAAegAAAChpaW5mAAAAAAABAAAAGmluZmUCAAAAAAEAAGF2MDFDb2xvcgAA"
        "AABqaXBycAAAAEtpcGNvAAAAFGlzcGUAAAAAAAAABAAAAAQAAAAQcGl4aQAAAAADCgoKAAAADGF2MUOBIEAAAAAAE2NvbHJuY2x4AAIAAgAA"
        "gAAAABdpcG1hAAAAAAAAAAEAAQQBAoMEAAAAgm1kYXQSAAoIOAR9jAgIAkAybBAAAAFAVgROeMX/zVdsEGvKD275l88PpTh3g0K6x6uLV/Tj"
        "JfM2q0Wtf5W69tg///xtN8vPdZ8o5iWHTFtwnWNsIk0lPRo/0f1SBPwpExW2av1GOfeT+urrnzdrJklmSIDrhvTGF1twN00CgA=="
    ),
    "12.avif": (
        "AAAAHGZ0eXBhdmlmAAAAAGF2aWZtaWYxbWlhZgAAAOttZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAAAAAAA5waXRt"
        "AAAAAAABAAAAHmlsb2MAAAAARAAAAQABAAAAAQAAAQ8AAAB9AAAAKGlpbmYAAAAAAAEAAAAaaW5mZQIAAAAAAQAAYXYwMUNvbG9yAAAAAGpp"
        "cHJwAAAAS2lwY28AAAAUaXNwZQAAAAAAAAAEAAAABAAAABBwaXhpAAAAAAMMDAwAAAAMYXYxQ4FAYAAAAAATY29scm5jbHgAAgACAACAAAAA"
        "F2lwbWEAAAAAAAAAAQABBAECgwQAAACFbWRhdBIACghYBH2NAgIAiDJvEAAARnDQDSBYL/wR0cC70NjYgull2+oFJ8fIdNrb3baROUMa0W43"
        "zZalj7//+setdb3zDhVawsn6BjRNY9YRcFFsGHa/70nLCnAV/bbxlZulmoYHcq1dYecHHFkbozmkTrUDy9zBkNSjdm4Gtuut"
    ),
}


def png(levels: np.ndarray, kind: int) -> bytes:
    """A PNG of 16 bits a channel.  levels : (H, W, C) uint16.  kind : of its colour, a number of the format."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in levels)
    header = struct.pack(">IIBBBBB", *levels.shape[1::-1], 16, kind, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    written = (struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(written)


def tiff(
    levels: np.ndarray, order: str = "<", planar: int = 1, compression: int = 1, photometric: int = 2, sample: int = 1
) -> bytes:
    """A TIFF.  levels : (H, W, C) uint16 or uint8.  The others are what its tags say; sample : 2 with a sign."""
    height, width, channels = levels.shape
    strips = [levels] if planar == 1 else [levels[..., channel] for channel in range(channels)]
    data = [strip.astype(strip.dtype.newbyteorder(order)).tobytes() for strip in strips]
    data = [zlib.compress(strip) for strip in data] if compression == 8 else data
    starts = [8 + sum(map(len, data[:number])) for number in range(len(data))]
    tags = {  # number -> type (3: 16 bits, 4: 32 bits) and values
        **{256: (3, [width]), 257: (3, [height]), 258: (3, [8 * levels.itemsize] * channels), 259: (3, [compression])},
        **{262: (3, [photometric]), 273: (4, starts), 277: (3, [channels]), 278: (3, [height])},
        **{279: (4, [len(strip) for strip in data]), 284: (3, [planar]), 339: (3, [sample] * channels)},
    }
    body, behind = b"".join(data), b""
    directory = struct.pack(f"{order}H", len(tags))
    for number, (kind, values) in tags.items():
        packed = struct.pack(f"{order}{len(values)}{'H' if kind == 3 else 'I'}", *values)
        if len(packed) > 4:
            behind += packed
            packed = struct.pack(f"{order}I", 8 + len(body) + len(behind) - len(packed))
        directory += struct.pack(f"{order}HHI", number, kind, len(values)) + packed.ljust(4, b"\0")
    start = struct.pack(f"{order}HI", 42, 8 + len(body) + len(behind))
    return (b"II" if order == "<" else b"MM") + start + body + behind + directory + bytes(4)


def sgi(levels: np.ndarray) -> bytes:
    """An SGI file.  levels : (H, W, C) uint8 or uint16."""
    height, width, channels = levels.shape
    axes = 3 if channels > 1 else 2
    header = struct.pack(">hBBHHHHll", 474, 0, levels.itemsize, axes, width, height, channels, 0, 255)
    planes = levels.astype(levels.dtype.newbyteorder(">"))[::-1].transpose(2, 0, 1)
    return header.ljust(512, b"\0") + planes.tobytes()


def pnm(kind: int, levels: np.ndarray, highest: int) -> bytes:
    """A PGM (kind 2 or 5) or PPM (3 or 6).  levels : (H, W, C) uint16.  highest : the level its header names."""
    header = f"P{kind}\n# any\n4 4\n{highest}\n".encode()
    if kind < 4:
        return header + " ".join(map(str, levels.ravel())).encode()
    return header + levels.astype(">u2" if highest > 255 else "u1").tobytes()


@pytest.fixture(autouse=True)
def photos(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()


def read(name: str, data: bytes, **keys) -> Images:
    Path("photos", name).write_bytes(data)
    return read_entry({"source": "folder", "path": "photos", **keys})


def line(refusal, name: str, data: bytes, **keys) -> str:
    """The one line by which stage `images` refuses a file."""
    Path("photos", name).write_bytes(data)
    said = refused_entry(refusal, {"source": "folder", "path": "photos", **keys})
    assert not Path("data/images").exists()
    return said


@pytest.mark.parametrize(
    ("name", "data", "levels"),
    [
        ("1.png", png(GREY, 0), GREY),
        ("1.png", png(COLOUR, 2), COLOUR),
        ("1.png", png(np.concatenate([GREY, GREY // 2], axis=2), 4), GREY),
        ("1.png", png(np.concatenate([COLOUR, GREY], axis=2), 6), COLOUR),
        ("1.tif", tiff(GREY, photometric=1), GREY),
        ("1.tif", tiff(GREY, ">", photometric=1), GREY),
        *[("1.tif", tiff(COLOUR, order, 1, packed), COLOUR) for order in "<>" for packed in (1, 8)],
        *[("1.tif", tiff(COLOUR, order, 2, 8), COLOUR) for order in "<>"],
    ],
)
def test_sixteen_bits_need_a_word_and_then_the_upper_eight_are_kept_and_counted(name, data, levels, refusal):
    said = line(refusal, name, data, colour="rgb")
    assert f"photos/{name}: has 16 bits a" in said
    assert "`bits" in said
    images = read(name, data, bits=16, colour="rgb")
    np.testing.assert_array_equal(images.pixels[0], np.broadcast_to(levels >> 8, (4, 4, 3)))
    assert KEPT in images.notes


@pytest.mark.parametrize(
    ("name", "data", "what"),
    [
        ("1.tif", tiff(COLOUR, "<", 2), "a TIFF of 16 bits a channel in planes apart (PlanarConfiguration 2)"),
        ("1.tif", tiff(COLOUR, ">", 2), "a TIFF of 16 bits a channel in planes apart (PlanarConfiguration 2)"),
        ("1.tif", tiff(GREY, photometric=0), "a TIFF of 16 bits in which low is bright (WhiteIsZero)"),
        *[("1.ppm", pnm(kind, COLOUR, 65535), "a file of PPM of 16 bits a channel") for kind in (3, 6)],
        *[("1.ppm", pnm(kind, COLOUR >> 4, 4095), "a file of PPM of 12 bits a channel") for kind in (3, 6)],
        *[("1.pgm", pnm(kind, GREY, 65535), "a file of PPM of 16 bits a channel") for kind in (2, 5)],
        *[("1.pgm", pnm(kind, GREY >> 7, 511), "a file of PPM of 9 bits a channel") for kind in (2, 5)],
        ("1.sgi", sgi(COLOUR), "a file of SGI of 16 bits a channel"),
        ("1.sgi", sgi(GREY), "a file of SGI of 16 bits a channel"),
        ("1.j2k", base64.b64decode(ENCODED["16.j2k"]), "a file of JPEG2000 of 16 bits a channel"),
    ],
)
def test_what_pillow_cuts_or_misreads_is_refused_and_the_line_says_how_to_convert(name, data, what, refusal):
    for keys in ({}, {"bits": 16}, {"bits": 16, "colour": "grey"}):
        said = line(refusal, name, data, **keys)
        assert f"photos/{name}: is {what}" in said
        assert "convert it to PNG, which keeps all bits (ImageMagick: `convert IN OUT.png`) and which `bits`" in said


@pytest.mark.parametrize(
    ("name", "data", "levels"),
    [
        ("1.tif", tiff((COLOUR >> 8).astype(np.uint8), "<", 2), COLOUR >> 8),
        ("1.tif", tiff((GREY >> 8).astype(np.uint8), photometric=0), 255 - (GREY >> 8)),
        ("1.ppm", pnm(6, COLOUR >> 8, 255), COLOUR >> 8),
        ("1.pgm", pnm(2, GREY >> 8, 255), GREY >> 8),
        ("1.sgi", sgi((COLOUR >> 8).astype(np.uint8)), COLOUR >> 8),
        ("1.j2k", base64.b64decode(ENCODED["8.j2k"]), COLOUR >> 8),
    ],
)
def test_the_same_formats_of_eight_bits_are_read_to_the_level(name, data, levels):
    images = read(name, data)
    np.testing.assert_array_equal(images.pixels[0], levels)
    assert images.notes == []


def test_deep_grey_of_jpeg_2000_is_read_by_the_rule():
    stream = io.BytesIO()
    Image.fromarray(GREY[..., 0]).save(stream, "JPEG2000", irreversible=False)
    with Image.open(stream) as picture:
        place = picture.fp.tell()
        assert (bits_of(picture), picture.fp.tell()) == (16, place)
    images = read("1.jp2", stream.getvalue(), bits=16)
    np.testing.assert_array_equal(images.pixels[0], GREY >> 8)
    assert KEPT in images.notes


@pytest.mark.parametrize("bits", [10, 12])
def test_avif_of_more_than_eight_bits_is_read_as_eight_and_counted(bits):
    data = base64.b64decode(ENCODED[f"{bits}.avif"])
    with Image.open(io.BytesIO(data)) as picture:
        assert bits_of(picture) == bits
    images = read("1.avif", data)
    assert np.abs(images.pixels[0].astype(int) - (COLOUR >> 8)).max() <= 2, "conversion from YCbCr"
    assert images.notes == ["1 image of AVIF of more than 8 bits a channel, which are read as 8"]


def test_avif_of_eight_bits_is_not_counted():
    stream = io.BytesIO()
    Image.fromarray((COLOUR >> 8).astype(np.uint8)).save(stream, "AVIF")
    assert read("1.avif", stream.getvalue()).notes == []


@pytest.mark.parametrize("keys", [{}, {"colour": "grey"}, {"bits": 16}])
@pytest.mark.parametrize("form", ["32 bits", "with a sign"])
def test_levels_of_no_known_range_are_refused_without_advice_that_would_not_help(form, keys, refusal):
    stream = io.BytesIO()
    Image.fromarray(GREY[..., 0].astype(np.int32)).save(stream, "TIFF")
    data = stream.getvalue() if form == "32 bits" else tiff(GREY, photometric=1, sample=2)
    said = line(refusal, "1.tif", data, **keys)
    assert "photos/1.tif: has mode I, convert it to 8 bits a channel yourself: its grey levels have no known" in said
