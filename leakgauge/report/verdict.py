"""The answer: what a target leaks, in one word, one sentence and ten lines.

The page begins with it, `metrics/summary.json` holds it, and the command line prints it.  The judge was chosen by
`evaluate`, before any member or holdout image was looked at.

The states, of which the first that applies is the target's:

- `no_verdict`: a check fails, so that the figures may show something other than leakage;
- `members_unknown`: no member is known, so that only suspects can be asked about;
- `leaks`: the lower end of the interval of the TPR lies above the FPR, or that of the AUC above 0.5, so that by chance
  at most about one target in twenty that leaks nothing is called so (each end of a 95 % interval errs in 2.5 %);
- `none_found`: neither does.  These attacks found nothing; a stronger one may.
"""

from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import Any

Verdict = dict[str, Any]  # plain data, as in metrics/summary.json

TITLES = {
    "leaks": "The model reveals which images it was trained on",
    "none_found": "No leakage was found",
    "no_verdict": "No verdict: a check fails",
    "members_unknown": "No training image is known",
}
SET_TITLES = {
    "used": "Some of these images were used for training",
    "no_evidence": "Nothing shows that these images were used",
    "no_verdict": "No verdict: a check fails",
}
CEILING_TITLES = {"passes": "passes", "fails": "fails", "cannot_be_told": "cannot be told"}
IDENTIFIES = (
    "To identify an image is to tell that the model was trained on it. Whether the model can reproduce its images is "
    "another question."
)
FEWEST_FALSE_POSITIVES = 5  # as in leakgauge.inference.roc, which a pull request's gate cannot import
ENDS = ("", "_ci_low", "_ci_high")
WIDTH = 110  # columns of a line on the terminal, and where the text behind a row's name begins
COLUMN = 14


def verdict_of(
    headline: Mapping[str, Any],
    images: Mapping[str, int],
    failing: Sequence[str],
    checks: int,
    exposed: Sequence[Mapping[str, Any]],
    confidence: float,
) -> Verdict:
    """The answer for one target, without its sets of suspects.

    headline : figures of the judge at one FPR, as `evaluate` left them (`headline` in its details).  images : role ->
    how many.  failing : names of the checks that fail, of `checks`.  exposed : image_id and p_value of the most exposed
    members.  confidence : of the intervals.
    """
    verdict: Verdict = {"state": "", "sentence": "", **headline, "confidence": confidence}
    verdict |= {"images": dict(images), "checks": checks, "failed": len(failing), "failing": list(failing)}
    verdict |= {"exposed": [dict(one) for one in exposed], "suspects": {}}
    verdict["state"] = _state(verdict)
    verdict["sentence"] = _sentence(verdict)
    return verdict


def set_verdict(figures: Mapping[str, Any], failing: Sequence[str], confidence: float, discoveries: float) -> Verdict:
    """The answer for one set of suspects.

    figures : of `suspects`, as in metrics/details/suspects/<set>.json.  discoveries : the false discovery rate at which
    images are named.
    """
    names = ("suspects", "distinct", "p_value", "fraction", "fraction_ci_low", "fraction_ci_high", "named")
    verdict: Verdict = {"state": "", "sentence": "", **{name: figures[name] for name in names}}
    verdict |= {"false_discovery_rate": discoveries, "failed": len(failing), "failing": list(failing)}
    verdict |= {"units": figures["units"]} if "units" in figures else {}
    used = figures["p_value"] is not None and figures["p_value"] <= 1 - confidence
    verdict["state"] = "no_verdict" if failing else "used" if used else "no_evidence"
    verdict["sentence"] = _set_sentence(verdict)
    return verdict


def lines(name: str, verdict: Mapping[str, Any]) -> list[str]:
    """What the command line prints of a target: about ten lines of plain text."""
    found = [f"{name}: {TITLES[verdict['state']].upper()}", *wrap(verdict["sentence"], WIDTH)]
    found += wrap(gain_sentence(verdict), WIDTH)
    judge = f"{verdict['judge']}: of the learners, the best on auxiliary images out of bag"
    rows = [("ceiling", one) for one in ceiling_sentences(verdict)]
    rows += [("judge", judge), ("AUC", _between(verdict, "auc", "{:.3f}")), ("false alarms", false_alarms(verdict))]
    rows += [("half known", supervised_sentence(verdict)), ("worst case", worst_sentence(verdict))]
    rows += [("checks", checks_sentence(verdict)), ("epsilon", _epsilon(verdict))]
    if verdict["exposed"]:
        most = verdict["exposed"]
        rows.append(("exposed", f"{', '.join(one['image_id'] for one in most)} (p <= {most[-1]['p_value']:.2g})"))
    for what, text in rows:
        found += wrap(text, WIDTH, initial_indent=f"{what:<{COLUMN}}", subsequent_indent=" " * COLUMN) if text else []
    for asked, answer in verdict["suspects"].items():
        found += [f"{asked}: {SET_TITLES[answer['state']].upper()}", *wrap(answer["sentence"], WIDTH)]
    return found


def ceiling_sentences(verdict: Mapping[str, Any]) -> list[str]:
    """What came of each ceiling of the target's entry, `fails: ...`; empty where it has none."""
    return [f"{CEILING_TITLES[one['state']]}: {one['sentence']}" for one in verdict.get("ceilings", [])]


def gain_sentence(verdict: Mapping[str, Any]) -> str:
    """What thresholds for each image gain over one for all; empty where that is not measured."""
    baseline, gain = (verdict.get(key) for key in ("baseline_tpr", "gain"))
    if baseline is None:
        return ""
    alone = f"One threshold for all images: {percent(baseline)} %"
    if gain is None:
        return f"{alone}."
    low, high = verdict["gain_ci_low"], verdict["gain_ci_high"]
    if low <= -1 and high >= 1:  # fewer than five false positives expected: a bootstrap cannot vouch for it
        return f"{alone}; {verdict['images']['holdout']} holdout images are too few to tell a difference."
    points = f"{100 * gain:+.1f} points, {100 * low:+.1f} to {100 * high:+.1f}"
    area = "AUC {auc_gain:+.3f}, {auc_gain_ci_low:+.3f} to {auc_gain_ci_high:+.3f}".format(**verdict)
    over_all = _compared(verdict["auc_gain_ci_low"], verdict["auc_gain_ci_high"])
    return (
        f"{alone}. Thresholds for each image: at {percent(verdict['fpr'])} % false alarms {_compared(low, high)} "
        f"({points}); over all rates of false alarms {over_all} ({area})."
    )


def _compared(low: float, high: float) -> str:
    """What a paired interval says of a difference."""
    return "more" if low > 0 else "fewer" if high < 0 else "no clear difference"


def supervised_sentence(verdict: Mapping[str, Any]) -> str:
    """What an attacker finds that knows half of the members; empty where that is not measured, or a check fails."""
    knowing = verdict.get("supervised")
    if verdict["failed"] or not knowing or knowing["tpr"] is None:
        return ""
    gain = "{:+.1f} points, {:+.1f} to {:+.1f}".format(*(100 * knowing[f"gain{end}"] for end in ENDS))
    if knowing["gain_ci_low"] <= -1 and knowing["gain_ci_high"] >= 1:
        gain = "too few holdout images to tell a difference"
    return (
        f"An attacker that already knows half of the training images identifies {_tpr({**verdict, **knowing})} of the "
        f"others ({gain}); AUC {knowing['auc']:.3f} "
        "({auc_gain:+.3f}, {auc_gain_ci_low:+.3f} to {auc_gain_ci_high:+.3f}).".format(**knowing)
    )


def worst_sentence(verdict: Mapping[str, Any]) -> str:
    """The largest TPR over all judges; empty where there is none, or a check fails."""
    worst = verdict.get("worst_case")
    if verdict["failed"] or not worst:
        return ""
    return (
        f"Of {worst['judges']} judges the strongest, {worst['judge']}, identifies {_tpr({**verdict, **worst})}; this "
        "interval allows for the choice."
    )


def epsilon_sentence(verdict: Mapping[str, Any]) -> str:
    """What the guesses of drawn pairs show of differential privacy; empty where members were not drawn at random."""
    bound = verdict.get("epsilon_bound")
    if not bound or not bound["pairs"]:
        return ""
    if verdict["failed"]:
        return "No bound while a check fails."
    told = (
        f"of {bound['pairs']} pairs of a member and a holdout image, {bound['correct']} of the {bound['guesses']} "
        "surest guesses, which of the two was trained on, are right"
    )
    if not bound["epsilon"]:
        return f"No bound: {told}, as chance allows."
    gaussian = ""
    if bound.get("mu"):
        gaussian = (
            f" If its trade-off curve is a Gaussian mechanism's (mu-GDP), mu is at least {bound['mu']:.2f}: an epsilon "
            f"of {bound['epsilon_of_mu']:.2f} at delta = {bound['delta']:g}."
        )
    return (
        f"With {percent(verdict['confidence'])} % confidence, this training is not (epsilon, 0)-differentially private "
        f"with an epsilon below {bound['epsilon']:.2f}: {told}. So many pairs show at most {bound['most']:.2f}."
        f"{gaussian}"
    )


def _epsilon(verdict: Mapping[str, Any]) -> str:
    """The bound alone; empty where there is none."""
    bound = verdict.get("epsilon_bound")
    if verdict["failed"] or not bound or not bound["epsilon"]:
        return ""
    return f"at least {bound['epsilon']:.2f}, of {bound['pairs']} pairs (they can show {bound['most']:.2f} at most)"


def false_alarms(verdict: Mapping[str, Any]) -> str:
    """What the judge realises on the holdout of the FPR asked for, beside what chance allows."""
    if verdict["realised_fpr"] is None:
        return f"{verdict['images']['auxiliary']} auxiliary images support none of {percent(verdict['fpr'])} %"
    low, high = verdict["realised_fpr_expected_low"], verdict["realised_fpr_expected_high"]
    return (
        f"{percent(verdict['fpr'])} % asked for, {percent(verdict['realised_fpr'])} % found on "
        f"{verdict['images']['holdout']} holdout images (chance allows {percent(low)} to {percent(high)} %)"
    )


def checks_sentence(verdict: Mapping[str, Any]) -> str:
    """How many checks fail, and which."""
    failures = "failure" if verdict["failed"] == 1 else "failures"
    counted = f"{verdict['checks']} checks, {verdict['failed'] or 'no'} {failures}"
    return f"{counted}: {', '.join(verdict['failing'])}" if verdict["failed"] else counted


def percent(rate: float) -> str:
    """0.01234 -> '1.2', 0.1 -> '10', in percent; rates below 1 % keep two digits."""
    value = round(100 * rate, 1 if rate >= 0.01 else 9)
    return f"{value:g}" if value >= 1 else f"{value:.2g}"


def p_text(value: float) -> str:
    """0.01234 -> 'p = 0.012'; below a billionth only that."""
    return f"p = {value:.2g}" if value >= 1e-9 else "p < 1e-9"


def lower_bound_alone(fpr: float, holdout: int) -> bool:
    """Whether the interval of a TPR at this FPR has no upper end: too few false positives are expected."""
    return fpr * holdout < FEWEST_FALSE_POSITIVES - 1e-9


def failing_of(found: Mapping[str, Any]) -> list[str]:
    """Names of the checks that fail among what checks found, whatever they are."""
    return [name for name, one in found.items() if isinstance(one, Mapping) and one.get("fails") is True]


def _state(verdict: Verdict) -> str:
    if verdict["failed"]:
        return "no_verdict"
    if not verdict["images"]["member"]:
        return "members_unknown"
    tpr_low, auc_low = verdict["tpr_ci_low"], verdict["auc_ci_low"]
    leaks = auc_low > 0.5 or (tpr_low is not None and tpr_low > verdict["fpr"])
    return "leaks" if leaks else "none_found"


def _sentence(verdict: Verdict) -> str:
    if verdict["state"] == "no_verdict":
        return f"{checks_sentence(verdict)}. The figures may show something other than leakage."
    if verdict["state"] == "members_unknown":
        return "Leakage cannot be measured where no training image is known; sets of suspects can be asked about."
    fpr = percent(verdict["fpr"])
    if verdict["tpr"] is None:
        return (
            f"{verdict['images']['holdout']} holdout images cannot resolve {fpr} % false alarms. An attacker ranks a "
            f"training image above another image with probability {_between(verdict, 'auc', '{:.2f}')}."
        )
    return f"At {fpr} % false alarms an attacker identifies {_tpr(verdict)} of the training images."


def _tpr(verdict: Verdict) -> str:
    """`47 % (95 % interval: 38 to 56)`; with fewer than five expected false positives there is a lower bound alone."""
    low, high = verdict["tpr_ci_low"], verdict["tpr_ci_high"]
    if lower_bound_alone(verdict["fpr"], verdict["images"]["holdout"]):
        return f"{percent(verdict['tpr'])} % (at least {percent(low)})"
    confidence = percent(verdict["confidence"])
    return f"{percent(verdict['tpr'])} % ({confidence} % interval: {percent(low)} to {percent(high)})"


def _between(figures: Mapping[str, Any], key: str, form: str) -> str:
    """A figure and its interval; empty where there is none."""
    if figures[key] is None:
        return ""
    value, low, high = (form.format(figures[f"{key}{end}"]) for end in ("", "_ci_low", "_ci_high"))
    return f"{value} ({low} to {high})"


def _set_sentence(verdict: Verdict) -> str:
    if verdict["state"] == "no_verdict":
        return (
            f"Checks that fail: {', '.join(verdict['failing'])}. No p-value is given: it may show another difference."
        )
    count, found = f"{verdict['suspects']} images", p_text(verdict["p_value"])
    count += f" of {verdict['units']} units" if "units" in verdict else ""
    if verdict["state"] == "no_evidence":
        return f"{count} look no more like training images than others do ({found}); attacks miss members."
    low, high, fraction = (verdict[f"fraction{end}"] for end in ("_ci_low", "_ci_high", ""))
    if fraction is not None:
        share = f"About {percent(fraction)} % ({percent(low)} to {percent(high)}) of {count} were used"
    elif low > 0:
        share = f"At least {percent(low)} % of {count} were used"
    else:
        share = f"How many of {count} were used cannot be told"
    return (
        f"{share} ({found} if none was). {verdict['named']} are named; of those named at most "
        f"{percent(verdict['false_discovery_rate'])} % were not used, on average."
    )
