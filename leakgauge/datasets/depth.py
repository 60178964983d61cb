"""Bits a channel of an image file, where Pillow does not tell them.

Of 16 bits a channel Pillow keeps 8 in many formats, and says so in none.  `images` keeps the upper 8 of those in use,
where the entry names them by `bits`: that holds of what Pillow reads as 16-bit grey, and of colour in PNG and TIFF, of
which it keeps the upper 8.  Other files of more than 8 bits are told here:

| format | what Pillow does | here |
|---|---|---|
| PPM, PGM | colour: scales to 8 bits, rounded; grey: scales to 16 | refused |
| SGI | keeps the upper 8 of 16, however few are in use | refused |
| JPEG 2000 | colour: keeps the upper 8 | refused |
| TIFF, planes apart, not compressed | reads bytes of 16-bit levels as levels | refused |
| TIFF, grey, low is bright (WhiteIsZero) | does not invert it, as it does one of 8 bits | refused |
| AVIF | scales to 8 bits | read, and counted in a note |
"""

import re

from PIL import ImageFile
from PIL.TiffImagePlugin import TiffImageFile

BITS = 8  # of a channel that is kept
BITS_PER_SAMPLE, COMPRESSION, PHOTOMETRIC, PLANAR = 258, 259, 262, 284  # tags of TIFF
NOT_COMPRESSED, WHITE_IS_ZERO, APART = 1, 0, 2  # their values
SGI_BYTES = 3  # where an SGI file has its bytes a channel
SIZ = re.compile(rb"\xff\x4f\xff\x51.{36}(..)", re.DOTALL)  # the first marker of JPEG 2000, up to its channels
AV1C = re.compile(rb"av1C.{2}(.)", re.DOTALL)  # the box of AVIF that says the bits, up to the byte that does
HIGH, TWELVE = 0x40, 0x20  # flags of that byte


def bits_of(picture: ImageFile.ImageFile) -> int:
    """The most bits that a channel has, of a picture just opened; 8 of formats that are not above.

    Where the file is read, it is left where it was.
    """
    if isinstance(picture, TiffImageFile):
        return max(picture.tag_v2.get(BITS_PER_SAMPLE, (1,)))
    if picture.format == "PPM":
        return _bits_of_ppm(picture)
    if picture.format == "SGI":
        return BITS * _bytes(picture)[SGI_BYTES]
    if picture.format == "JPEG2000":
        return _bits_of_jpeg2000(_bytes(picture))
    if picture.format == "AVIF":
        flags = [found[0] for found in AV1C.findall(_bytes(picture))]
        return max([(12 if flag & TWELVE else 10) if flag & HIGH else BITS for flag in flags], default=BITS)
    return BITS


def misread(picture: ImageFile.ImageFile) -> str | None:
    """What a picture just opened is, if Pillow would not give its levels by the rule of `bits`; else None."""
    if picture.mode == "F" or (bits := bits_of(picture)) <= BITS:
        return None
    if picture.format in ("PPM", "SGI") or (picture.format == "JPEG2000" and picture.mode != "I;16"):
        return f"a file of {picture.format} of {bits} bits a channel, which cannot be read without loss"
    if isinstance(picture, TiffImageFile):
        tags = picture.tag_v2
        if tags.get(PLANAR) == APART and tags.get(COMPRESSION, NOT_COMPRESSED) == NOT_COMPRESSED:
            return f"a TIFF of {bits} bits a channel in planes apart (PlanarConfiguration 2), which would be misread"
        if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO:
            return f"a TIFF of {bits} bits in which low is bright (WhiteIsZero), which would not be inverted"
    return None


def _bits_of_ppm(picture: ImageFile.ImageFile) -> int:
    """By the highest level that its header names, of which Pillow keeps what its decoder needs."""
    kind = picture.tile[0].args
    if not isinstance(kind, tuple):  # bits, or bytes, or pairs of bytes as they are
        return 16 if kind and ";16" in kind else BITS
    return int(kind[1]).bit_length()


def _bits_of_jpeg2000(data: bytes) -> int:
    found = SIZ.search(data)
    if not found:
        return BITS
    channels = int.from_bytes(found[1])
    depths = data[found.end() : found.end() + 3 * channels : 3]
    return max([(depth & 0x7F) + 1 for depth in depths], default=BITS)  # the highest bit says whether it has a sign


def _bytes(picture: ImageFile.ImageFile) -> bytes:
    """The file of a picture, which is left where it was."""
    assert picture.fp is not None, "it was just opened"
    place = picture.fp.tell()
    picture.fp.seek(0)
    data = picture.fp.read()
    picture.fp.seek(place)
    return data
