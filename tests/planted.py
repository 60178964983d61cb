"""What tests of several packages plant into a finished audit, and the page that it then has."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from leakgauge.config import names, source_of
from leakgauge.report.page import TargetPage, render
from leakgauge.tables import ROLES, decode_images, read_metadata, read_table

TARGET = "digits_ddpm"
ROLE = Path(f"data/roles/{TARGET}")


def page(target: str = TARGET) -> str:
    """The page as it now is, without its figures, which take seconds to draw."""
    facts = read_metadata(Path(f"data/verdicts/{target}.parquet"))
    paths = {role: Path(f"data/roles/{target}/{role}.parquet") for role in ROLES}
    checks = json.loads(Path(f"metrics/checks/{target}.json").read_text())
    null = {f"null_check_{role}": one for role, one in facts["null_check"].items()}
    sets = [
        read_metadata(Path(f"data/verdicts/suspects/{name}.parquet")) | {"name": name} for name in names("suspects")
    ]
    said = TargetPage(
        target=target,
        source=source_of(target),
        hub=None,
        roles={role: read_metadata(path) | {"images": 1, "sha256": ""} for role, path in paths.items()},
        facts=facts,
        checks=checks | null,
        fails=checks["fails"] + sum(one["fails"] for one in null.values()),
        headline=facts["headline"]["judge"],
        figures={},
        exposed=None,
        samples=b"",
        taken={"filled_in": {}, "not_taken": []},
        sets=[one | {"plot": b"", "suspects": []} for one in sets],
        left_out=[],
    )
    return " ".join(render([said], "").split())


def free_images(count: int) -> np.ndarray:
    """(count, 1, 8, 8) uint8: digits that have no role in the finished audit."""
    taken = {name for role in ROLES for name in read_table(ROLE / f"{role}.parquet").column("image_id").to_pylist()}
    digits = read_table(Path("data/images/digits.parquet"))
    free = [row for row, name in enumerate(digits.column("image_id").to_pylist()) if name not in taken]
    return decode_images(digits.take(free[:count]))


def write_images(folder: str, images: dict[str, np.ndarray]) -> None:
    """Images as PNG files.  images : name, folders included -> (C, H, W) uint8."""
    for name, pixels in images.items():
        file = Path(folder) / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)).save(file)
