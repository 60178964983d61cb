"""A hook of mkdocs: the pages of benchmarks/ and studies/ are pages of the site, and links to them work in both places.

In the repository a page of docs/ links to `../benchmarks/...`.  In the site benchmarks/ lies beside that page.
"""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

BESIDE = (  # docs/: patterns of files, by name, so that no cache of DVC is walked
    "benchmarks/*/*.md",
    "benchmarks/*/*.png",
    "benchmarks/*/*.svg",
    "studies/README.md",
    "studies/*/findings.md",
    "studies/metrics/figures/*.png",
)
LINK = re.compile(r"\]\(\.\./((?:\.\./)*(?:benchmarks|studies)/)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what stands beside docs/."""
    root = Path(config.docs_dir).parent
    for path in sorted(path for pattern in BESIDE for path in root.glob(pattern)):
        files.append(File.generated(config, path.relative_to(root).as_posix(), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Links to what stands beside docs/, as the site has it."""
    return LINK.sub(r"](\1", markdown)
