"""Peak memory of `score`, `fit` and `evaluate` at 60,000 CIFAR-10 images against 6,000: bounded, or does it grow?

    python -m benchmarks.memory.run --images FOLDER [--stages score fit evaluate] [--counts 6000 60000]

FOLDER has `cifar10-train.parquet` and `cifar10-test.parquet`, each with columns image (struct of bytes and path) and
label.  Each stage runs as a program, on one role of so many images; `evaluate` on z-scores drawn at random, of so
many images in all roles.  Writes results.json and results.md beside this file, or to --out.
"""

import argparse
import json
import platform
import shutil
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import psutil

from benchmarks.memory.peak import Peak, peak_of
from benchmarks.memory.subjects import FITTED, IMAGES, LEARNERS, SCORED, write_subjects
from benchmarks.synthetic import TARGET, Bag, write_audit
from leakgauge.cli import parser_of

HERE = Path(__file__).parent
BAGS = {
    "marginal": Bag("quantiles", size=10),
    "gbm": Bag("location_scale", size=10),
    "resnet": Bag("quantiles", size=10),
}
COMMANDS = {
    "score": [["score", SCORED, "auxiliary"]],
    "fit": [["fit", FITTED, learner] for learner in LEARNERS],
    "evaluate": [["evaluate", TARGET]],
}


def main() -> None:
    """Measure what the command line asks for."""
    arguments = _arguments()
    missing = [name for name in IMAGES if not (arguments.images / name).is_file()]
    if missing and arguments.stages != ["evaluate"]:
        sys.exit(f"{arguments.images} has no {' and no '.join(missing)} (see --help)")
    peaks: dict[str, dict[int, Peak]] = {}
    for count in arguments.counts:
        work = Path(tempfile.mkdtemp(dir=arguments.work))
        try:
            for stage in arguments.stages:
                folder = _prepared(stage, work, arguments.images, count)
                for command in COMMANDS[stage]:
                    peak = peak_of([f"stages.{stage}", *command[1:]], folder)
                    peaks.setdefault(" ".join(command), {})[count] = peak
        finally:
            shutil.rmtree(work)
    page = _page(peaks, arguments.counts)
    facts = {
        "machine": {"processor": platform.machine(), "cores": psutil.cpu_count(), "python": platform.python_version()},
        "peaks": {stage: {str(n): asdict(peak) for n, peak in of_stage.items()} for stage, of_stage in peaks.items()},
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "results.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    (arguments.out / "results.md").write_text(page, encoding="utf-8")
    print(page)


def _arguments() -> argparse.Namespace:
    parser = parser_of(main)
    parser.add_argument("--images", type=Path, required=True, help="the folder of the data")
    parser.add_argument("--stages", nargs="+", choices=list(COMMANDS), default=list(COMMANDS))
    parser.add_argument("--counts", type=int, nargs=2, default=[6_000, 60_000], help="of images")
    parser.add_argument("--work", type=Path, help="where to make the folders (default: the system's temporary folder)")
    parser.add_argument("--out", type=Path, default=HERE, help="where the results go")
    return parser.parse_args()


def _prepared(stage: str, work: Path, data: Path, count: int) -> Path:
    """The folder in which a stage finds what it reads."""
    folder = work / ("audit" if stage == "evaluate" else "subjects")
    if not folder.exists():
        write_audit(folder, count, BAGS, scores=3) if stage == "evaluate" else write_subjects(folder, data, count)
    return folder


def _page(peaks: dict[str, dict[int, Peak]], counts: list[int]) -> str:
    """The peaks as Markdown."""
    small, large = (f"{count:,}" for count in counts)
    lines = [
        f"| {stage} | {few.largest:.0f} | {many.largest:.0f} | **{many.largest / few.largest:.2f}** "
        f"| {few.tree:.0f} | {many.tree:.0f} | {many.tree / few.tree:.2f} | {few.seconds:.0f} | {many.seconds:.0f} |\n"
        for stage, of_stage in peaks.items()
        for few, many in [[of_stage[count] for count in counts]]
    ]
    columns = [
        f"largest process, {small} images: MiB",
        f"{large}",
        "ratio",
        f"all processes, {small}: MiB",
        f"{large}",
        "ratio",
        f"seconds, {small}",
        f"{large}",
    ]
    return f"""\
# Peak memory

Each stage as a program. Largest process: the highest resident size that the kernel saw; all processes: the largest sum
of proportional sizes, sampled 20 times a second. Both count what was read of the files that `fit` maps (features and
pixels, 2 and 3 kB an image), which the system takes back where memory is short.

| stage | {" | ".join(columns)} |
{"|---" * (len(columns) + 1)}|
{"".join(lines)}"""


if __name__ == "__main__":
    main()
