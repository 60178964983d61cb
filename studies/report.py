"""report: all studies on one page: README.md and what each study found, with their figures inside.

README.md, <study>/findings.md, metrics/ -> metrics/report.html
"""

import base64
import re
from os.path import normpath
from pathlib import Path

from markdown_it import MarkdownIt

from leakgauge.cli import run
from leakgauge.errors import InputError
from leakgauge.files import write_bytes

EXPOSED = Path("metrics/exposed/exposure.png")  # shows members, so it is in DVC's cache alone


def report() -> None:
    """Write metrics/report.html: the studies in the order in which README.md links to them."""
    overview = Path("README.md")
    linked = re.findall(r"\((\w+/findings\.md)\)", overview.read_text(encoding="utf-8"))
    page = render(overview, [Path(path) for path in linked], [EXPOSED])
    write_bytes(Path("metrics/report.html"), page.encode())


def render(overview: Path, findings: list[Path], also: list[Path]) -> str:
    """Markdown files as one HTML file that fetches nothing.  HTML in them is shown, not obeyed.

    findings : a section each, to which links to the file lead.  also : pictures that git does not have, put behind the
    text.  Raises InputError where a picture of the text is missing.
    """
    places = {path.as_posix(): f"#{path.parent.name}" for path in findings}
    sections = {"overview": _body(overview, places)}
    sections |= {path.parent.name: _body(path, places, level=1) for path in findings}
    sections |= {path.stem + "_exposed": f'<p><img alt="{path.stem}" src="{_data_uri(path)}"></p>' for path in also}
    html = "\n".join(f'<section id="{name}">\n{body}</section>' for name, body in sections.items())
    return (Path(__file__).parent / "page.html").read_text(encoding="utf-8").replace("<!-- sections -->", html)


def _body(path: Path, places: dict[str, str], level: int = 0) -> str:
    """A file's HTML.  places : file -> where on the page links to it lead.  level : that its headings go down by."""
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = markdown.parse(path.read_text(encoding="utf-8"))
    for token in [*tokens, *(child for block in tokens for child in block.children or [])]:
        if token.type.startswith("heading"):
            token.tag = f"h{int(token.tag[1]) + level}"
        elif token.type == "image":
            token.attrSet("src", _data_uri(path.parent / str(token.attrGet("src"))))
        elif token.type == "link_open":
            href = str(token.attrGet("href"))
            token.attrSet("href", places.get(normpath(path.parent / href), href))
    return markdown.renderer.render(tokens, markdown.options, {})


def _data_uri(path: Path) -> str:
    if not path.is_file():
        raise InputError(f"{path}: not found: run `dvc repro` to make it, or take it out of the text")
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


if __name__ == "__main__":
    run(report)
