"""Images as the project keeps them: what is read of a file, decoded to uint8, and what was odd about it.

How an image may change on its way in: by nothing but what its dataset's entry in params.yaml says.

In this order: `orientation` turns the image as a camera's EXIF says, `bits` says how many of 16 bits are in use,
`colour` converts the image, `crop` cuts its middle square out, `size` resizes the square. Instead of `crop`, `square`
says how an image that is no square is brought to `size`. Without these keys nothing is turned, converted, cut or
resized, and an image that would need it ends the stage. EXIF orientation is not followed unless asked for, as it is
not in most training code; the notes count it.
"""

import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, BinaryIO, Literal, Self

import numpy as np
from PIL import Image, ImageFile, ImageOps
from pydantic import Field, PositiveInt, field_validator, model_validator
from tqdm import tqdm

from leakgauge.datasets.depth import BITS, bits_of, misread
from leakgauge.errors import InputError
from leakgauge.options import Options

MODES = {"rgb": "RGB", "grey": "L"}  # Pillow's names
DEEP = ("I", "F")  # Pillow would clip these at 255
ODDITIES = "leakgauge"  # the key of a picture's `info` that holds what `images.decode` noticed
CAPTION = ("caption", "text")  # names of a caption's column or key, where a file of rows has one
BUCKETS = " (one audit has one size: of a trainer's buckets make a dataset and a target for each shape)"
LARGEST = 2**27  # pixels of an image on its way to `size`: a hostile ratio could ask for any number
Level = Annotated[int, Field(ge=0, le=255)]


class Entry(Options):
    """What every entry of the `datasets` registry has; a reader's own adds to it.

    path : what the images are read from, for DVC to watch: it must exist.  Where nothing of the user's own is read, it
        is the file that knows where they come from, like leakgauge/datasets/digits.py.
    orientation : follow, to turn and mirror images as their EXIF orientation says, like Pillow's `exif_transpose`.
    bits : of 16-bit images, how many bits are in use: 12 if levels run from 0 to 4095.  The upper 8 of these are kept;
        a level that needs more bits ends the stage.  In colour it can only be 16, for Pillow keeps the upper 8 alone.
    colour : rgb, or grey (ITU-R 601 luma); transparency is dropped.
    crop : centre, the largest square in the middle; where it cannot be exact, half a pixel up or to the left of it.
    size : width and height in pixels, up or down by `resample`.
    square : how an image that is none is brought to `size`.  crop resizes the shorter side to it and cuts the middle
        out, as torchvision's Resize and CenterCrop do; stretch resizes both sides to it, whatever the ratio; pad
        resizes the longer side to it and adds borders of `fill`, as Pillow's `ImageOps.pad` does.
    fill : the level of the borders, [128], or a colour, [255, 255, 255].
    resample : Pillow's filter, antialiased but for nearest; without it lanczos.
    unit : what is independent where that is not the image (a patient, an artist, a shoot): a column of Parquet or Arrow
        files, or a regular expression on image_ids whose group names it, like "([^/]+)/.*".
    """

    source: str
    path: str
    orientation: Literal["follow"] | None = None
    bits: Annotated[int, Field(ge=8, le=16)] | None = None
    colour: Literal["rgb", "grey"] | None = None
    crop: Literal["centre"] | None = None
    size: PositiveInt | None = None
    square: Literal["crop", "pad", "stretch"] | None = None
    fill: Annotated[list[Level], Field(min_length=1, max_length=3)] | None = None
    resample: Literal["lanczos", "bicubic", "bilinear", "nearest"] | None = None
    unit: Annotated[str, Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _one_way_to_resize(self) -> Self:
        if self.size is None and (self.square or self.resample):
            raise ValueError("square and resample say how to resize: add `size`")
        if self.square and self.crop:
            raise ValueError("crop cuts the square out before it is resized, square says another way: keep one of them")
        if (self.square == "pad") != (self.fill is not None):
            raise ValueError("`square: pad` needs `fill`, the level or colour of the borders, and nothing else does")
        return self

    @field_validator("unit")
    @classmethod
    def _one_group(cls, unit: str | None) -> str | None:
        if unit is not None and "(" in unit:
            try:
                groups = re.compile(unit).groups
            except re.error as error:
                raise ValueError(f"no regular expression: {error}") from None
            if groups != 1:
                raise ValueError(f"needs one group in parentheses, has {groups}")
        return unit


def preprocess(picture: Image.Image, entry: Entry, name: str) -> np.ndarray:
    """An image as its entry asks for it, (H, W, C) uint8, C = 1 or 3.  Raises InputError, which calls it `name`."""
    if entry.orientation and (orientation := _orientation(picture)) != 1:
        picture = picture.transpose(TURNS[orientation])
    picture = _coloured(_shallow(picture, entry, name), entry, name)
    if entry.crop:
        picture = _middle(picture, min(picture.size), floor=True)
    if entry.size:
        picture = _resized(picture, entry, entry.size, name)
    pixels = np.asarray(picture)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _resized(picture: Image.Image, entry: Entry, size: int, name: str) -> Image.Image:
    """A picture of so many pixels a side.  Raises InputError for one that is no square unless `square` makes it one."""
    width, height = picture.size
    resample = Image.Resampling[(entry.resample or "lanczos").upper()]
    if width == height or entry.square == "stretch":
        return picture.resize((size, size), resample)
    if entry.square == "crop":
        longer = int(size * max(width, height) / min(width, height))  # torchvision rounds down
        if size * longer > LARGEST:
            raise InputError(
                f"{name}: is {width}x{height}, too narrow for `square: crop` to `size: {size}`: take it away"
            )
        scaled = picture.resize((size, longer) if width < height else (longer, size), resample)
        return _middle(scaled, size, floor=False)
    if entry.square == "pad":
        return _padded(picture, entry, size, resample, name)
    raise InputError(
        f"{name}: is {width}x{height}, no square that `size` could resize: `crop: centre` in the dataset's entry of "
        "params.yaml would cut its middle out, `square` (crop, pad or stretch) would do as other trainers do"
    )


def _middle(picture: Image.Image, side: int, floor: bool) -> Image.Image:
    """The square in the middle.  floor : where it cannot be exact, half a pixel up or left; else as torchvision's
    CenterCrop has it, which rounds a half to the even pixel."""
    spare = [(length - side) / 2 for length in picture.size]
    left, top = (int(half) if floor else round(half) for half in spare)
    return picture.crop((left, top, left + side, top + side))


def _padded(picture: Image.Image, entry: Entry, size: int, resample: Image.Resampling, name: str) -> Image.Image:
    fill = entry.fill or []
    channels = len(picture.getbands())
    if len(fill) not in (1, channels):
        raise InputError(f"{name}: has {channels} channel(s), and `fill` in the dataset's entry has {len(fill)} levels")
    if round(size * min(picture.size) / max(picture.size)) == 0:
        raise InputError(f"{name}: is {picture.width}x{picture.height}, of which `square: pad` would leave no pixel")
    colour = tuple(fill) if len(fill) == channels else tuple(fill * channels)
    return ImageOps.pad(picture, (size, size), resample, colour if channels > 1 else colour[0])


def _shallow(picture: Image.Image, entry: Entry, name: str) -> Image.Image:
    """A picture of 8 bits a channel of one of 16, by the range that its entry names; others as they are."""
    if picture.mode.startswith("I;16"):
        levels = np.asarray(picture)
        highest = int(levels.max())
        if entry.bits is None:
            raise InputError(
                f"{name}: has 16 bits a pixel and levels up to {highest}: say how many bits are in use by `bits` in "
                f"the dataset's entry of params.yaml, like `bits: 12` for levels 0 to 4095; this image needs at least "
                f"`bits: {max(BITS, highest.bit_length())}`"
            )
        if highest >= 2**entry.bits:
            raise InputError(
                f"{name}: has level {highest}, above {2**entry.bits - 1}, the highest of `bits: {entry.bits}` in the "
                "dataset's entry of params.yaml: raise `bits`, for all images are scaled alike"
            )
        return Image.fromarray((levels >> (entry.bits - BITS)).astype(np.uint8))
    if "deep" in picture.info.get(ODDITIES, []) and picture.mode not in DEEP and entry.bits != 16:
        raise InputError(
            f"{name}: has 16 bits a channel in colour: if all 16 are in use, `bits: 16` in the dataset's entry of "
            "params.yaml keeps the upper 8; if fewer are, convert it to 8 bits a channel yourself"
        )
    return picture


def _coloured(picture: Image.Image, entry: Entry, name: str) -> Image.Image:
    """In mode L or RGB."""
    if picture.mode in DEEP:
        raise InputError(
            f"{name}: has mode {picture.mode}, convert it to 8 bits a channel yourself: its grey levels have no known "
            "range"
        )
    if entry.colour is None:
        if picture.mode in MODES.values():
            return picture
        raise InputError(
            f"{name}: has mode {picture.mode}, neither 8-bit grey (L) nor RGB: `colour: rgb` (or grey) in the "
            "dataset's entry of params.yaml would convert it"
        )
    try:
        return picture.convert(MODES[entry.colour])
    except ValueError as error:
        raise InputError(f"{name}: has mode {picture.mode}, convert it to 8 bits a channel yourself: {error}") from None


@dataclass(frozen=True)
class Images:
    """The images of a dataset, in the reader's order; every list but `classes` and `notes` has length N.

    ids : unique names.  pixels : (N, H, W, C) uint8, C = 1 or 3.  labels, paths, captions : None where unknown.
    classes : the names of labels 0, 1, ..., where they are known.
    notes : sentences on what the reader did not take, and on what it took otherwise than the file has it.
    """

    ids: list[str]
    pixels: np.ndarray
    labels: list[int | None]
    paths: list[str | None]
    captions: list[str | None] | None = None  # texts, of datasets that have them
    classes: list[str] | None = None
    notes: list[str] = field(default_factory=list)
    units: list[str] | None = None  # of the images, where the entry names a column


def units_of(images: Images, entry: Entry) -> list[str] | None:
    """The unit of each image, where the entry has units.  Raises InputError for an image_id that the pattern misses."""
    if entry.unit is None or images.units is not None:
        return images.units
    if "(" not in entry.unit:
        raise InputError(
            f"{entry.path}: `unit: {entry.unit}` names a column, which only Parquet and Arrow files have: a pattern on "
            'image_ids has a group in parentheses, like "([^/]+)/.*"'
        )
    units = []
    for image_id in images.ids:
        found = re.fullmatch(entry.unit, image_id)
        if not found or found[1] is None:
            raise InputError(f"{entry.path}: `unit: {entry.unit}` does not match image_id '{image_id}'")
        units.append(found[1])
    return units


HEIC = (".heic", ".heif", ".hif")  # what the extra `heic` reads
if HEIF := find_spec("pillow_heif") is not None:
    import pillow_heif

    pillow_heif.register_heif_opener()
SUFFIXES = {  # the raster formats of Pillow, without those that start other programs
    *(".apng", ".avif", ".bmp", ".dds", ".dib", ".gif", ".ico", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg"),
    *(".pbm", ".pcx", ".pgm", ".png", ".pnm", ".ppm", ".qoi", ".sgi", ".tga", ".tif", ".tiff", ".webp"),
    *(HEIC if HEIF else ()),
}
FORMATS = sorted({name for suffix, name in Image.registered_extensions().items() if suffix in SUFFIXES})
NO_MAGIC = "TGA"  # a format that its first bytes do not give away
LEAST = 2  # pixels a side: the features of an image are of differences between neighbours
ORIENTATION = 0x0112  # the EXIF tag: 1 upright, 2 to 8 turned or mirrored
TURNS = {  # EXIF orientation -> what sets such a picture upright, as Pillow's `ImageOps.exif_transpose` has it
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SAID = {  # what may be odd about a picture -> how the notes go on after so many images
    "orientation": "with an EXIF orientation other than upright, which is not followed",
    "followed": "turned as their EXIF orientation says",
    "turned": "turned by Pillow as their TIFF orientation says",
    "heif": "of HEIF, turned as HEIF says, whatever their EXIF orientation",
    "heif_deep": "of HEIF of more than 8 bits a channel, of which the upper 8 are kept",
    "avif_deep": "of AVIF of more than 8 bits a channel, which are read as 8",
    "profile": "with a colour profile, which is not applied",
    "frames": "with several frames, of which the first counts",
    "alpha": "with transparency, which is dropped",
    "warned": "that Pillow warns of as damaged, and reads all the same",
    "deep": "of 16 bits a channel, of which the upper 8 in use are kept",
}


def decode(source: Path | BinaryIO, name: str) -> Image.Image:
    """One image of a format that `SUFFIXES` stand for, whatever its name.  Raises InputError, which calls it `name`.

    Pillow goes by content: without the list a PostScript file under another name would run Ghostscript.
    """
    try:
        with (
            warnings.catch_warnings(record=True, action="always") as warned,
            Image.open(source, formats=FORMATS) as picture,
        ):
            if wrong := misread(picture):
                raise InputError(
                    f"{name}: is {wrong}: convert it to PNG, which keeps all bits (ImageMagick: `convert IN OUT.png`) "
                    "and which `bits` in the dataset's entry of params.yaml reads"
                )
            picture.info[ODDITIES] = _oddities(picture) + (["warned"] if warned else [])
            return picture
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{name}: was there when its folder was read and is gone: read it again") from None
    except Exception as error:  # whatever is damaged: Pillow's formats raise nearly anything
        raise InputError(f"{name}: does not decode as an image: {error or type(error).__name__}") from None


def sniffed(file: Path) -> str | None:
    """The format of a file that begins like an image, whatever its name; None of others.  Raises OSError."""
    try:
        with Image.open(file, formats=[name for name in FORMATS if name != NO_MAGIC]) as picture:
            return picture.format
    except (FileNotFoundError, PermissionError):
        raise
    except Exception:  # no image, or a damaged one: Pillow's formats raise nearly anything
        return None


def from_array(pixels: np.ndarray) -> Image.Image:
    """A picture of (H, W) or (H, W, C) uint8, C = 1, 3 or 4."""
    return Image.fromarray(pixels[..., 0] if pixels.shape[2:] == (1,) else pixels)


def collate(
    pictures: Iterable[Image.Image], count: int, entry: Entry, name: Callable[[int], str]
) -> tuple[np.ndarray, list[str]]:
    """`count` >= 1 pictures, framed as their entry asks, as (N, H, W, C) uint8, and notes on what was odd about them.

    One is in memory at a time.  name : what to call an image by its number.  Raises InputError for one of another size
    or number of channels, and for images that are one pixel wide or high.
    """
    pixels, odd = np.empty(0), Counter[str]()
    for number, picture in enumerate(tqdm(pictures, total=count, desc="read images", unit="image", disable=None)):
        found = picture.info.get(ODDITIES, ["alpha"] if _has_alpha(picture) else [])
        odd.update("followed" if entry.orientation and what == "orientation" else what for what in found)
        image = preprocess(picture, entry, name(number))
        if number == 0:
            _check_size(image, name(0))
            pixels = np.empty((count, *image.shape), np.uint8)
        if image.shape != pixels.shape[1:]:
            key = "size" if image.shape[:2] != pixels.shape[1:3] else "colour"
            raise InputError(
                f"{name(number)}: is {_describe(image)}, but {name(0)} is {_describe(pixels[0])}: all images must have "
                f"one size and one number of channels; `{key}` in the dataset's entry of params.yaml would make it one"
                f"{BUCKETS if key == 'size' else ''}"
            )
        pixels[number] = image
    return pixels, [f"{counted(odd[what])} {said}" for what, said in SAID.items() if odd[what]]


def counted(count: int) -> str:
    """`1 image`, `2 images`."""
    return f"{count} image{'s' if count != 1 else ''}"


def listed(what: str, names: list[str], shown: int = 3) -> list[str]:
    """A note on names of what was not taken, or none.  what : `columns`, `files`, ..."""
    if not names:
        return []
    return [f"{what} not taken: {len(names)} ({', '.join(names[:shown])}{', ...' if len(names) > shown else ''})"]


def _check_size(image: np.ndarray, name: str) -> None:
    if min(image.shape[:2]) < LEAST:
        raise InputError(
            f"{name}: is {_describe(image)}: an image must be at least {LEAST} pixels wide and high, for its "
            "features are of differences between neighbouring pixels"
        )


def _describe(image: np.ndarray) -> str:
    height, width, channels = image.shape
    return f"{width}x{height} with {channels} channel{'s' if channels > 1 else ''}"


def _oddities(picture: ImageFile.ImageFile) -> list[str]:
    """Which of `SAID` hold of a picture just opened, which is then loaded."""
    deep = picture.mode.startswith("I;16") or ";16" in str([tile[3] for tile in picture.tile])
    avif_deep = picture.format == "AVIF" and bits_of(picture) > BITS
    frames = getattr(picture, "n_frames", 1)
    before = _orientation(picture)
    picture.load()  # some formats' orientation is followed here
    after = _orientation(picture)
    found = {
        "orientation": after != 1,
        "turned": before != 1 and after == 1,
        "heif": picture.format == "HEIF" and picture.info.get("original_orientation") not in (None, 1),
        "heif_deep": picture.format == "HEIF" and picture.info.get("bit_depth", BITS) > BITS,
        "avif_deep": avif_deep,
        "profile": bool(picture.info.get("icc_profile")),
        "frames": frames > 1,
        "alpha": _has_alpha(picture),
        "deep": deep,
    }
    return [what for what, holds in found.items() if holds]


def _orientation(picture: Image.Image) -> int:
    """1 to 8; 1 where EXIF has none or cannot be read."""
    try:
        found = picture.getexif().get(ORIENTATION, 1)
    except Exception:  # a damaged note: the picture may be sound
        return 1
    return found if found in range(1, 9) else 1


def _has_alpha(picture: Image.Image) -> bool:
    return picture.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info
