"""The page: README.md, rendered, with its pictures inside and nothing fetched from anywhere."""

import base64
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup

from leakgauge.errors import InputError


def render(text: str, folder: Path, also: list[Path]) -> str:
    """Markdown as one HTML file.  HTML in the text is shown, not obeyed.

    folder : where its pictures are.  also : pictures put behind the text, if they are there, that git does not have.
    Raises InputError where a picture is missing.
    """
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = markdown.parse(text + "".join(f"\n\n![{path.stem}]({path})" for path in also))
    for token in (child for block in tokens for child in block.children or []):
        if token.type == "image":
            token.attrSet("src", _data_uri(folder / str(token.attrGet("src"))))
    body = Markup(markdown.renderer.render(tokens, markdown.options, {}))
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
    )
    return environment.get_template("page.html.jinja").render(text=body)


def _data_uri(path: Path) -> str:
    if not path.is_file():
        raise InputError(f"{path}: not found: run `dvc repro` to make it, or take it out of README.md")
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
