"""What tests of several packages plant into a finished audit, and the page that it then has."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from leakgauge.options import Report
from leakgauge.report.page import render
from leakgauge.tables import ROLES, decode_images, read_table
from stages import report

TARGET = "digits_ddpm"
ROLE = Path(f"data/roles/{TARGET}")


def page(target: str = TARGET) -> str:
    """The page as it now is, without its figures, which take seconds to draw."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "draw_figures", lambda *_: {})
        return " ".join(render([report._page(target, Report())], "", report.made()).split())


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
