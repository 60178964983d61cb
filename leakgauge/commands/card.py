"""a section on leakage for a model card, and the evidence behind it

    leakgauge card mine >> README.md            Markdown, for a model's page on the Hub
    leakgauge card mine --json > evidence.json  figures, intervals, checks, hashes, versions; no images, no names of any

Computes nothing: `leakgauge report` does.  What does not belong to the last report is refused.
"""

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from leakgauge.commands import gate
from leakgauge.commands.pipeline import SUMMARY, asked_targets, need_project, need_report
from leakgauge.config import PARAMS
from leakgauge.errors import InputError
from leakgauge.files import file_hash
from leakgauge.report.verdict import (
    TITLES,
    ceiling_sentences,
    checks_sentence,
    epsilon_sentence,
    false_alarms,
    lower_bound_alone,
    percent,
    supervised_sentence,
    worst_sentence,
)
from leakgauge.report.words import check_rows

LOCK = Path("dvc.lock")
NAMELESS = ("exposed", "suspects")  # of a verdict: what names images or sets of them is left out
WHAT = (
    "Membership inference: can it be told from the model whether an image was used to train it? Measured by "
    "leakgauge (quantile regression, [Tang et al., ICML 2024](https://arxiv.org/abs/2312.05140)) on training images "
    "and on images from the same source that were not used."
)
BOUND = (
    "These are the attacks that were tried, by an attacker who knows no training image; a stronger one may find more."
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add those of this command."""
    parser.add_argument("targets", metavar="NAME", nargs="*", help="of params.yaml's `targets` (default: all)")
    parser.add_argument(
        "--json", action="store_true", dest="as_json", help="the evidence as JSON, an entry a target, not the section"
    )


def run(targets: list[str], as_json: bool = False) -> int:
    """Returns the exit status.  Raises InputError where the report is not up to date."""
    need_project()
    targets = asked_targets(targets)
    need_report()
    print(evidence(targets) if as_json else "\n\n".join(card(target) for target in targets))
    return 0


def card(target: str) -> str:
    """Markdown: the answer, its figures, and what they rest on."""
    verdict, images = _verdict(target), _verdict(target)["images"]
    judge = gate.details(target)["judges"].get(verdict["judge"], {})
    lines = [
        f"## Leakage of training images: {target}",
        "",
        f"**{TITLES[verdict['state']]}.** {verdict['sentence']}",
        "",
    ]
    lines += [WHAT, "", "| figure | value |", "|---|---|"]
    if verdict["state"] in ("leaks", "none_found"):
        lines += [f"| share identified at {name} % false alarms | {value} |" for name, value in _rates(judge)]
        area = "{auc:.3f} ({auc_ci_low:.3f} to {auc_ci_high:.3f})".format(**verdict)
        lines += [f"| AUC (0.5 is chance) | {area} |", f"| false alarms | {false_alarms(verdict)} |"]
    lines += [f"| ceiling | {sentence} |" for sentence in ceiling_sentences(verdict)]
    counts = ", ".join(f"{count} {role}" for role, count in images.items())
    lines += [f"| images | {counts} |", f"| checks | {checks_sentence(verdict)} |"]
    lines += [f"| attack | `{verdict['judge']}`, leakgauge {version('leakgauge')} |", ""]
    known = verdict["state"] in ("leaks", "none_found")
    worse = (supervised_sentence(verdict), worst_sentence(verdict)) if known else ()
    for sentence in (*worse, epsilon_sentence(verdict)):
        lines += [sentence, ""] if sentence else []
    return "\n".join([*lines, f"In brackets: {percent(verdict['confidence'])} % intervals. {BOUND}"])


def _rates(judge: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(FPR in percent, TPR with its interval) of every rate that the holdout resolves."""
    rates = []
    for name in judge:
        level = name.removeprefix("tpr_at_fpr_")
        if level == name or name.endswith(("_ci_low", "_ci_high", "_count")) or judge[name] is None:
            continue
        value, low, high = (percent(judge[f"{name}{end}"]) for end in ("", "_ci_low", "_ci_high"))
        alone = lower_bound_alone(float(level), judge["holdout"])
        rates.append((percent(float(level)), f"{value} % " + (f"(at least {low})" if alone else f"({low} to {high})")))
    return rates


def evidence(targets: list[str]) -> str:
    """JSON: target -> verdict, figures of every judge, checks; and what all of it was made of."""
    found = {target: _evidence(target) for target in targets}
    made = {"leakgauge": version("leakgauge"), "params_sha256": file_hash(PARAMS), "dvc_lock_sha256": file_hash(LOCK)}
    return json.dumps({"made_with": made, "targets": found}, indent=2)


def _evidence(target: str) -> dict[str, Any]:
    details, checks = gate.details(target), _read(Path(f"metrics/checks/{target}.json"))
    null = {f"null_check_{role}": one for role, one in details["null_check"].items()}
    rows = [asdict(row) for row in check_rows({**checks, **null})]
    return {
        "verdict": {key: value for key, value in _verdict(target).items() if key not in NAMELESS},
        "judges": details["judges"],
        "supervised": details["supervised"],
        "worst_case": details["worst_case"],
        "checks": rows,
        "moved_by_precision": details["moved_by_precision"],
        "md5": _hashes(target),
    }


def _hashes(target: str) -> dict[str, str]:
    """DVC's hashes of the model and of every role's images and scores, by path, as dvc.lock has them."""
    from ruamel.yaml import YAML

    stages = YAML(typ="safe", pure=True).load(LOCK.read_text(encoding="utf-8"))["stages"]
    wanted = ("data/roles/", "data/scores/", "models/target/", "models/base/")
    of_target = (one for name, one in stages.items() if name.partition("@")[2].startswith(target))
    outs = [out for stage in of_target for out in stage.get("outs", [])]
    ours = {f"{start}{target}" for start in wanted}
    return {
        out["path"]: out["md5"]
        for out in outs
        if any(out["path"] == one or out["path"].startswith((f"{one}/", f"{one}.")) for one in ours)
    }


def _verdict(target: str) -> dict[str, Any]:
    return _read(SUMMARY)[target]


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: not found: run `leakgauge report`") from None
