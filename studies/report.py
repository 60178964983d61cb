"""report: all studies on one page: what README.md says of them, with their figures inside.

README.md, metrics/ -> metrics/report.html
"""

from pathlib import Path

from leakgauge.cli import run
from leakgauge.files import write_bytes
from studies.charts.page import render

EXPOSED = Path("metrics/exposed/exposure.png")  # shows members, so it is in DVC's cache alone


def report() -> None:
    """Write metrics/report.html."""
    page = render(Path("README.md").read_text(encoding="utf-8"), Path(), [EXPOSED])
    write_bytes(Path("metrics/report.html"), page.encode())


if __name__ == "__main__":
    run(report)
