"""publish images so that it can be proven later whether a model was trained on them

    leakgauge canaries seal photos --out publish                  before publishing: variants, one drawn for each image
    leakgauge canaries test publish_sealed my_pipeline --size 64  later: was this model trained on what was published?

`seal` makes several variants of each image that look alike, draws by lot which one is published, and seals the draw: a
record whose SHA-256 you have time-stamped before you publish.  `test` scores all variants under a model.  A model that
was not trained on the published ones cannot know the draw, whatever the images are: the p-value is exact, and needs
no other images.  `leakgauge canaries seal --help` and `leakgauge canaries test --help` say more.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from leakgauge.commands.audit import model_arguments, size_arguments, taking_of, target_entries
from leakgauge.config import PARAMS, validated
from leakgauge.errors import InputError
from leakgauge.options import Target, TargetOptions

SEAL = """Make variants of each image, publish one, seal which.

    leakgauge canaries seal photos --out publish

Writes two new folders.  publish/ has one file for each image of PHOTOS, under its name: publish these, and no other
version of the images.  publish_sealed/ has record.json and all variants: keep it secret, and keep it.  Prints the
SHA-256 of the record: have it time-stamped (by a notary, a time-stamping service, a newspaper) before you publish.

A variant is a slightly different crop and a slightly different light.  Both survive JPEG and another size.  All files
are written alike, upright and without metadata but for a colour profile: nothing but the draw tells the published one.
"""
TEST = """Score all variants of a record under a model, and test whether it knows which were published.

    leakgauge canaries test publish_sealed my_pipeline
    leakgauge canaries test publish_sealed my_lora.safetensors --base my_pipeline --size 512 --square crop

MODEL is what `leakgauge audit` takes: a diffusers pipeline folder, owner/name@commit on the Hugging Face Hub, an
adapter with its --base, a folder with ckpt.pt and flagfile.txt, or your own code.  All variants are brought to its size
in the same way.  A conditional model is called without a class or caption, or with one that is the same for all.

Prints the p-value of the hypothesis that this model was not trained on what was published, and a bound on epsilon.
The same command goes on where it was stopped.
"""
CONFIDENCE = 0.95


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add those of this command."""
    shape = argparse.RawDescriptionHelpFormatter
    steps = parser.add_subparsers(dest="step", required=True, metavar="STEP")
    seal = steps.add_parser("seal", help="before publishing", description=SEAL, formatter_class=shape)
    seal.add_argument("photos", metavar="PHOTOS", type=Path, help="a folder of images, searched to any depth")
    seal.add_argument("--out", metavar="DIR", type=Path, required=True, help="a new folder, for what to publish")
    seal.add_argument("--sealed", metavar="DIR", type=Path, help="a new folder, to keep (default: DIR_sealed)")
    seal.add_argument("--variants", type=int, choices=range(2, 17), default=8, metavar="K", help="2 to 16 (default: 8)")
    seal.add_argument("--tone", type=_tone, default=8.0, help="the largest change of a level, of 255 (default: 8)")
    seal.add_argument(
        "--shift", type=_shift, default=0.04, help="share of a side by which corners move inwards (default: 0.04)"
    )
    seal.add_argument("--format", choices=["png", "jpeg"], default="png", help="jpeg: quality 95 (default: png)")
    seal.add_argument("--colour", choices=["rgb", "grey"], help="convert all images first")
    test = steps.add_parser("test", help="later: was a model trained on them?", description=TEST, formatter_class=shape)
    test.add_argument("record", metavar="RECORD", type=Path, help="the sealed folder, or record.json in it")
    test.add_argument("model", metavar="MODEL", help="the model that is asked")
    model_arguments(test)
    size_arguments(test)
    given = test.add_mutually_exclusive_group()
    given.add_argument("--label", type=int, help="of a model conditional on classes: the class of all images")
    given.add_argument("--caption", help="of a model conditional on text: the caption of all images")
    test.add_argument("--json", action="store_true", dest="as_json", help="print the answer as JSON")
    for one in (seal, test):  # behind the step's name too
        one.add_argument(
            "--debug", action="store_true", default=argparse.SUPPRESS, help="show the traceback of an error"
        )


def _tone(text: str) -> float:
    return _within(text, 0.5, 64, "a change of levels")


def _shift(text: str) -> float:
    return _within(text, 0, 0.25, "a share of the side")


def _within(text: str, low: float, high: float, what: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not low <= value <= high:
        raise argparse.ArgumentTypeError(f"{text!r}: {what} lies between {low:g} and {high:g}")
    return value


def run(step: str, **options: Any) -> int:
    """Returns the exit status.  Raises InputError."""
    return _seal(**options) if step == "seal" else _test(**options)


def _seal(photos: Path, out: Path, sealed: Path | None, **making: Any) -> int:
    from leakgauge.canaries.seal import Making, seal  # which takes a second

    sealed = sealed or out.with_name(f"{out.name}_sealed")
    count, sha256 = seal(photos, out, sealed, Making(**making))
    print(f"{out}: {count} images: publish these, and no other version of them")
    print(f"{sealed}: record.json and {making['variants']} variants of each: keep it, and keep it secret")
    print(f"SHA-256 of the record, to be time-stamped before you publish:\n{sha256}", flush=True)
    return 0


def _test(
    record: Path,
    model: str,
    base: str | None,
    label: int | None,
    caption: str | None,
    as_json: bool,
    **options: Any,
) -> int:
    from leakgauge.canaries.record import open_record

    opened = open_record(record)
    own = {key: value for key, value in options.items() if value is not None}
    taking, run_code = taking_of(base, own)
    entries = target_entries("model", model, None, taking, run_code)
    if len(entries) > 1:
        raise InputError(f"{model}: holds {len(entries)} models: name one of them")
    (entry,) = entries.values()
    target = Target(**entry)

    from leakgauge.canaries.scores import Asked, score  # torch takes seconds
    from leakgauge.datasets.images import Entry

    asked = Asked(
        target,
        _validated(TargetOptions, target.target),
        _validated(Entry, {"source": "folder", "path": str(opened.folder), **own}),
        label,
        caption,
    )
    found = answer(opened, *score(opened, asked))
    said = json.dumps({"model": model, **found}, indent=2) if as_json else "\n".join(sentences(model, found))
    print(said, flush=True)
    return 0


def _validated(options: Any, values: dict[str, Any]) -> Any:
    try:
        return validated(options, values, lambda key: "")
    except InputError as error:
        raise InputError(str(error).replace(f"{PARAMS}: : ", "").replace(f"{PARAMS}: .", "--")) from None


def answer(opened: Any, log_scores: Any, described: Any) -> dict[str, Any]:
    """The p-value and the bound.  opened : a record.  log_scores : (N, K, S).  described : (N, K, F) features."""
    import numpy as np

    from leakgauge.canaries.coins import contrasts, epsilon, p_value

    published = np.array([image.published for image in opened.record.images])
    contrast = contrasts(log_scores, described)
    return {
        "record_sha256": opened.sha256,
        "images": len(published),
        "variants": opened.record.variants,
        "p_value": p_value(contrast, published),
        "guessed": int((contrast.argmin(axis=1) == published).sum()),
        "epsilon": asdict(epsilon(contrast, published, CONFIDENCE)),
    }


def sentences(model: str, found: dict[str, Any]) -> list[str]:
    """The answer as it is printed."""
    images, variants, bound = found["images"], found["variants"], found["epsilon"]
    return [
        f"p-value       {found['p_value']:.2g}, of the hypothesis that {model} was not trained on what was published",
        f"images        {images}; which of {variants} variants was published is guessed right for {found['guessed']} "
        f"(by chance {images / variants:.1f})",
        f"epsilon       at least {bound['epsilon']:.2f} ({100 * CONFIDENCE:g} % confidence; so many images can show "
        f"{bound['most']:.2f} at most)",
        f"record        SHA-256 {found['record_sha256']}: compare it with the one that was time-stamped",
    ]
