"""which members are exposed: a table of all, and by class, complexity and unit

    leakgauge exposed mine
    leakgauge exposed mine --out exposed.csv        every member, the most exposed first

An image is found by a judge where its p-value is at most `evaluate.curve_fpr`.  The table has the judges that find each
member, and the share of images not trained on that as many find.  Leave the most exposed out of training, train again,
and `leakgauge report` says what that changed.

Computes nothing: `leakgauge report` does.  What does not belong to the last report is refused.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from leakgauge.commands.pipeline import asked_targets, need_project, need_report
from leakgauge.errors import InputError
from leakgauge.files import write_bytes
from leakgauge.report.verdict import percent

if TYPE_CHECKING:  # takes a second, and every command's help imports this module
    import pandas as pd

SHOWN = 10  # members, and groups of a kind, on the terminal


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add those of this command."""
    parser.add_argument("target", metavar="NAME", help="of params.yaml's `targets`")
    parser.add_argument("--out", type=Path, metavar="FILE.csv", help="write the table of all members")


def run(target: str, out: Path | None = None) -> int:
    """Returns the exit status.  Raises InputError where the report is not up to date, or a file would be lost."""
    need_project()
    asked_targets([target])
    if out and out.exists():
        raise InputError(f"{out}: is there already: remove it, or name another file")
    need_report()
    table, alpha, confidence = exposed(target)
    if not len(table):
        raise InputError(f"{target}: no member is known, so none can be told to be exposed")
    if out:
        write_bytes(out, table.to_csv(index=False, float_format="%.6g").encode())
    print("\n".join(_lines(target, table, alpha, confidence)))
    if out:
        print(f"\n{out} has all {len(table)} members.")
    return 0


def exposed(target: str) -> "tuple[pd.DataFrame, float, float]":
    """`exposure` with each member's unit, class and decile of complexity; the rate that it is at, and the intervals'
    confidence."""
    from leakgauge.inference.exposure import exposure
    from leakgauge.inference.metrics import deciles
    from leakgauge.tables import read_metadata, read_table, unit_names

    verdicts, role = Path(f"data/verdicts/{target}.parquet"), Path(f"data/roles/{target}/member.parquet")
    facts = read_metadata(verdicts)
    headline, options = facts["headline"], facts["options"]
    table = exposure(read_table(verdicts).to_pandas(), headline["judge"], headline["fpr"])
    features = Path(f"data/features/{target}/member.parquet")
    known = read_table(features, ["image_id", "label", options["complexity"]]).to_pandas().set_index("image_id")
    units = unit_names(role)
    named = any(image != unit for image, unit in units.items())
    table = table.assign(
        **({"unit": table["image_id"].map(units)} if named else {}),
        label=table["image_id"].map(known["label"]),
        complexity_decile=deciles(table["image_id"].map(known[options["complexity"]]).to_numpy()),
    )
    return table, headline["fpr"], options["confidence"]


def groups(table: "pd.DataFrame", by: str, alpha: float, confidence: float) -> "pd.DataFrame":
    """What share of each group's members the headline judge finds, from the largest.

    by : a column of `exposed`.  Columns: group, images, found, share, ci_low, ci_high (exact, one group at a time).
    """
    import pandas as pd

    from leakgauge.inference.roc import exact_rate

    rows = []
    for group, of_group in table.groupby(by):
        rate = exact_rate(int((of_group["p_value"] <= alpha).sum()), len(of_group), confidence)
        rows.append((group, rate.total, rate.count, rate.value, rate.low, rate.high))
    columns = ["group", "images", "found", "share", "ci_low", "ci_high"]
    return pd.DataFrame(rows, columns=columns).sort_values(["share", "images"], ascending=False, kind="stable")


def _lines(target: str, table: "pd.DataFrame", alpha: float, confidence: float) -> list[str]:
    judges = int(table["judges"].iloc[0])
    by_all, by_none = (int((table["found_by"] == count).sum()) for count in (judges, 0))
    lines = [
        f"{target}: at {percent(alpha)} % false alarms, {by_all} of {len(table)} members are found by all {judges} "
        f"judges, {by_none} by none.",
        "",
        f"{'member':<32} {'p-value':>8} {'found by':>9}  as many find this share of images not trained on",
    ]
    for row in table.head(SHOWN).itertuples():
        lines.append(f"{row.image_id:<32} {row.p_value:>8.2g} {row.found_by:>9}  {percent(row.like_it)} %")
    kinds = {"class": "label", "decile of complexity (1: lowest)": "complexity_decile", "unit": "unit"}
    for kind, column in kinds.items():
        if column in table and table[column].notna().any():
            lines += ["", f"found, by {kind}"]
            for row in groups(table, column, alpha, confidence).head(SHOWN).itertuples():
                ends = f"{percent(row.ci_low)} to {percent(row.ci_high)}"
                lines.append(f"{row.group!s:<32} {percent(row.share):>5} % ({ends}) of {row.images}")
    return lines
