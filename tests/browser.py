"""A page in headless Chromium: what axe-core objects to, what sticks out, how many sheets it prints on."""

import html
import json
import os
import re
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
needs_chromium = pytest.mark.skipif(CHROMIUM is None and "CI" not in os.environ, reason="no Chromium on this machine")
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]
PROBE = """
<script>%s</script>
<script>
addEventListener("load", async () => {
  document.querySelectorAll("details").forEach(one => one.open = true);
  const report = await axe.run(document, {runOnly: %s});
  const found = report.violations.map(one => ({rule: one.id, places: one.nodes.map(node => node.html.slice(0, 200))}));
  const width = document.documentElement.clientWidth;
  const wide = [...document.querySelectorAll("body *")].filter(one => !one.closest(".wide, pre, svg, .more")
    && one.getBoundingClientRect().right > width + 1).map(one => one.outerHTML.slice(0, 120));
  parent.document.getElementById("found").textContent = JSON.stringify({found, wide, width});
});
</script>
"""
LIGHT, DARK = 1, 0


def look(page: Path, width: int, scheme: int, folder: Path) -> dict[str, Any]:
    """Open a page at a width, all that is folded unfolded.  scheme : LIGHT or DARK.

    Returns `found` (what axe-core objects to), `wide` (elements that stick out to the right) and `width`.
    """
    axe = files("axe_core_python").joinpath("axe.min.js").read_text(encoding="utf-8").replace("</script", "<\\/script")
    inner = page.read_text(encoding="utf-8").replace("</body>", PROBE % (axe, json.dumps(RULES)) + "</body>")
    frame = f'<iframe style="width:{width}px;height:900px;border:0" srcdoc="{html.escape(inner)}"></iframe>'
    outer = folder / "frame.html"  # a window of its own cannot be as narrow as a phone
    outer.write_text(f'<!doctype html><meta charset="utf-8"><pre id="found"></pre>{frame}', encoding="utf-8")
    flags = ["--virtual-time-budget=30000", f"--blink-settings=preferredColorScheme={scheme}", "--dump-dom"]
    dom = chromium(folder, *flags, outer.as_uri())
    found = re.search(r'<pre id="found">(.*?)</pre>', dom, flags=re.DOTALL)
    assert found, "the page's probe left nothing"
    assert found[1], "the page's probe left nothing"
    return json.loads(html.unescape(found[1]))


def printed(page: Path, pdf: Path) -> int:
    """Print a page, and count its sheets."""
    chromium(pdf.parent, "--no-pdf-header-footer", f"--print-to-pdf={pdf}", page.as_uri())
    return len(re.findall(rb"/Type\s*/Page\b", pdf.read_bytes()))


def chromium(home: Path, *flags: str) -> str:
    """What it prints.  home : where it keeps its profile."""
    assert CHROMIUM, "no Chromium: the gate installs it"
    words = [
        CHROMIUM,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        f"--user-data-dir={home}/profile",
    ]
    return subprocess.run([*words, *flags], capture_output=True, text=True, check=True, timeout=120).stdout
