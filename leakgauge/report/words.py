"""What the page says of each check, and the words it explains."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from leakgauge.report.verdict import percent

GLOSSARY = {
    "member": "An image that the target was trained on.",
    "auxiliary": "An image from the members' source that the target was certainly not trained on. Auxiliary images "
    "fit and calibrate the thresholds.",
    "holdout": "Another such image. Holdout images only measure error rates: nothing is fitted, chosen or calibrated "
    "on them.",
    "suspect": "An image in question: whether the target was trained on it is not known.",
    "false alarm": "A non-member that an attack calls a member. The false-positive rate (FPR) is the share of "
    "non-members that this happens to.",
    "TPR": "True-positive rate: the share of members that an attack calls members. At an FPR of 1 %: by the "
    "threshold that calls at most 1 % of the holdout images members.",
    "epsilon": "Of (epsilon, 0)-differential privacy: whatever is concluded from the model is at most e^epsilon times "
    "as probable with an image in training as with another in its place.",
    "AUC": "Area under the ROC curve: the probability that a member looks more like a member than a non-member does. "
    "0.5 is chance.",
    "t-error": "How badly one deterministic denoising step of the target undoes one noising step of an image, at "
    "timestep t. It is low for images that the target was trained on, and for simple images.",
    "threshold for each image": "How low the score of this image would be were it no member, learnt from auxiliary "
    "images by quantile regression. One threshold for all images calls simple images members.",
    "bag": "Several small models, each fitted on its own bootstrap resample of the auxiliary images. Their median "
    "decides.",
    "out of bag": "An auxiliary image is judged only by the models that were not fitted on it.",
    "p-value": "The share of auxiliary images, judged out of bag, that look at least as much like members. A "
    "non-member has a p-value of at most 1 % with probability 1 %.",
    "interval": "A range that contains the true value in 95 % of audits (or as `evaluate.confidence` says).",
    "near-duplicate": "An image whose pixels are closer to another's than is typical between images of the dataset.",
    "null check": "The same attack on networks of the target's architecture that were not trained, and on the base "
    "where there is one: it must find nothing.",
    "base": "The model that the target was fine-tuned from, or a reference of the target's recipe that was trained on "
    "other images. An image's scores under it foretell those under the target.",
    "named": "Called a training image by Benjamini and Hochberg's rule, which bounds the share of wrong ones among "
    "them (the false discovery rate).",
    "headline judge": "The attack behind the verdict: the learner, other than one threshold for all, with the lowest "
    "loss on auxiliary images out of bag; by all its scores where it learnt several. Members and holdout images have "
    "no influence on that choice.",
    "raw": "The bag's own quantiles decide, as in the paper, without calibration.",
}

TOO_FEW, ELSEWHERE = "too few images", "the scores come from elsewhere"
OTHERS = {  # role -> what it is compared with
    "member": "auxiliary and holdout images",
    "suspect": "auxiliary and holdout images",
    "auxiliary": "holdout images",
}
PLURAL = {"member": "members", "suspect": "suspects", "auxiliary": "auxiliary images", "holdout": "holdout images"}
REFERENCE = "images of the reference"
FAMILIES = {  # beginning of a check's name -> what it looks at, and what a failure means
    "blind": (
        "Image features",
        "tell {role} from {others} without the target. The sets differ: what is found may be that difference, not "
        "leakage.",
    ),
    "label_role": (
        "Classes",
        "of {role} are not distributed like those of {others}. What is found may be the class, not leakage.",
    ),
    "caption_role": (
        "Captions",
        "of {role} tell them from {others} by words and lengths. What is found may be the caption, not leakage.",
    ),
    "null_check": (
        "Null check",
        "tells {role} from {others}: something other than training gives the role away.",
    ),
}


@dataclass(frozen=True)
class CheckRow:
    """One check, as the page shows it."""

    name: str
    what: str  # what it compares
    found: str  # its figures
    fails: bool
    meaning: str  # of a failure

    @property
    def possible(self) -> bool:
        """Whether there were images, and a target, to make it with."""
        return self.found not in (TOO_FEW, ELSEWHERE)


def check_rows(found: Mapping[str, Any], null: bool = True) -> list[CheckRow]:
    """Every check among what was found, those that fail first; one without words of its own by its name.

    null : whether to say that the null check is not possible, where it is not there.
    """
    rows = [_row(name, one) for name, one in found.items() if isinstance(one, Mapping) and "fails" in one]
    if null and not any(row.name.startswith("null_check") for row in rows):
        rows.append(CheckRow("null_check", "Null check", ELSEWHERE, False, ""))
    return sorted(rows, key=lambda row: not row.fails)


def _row(name: str, found: Mapping[str, Any]) -> CheckRow:
    what, meaning = _words(name, found)
    return CheckRow(name, what, _figures(name, found), bool(found["fails"]), meaning)


def _words(name: str, found: Mapping[str, Any]) -> tuple[str, str]:
    for family, (looks_at, meaning) in FAMILIES.items():
        role = name.removeprefix(f"{family}_")
        if role in OTHERS and role != name:
            roles = {"role": PLURAL[role], "others": OTHERS[role]}
            return f"{looks_at}: {PLURAL[role]} against {OTHERS[role]}", f"{looks_at} {meaning.format(**roles)}"
    role, _, among = name.partition("_near_")
    if among == "reference" and role in PLURAL:
        return (
            f"Near-duplicates of {PLURAL[role]} among {REFERENCE}",
            f"{PLURAL[role].capitalize()} have a near-duplicate among the {REFERENCE} more often, or less often, than "
            f"{OTHERS[role]}: scores under the reference then tell the role. Name the dataset's unit, or take the "
            f"{REFERENCE} that the table of near-duplicates lists out of it.",
        )
    if among in PLURAL and role in PLURAL:
        return (
            f"Near-duplicates of {PLURAL[role]} among {PLURAL[among]}",
            f"More {PLURAL[role]} than non-members have a near-duplicate among the {PLURAL[among]}, which are then as "
            f"good as {PLURAL[role]}: leave out those that the table of near-duplicates lists.",
        )
    if name == "wrong_way_round":
        return "Direction of the scores", f"The wrong way round: {'; '.join(found.get('sentences', []))}."
    return name.replace("_", " "), "It fails: the figures may show something other than leakage."


def _figures(name: str, found: Mapping[str, Any]) -> str:
    parts = []
    if "auc" in found:
        if found["auc"] is None:
            return TOO_FEW
        parts.append("AUC {auc:.3f} ({auc_ci_low:.3f} to {auc_ci_high:.3f})".format(**found))
    role, _, among = name.partition("_near_")
    if among and role in found:
        roles = [role, *(other for other in PLURAL if other in found and other != role)]
        parts.append(", ".join(f"{percent(found[one])} % of {PLURAL[one]}" for one in roles))
    if found.get("of_first") is not None:
        label = "without a label" if found.get("label") is None else f"of label {found['label']}"
        parts.append(f"{found['of_first']} of {found['images']} images {label}, {found['expected']:.3g} expected")
    if found.get("p_value") is not None:
        parts.append(f"p = {found['p_value']:.2g}")
    return "; ".join(parts)
