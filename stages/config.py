"""config: validate all that params.yaml says of a target, and write what each stage reads of it.

It takes a second: a misspelt key, a name that is not there, a timestep off the grid or an alpha
that the auxiliary images cannot support ends the run before anything costly begins.  One file a section, so that a
change makes those stages stale that read it, and no others.

params.yaml -> data/config/<target>/{source,split,check,target,score,fit,evaluate,levels}.json, learners/<learner>.json
"""

from pathlib import Path

from leakgauge.attacks.columns import choose, problem, score_columns, with_base
from leakgauge.cli import run
from leakgauge.config import (
    CONFIG,
    PARAMS,
    asked,
    check_ceilings,
    check_levels,
    chosen_score,
    entry,
    key_name,
    kind_of,
    names,
    no_model,
    suspects_entry,
    target_entry,
)
from leakgauge.errors import InputError
from leakgauge.files import write_json
from leakgauge.options import (
    SECTIONS,
    Evaluate,
    Fit,
    Learner,
    LearnerOptions,
    Levels,
    Report,
    Score,
    Source,
    Split,
    Target,
    TargetOptions,
)

NOT_SCORES = {"backend"}  # of section `score`: where scores are computed is no part of what they are


def config(target: str) -> None:
    """Write data/config/<target>/.  Raises InputError naming the key that is wrong."""
    own, folder = target_entry(target), CONFIG / target
    kind = own.source or kind_of(Path(own.model))
    if kind is None:
        raise InputError(f"{PARAMS}: targets.{target}.model: {own.model}: {no_model(Path(own.model))}")
    source = Source(images=own.images, model=own.model, source=kind)
    sections = {name: asked(name, model, target) for name, model in SECTIONS.items() if name != "report"}
    learners = {name: entry("learners", name, Learner).root for name in names("learners")}
    if not learners:
        raise InputError(f"{PARAMS}: learners: there is none, and an audit needs one at least")
    asked("report", Report)
    _check_names(target, own)
    evaluate, fit = asked("evaluate", Evaluate, target), asked("fit", Fit, target)
    if source.source != "scores":
        beside = asked("target", TargetOptions, target).base or asked("split", Split, target).reference
        learnt = _check_scores(target, asked("score", Score, target), fit, bool(beside))
        chosen_score(target, learnt, evaluate)
    _check_stack(target, evaluate, learners)
    check_ceilings(target, own.ceilings, f"{PARAMS}: targets.{target}.fail_above")
    levels = Levels(alphas=evaluate.alphas, curve_fpr=evaluate.curve_fpr, calibration=fit.calibration)
    split = asked("split", Split, target)
    _check_members(target, own, source, split)
    _check_base(target, source, split, asked("target", TargetOptions, target))
    if isinstance(split.auxiliary, int):
        check_levels(target, levels, split.auxiliary)
    for name, options in {**sections, "source": source, "levels": levels}.items():
        write_json(folder / f"{name}.json", options.model_dump(exclude=NOT_SCORES if name == "score" else None))
    for name, options in learners.items():
        write_json(folder / "learners" / f"{name}.json", options.model_dump())
    print(f"{target}: {len(sections)} sections and {len(learners)} learners are valid")


def _check_names(target: str, own: Target) -> None:
    """Raises InputError for an entry that names one which is not there."""
    if own.images not in names("datasets"):
        raise InputError(_unknown(f"targets.{target}.images", "dataset", own.images, "datasets"))
    for name in names("suspects"):
        of = suspects_entry(name)
        for key, registry in (("target", "targets"), ("images", "datasets")):
            if getattr(of, key) not in names(registry):
                raise InputError(_unknown(f"suspects.{name}.{key}", registry[:-1], getattr(of, key), registry))
        if of.images == target_entry(of.target).images:
            raise InputError(
                f"{PARAMS}: suspects.{name}.images: {of.images} is the dataset of target {of.target}: images in "
                "question are a dataset of their own"
            )


def _check_members(target: str, own: Target, source: Source, split: Split) -> None:
    """Raises InputError for an entry that gives its members in two ways, of which one would be ignored."""
    if own.members is None and "member" not in own.split:
        return
    key = f"{PARAMS}: {key_name('split', 'member', target)}"
    if split.index:
        raise InputError(f"{key}: {key_name('split', 'index', target)} gives the members too: remove one of the two")
    if source.source == "scores":
        raise InputError(f"{key}: {source.model} gives the members too: remove this key")


def _check_base(target: str, source: Source, split: Split, options: TargetOptions) -> None:
    """Raises InputError for a base beside a reference, or either where only scores are known."""
    keys = [key_name("target", "base", target)] * (options.base is not None)
    keys += [key_name("split", "reference", target)] * (split.reference > 0)
    if len(keys) > 1:
        raise InputError(f"{PARAMS}: {keys[0]}: {keys[1]} asks for a reference too: remove one of the two")
    if source.source == "adapter" and options.base is None:
        raise InputError(
            f"{PARAMS}: {key_name('target', 'base', target)}: null, but {source.model} is an adapter: name the model "
            "that it was trained for, {path: folder, sha256: its hash} or {repo: owner/name, revision: a commit's hash}"
        )
    if keys and source.source == "scores":
        raise InputError(f"{PARAMS}: {keys[0]}: nothing can be scored beside {source.model}: remove this key")


def _unknown(key: str, kind: str, name: str, registry: str) -> str:
    return f"{PARAMS}: {key}: no {kind} '{name}'; there are {', '.join(names(registry)) or 'none'}"


def _check_scores(target: str, score: Score, fit: Fit, beside_base: bool) -> list[str]:
    """The scores to learn.  Raises InputError for attacks that cannot be computed, or that make no such score."""
    if wrong := problem(score.attacks):
        raise InputError(f"{PARAMS}: {key_name('score', 'attacks', target)}.{wrong}")
    columns = score_columns(score.attacks)
    return choose(target, fit.scores, list(with_base(columns) if beside_base else columns))


def _check_stack(target: str, evaluate: Evaluate, learners: dict[str, LearnerOptions]) -> None:
    key = f"{PARAMS}: {key_name('evaluate', 'stack', target)}"
    for name in evaluate.stack:
        if name not in learners:
            raise InputError(f"{key}: no learner '{name}'; there are {', '.join(learners)}")
        if getattr(learners[name], "head", None) != "location_scale":
            raise InputError(f"{key}: {name} predicts quantiles; a stack needs `head: location_scale`")


if __name__ == "__main__":
    run(config, target="a name in the `targets` registry of params.yaml")
