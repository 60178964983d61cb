"""Every option of params.yaml once: its default, its bounds and its sentence.

One class a section, one a learner, one a target.  The comments of params.yaml, docs/reference/options.md and the JSON
schema that editors read are made of these (`python -m leakgauge.reference`); tests hold them together.  Datasets have
their options beside their readers (`leakgauge/datasets`).
"""

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    RootModel,
    Tag,
    model_validator,
)
from pydantic_core import PydanticCustomError


class Options(BaseModel):
    """Base of every options class: no unknown keys, no silent conversions, no changes after loading."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


Rate = Annotated[float, Field(gt=0, lt=1)]


def _(default: Any, sentence: str, **bounds: Any) -> Any:
    """A field: its default, its sentence and its bounds."""
    return Field(default, description=sentence, validate_default=True, **bounds)


# ------------------------------------------------------------------------------------------------------------ ceilings


CEILING = re.compile(r"(?:(?P<auc>auc)|tpr@(?P<fpr>[\d.]+)%)\s*=\s*(?P<most>[\d.]+)(?P<percent>%?)")


@dataclass(frozen=True)
class Ceiling:
    """The most that a figure may be.  fpr : of a TPR; None: of the AUC."""

    text: str
    fpr: float | None
    most: float


def ceiling(text: str) -> Ceiling:
    """Parse `tpr@1%=5%` or `auc=0.6`.  Raises PydanticCustomError, which is a ValueError."""
    found = CEILING.fullmatch(text)
    try:
        if found is None:
            raise ValueError
        most = float(found["most"]) / (100 if found["percent"] else 1)
        fpr = None if found["auc"] else float(found["fpr"]) / 100
    except ValueError:
        raise PydanticCustomError("ceiling", "no ceiling like 'tpr@1%=5%' or 'auc=0.6'") from None
    if not 0 <= most <= 1 or (fpr is not None and not 0 < fpr < 1):
        raise PydanticCustomError("ceiling", "a rate lies between 0 and 1 (0 % and 100 %)")
    return Ceiling(text, fpr, most)


def _is_ceiling(text: str) -> str:
    return ceiling(text).text


CeilingText = Annotated[str, AfterValidator(_is_ceiling)]
# Told apart by what it is, so that a fault is named in the one that was meant.
Ceilings = Annotated[
    Annotated[CeilingText, Tag("one")] | Annotated[list[CeilingText], Tag("several")],
    Discriminator(lambda value: "several" if isinstance(value, list) else "one"),
]


# ---------------------------------------------------------------------------------------------------------- registries


Kind = Literal["train", "path", "hub", "adapter", "pytorch_ddpm", "python", "scores"]


class Target(Options):
    """An entry of `targets`: a model under audit.  A section's name in it overrides options of that section."""

    images: str = Field(description="a name in `datasets`")
    model: str = Field(
        description="what DVC watches: a diffusers pipeline, a LoRA or another adapter (of `target.base`), "
        "a folder with ckpt.pt and flagfile.txt, a folder with model.py for `source: python`, a file of scores, "
        "or leakgauge/diffusion/training.py to train one here, leakgauge/diffusion/pipelines.py to take one on the Hub"
    )
    members: NonNegativeInt | str | None = _(None, "short for `split: {member: ...}`")
    source: Kind | None = _(
        None, "train | path | hub | adapter | pytorch_ddpm | python | scores; null: what `model` looks like"
    )
    fail_above: Ceilings = _(
        [],
        "ceilings on what it leaks, one or a list: `tpr@1%=5%`, `auc=0.6`. `leakgauge audit` and `leakgauge report` "
        "exit with status 3 unless each figure is shown to be below its own",
    )
    split: dict[str, Any] = _({}, "overrides")
    check: dict[str, Any] = _({}, "overrides")
    target: dict[str, Any] = _({}, "overrides")
    score: dict[str, Any] = _({}, "overrides")
    fit: dict[str, Any] = _({}, "overrides")
    evaluate: dict[str, Any] = _({}, "overrides")
    copies: dict[str, Any] = _({}, "overrides")

    @property
    def ceilings(self) -> list[Ceiling]:
        """Those of `fail_above`."""
        return [ceiling(text) for text in ([self.fail_above] if isinstance(self.fail_above, str) else self.fail_above)]


class Suspects(Options):
    """An entry of `suspects`: a set of images in question, and the target that is asked about them."""

    target: str = Field(description="a name in `targets`")
    images: str = Field(description="a name in `datasets`, other than the target's own")


class MarginalOptions(Options):
    """A learner: one threshold for all images, the baseline."""

    kind: Literal["marginal"] = "marginal"


class LinearOptions(Options):
    """A learner: a linear regression on the scores under the base, or without one on image features."""

    kind: Literal["linear"] = "linear"


class GBMOptions(Options):
    """A learner: boosted trees on image features."""

    kind: Literal["gbm"] = "gbm"
    head: Literal["location_scale", "quantiles"] = _(
        "location_scale", "location_scale: a Gaussian | quantiles: pinball loss on a grid of levels"
    )
    trees: PositiveInt = _(150, "of the location, or of each quantile")
    scale_trees: PositiveInt = _(20, "of the scale")
    leaves: int = _(8, "of a tree", ge=2)
    learning_rate: PositiveFloat = _(0.05, "of the boosting")
    min_leaf: PositiveInt = _(20, "images in a leaf, at least")
    feature_fraction: float = _(0.3, "of the features that a tree may look at", gt=0, le=1)


class NetworkOptions(Options):
    """What the learners that are networks share."""

    epochs: PositiveInt = _(20, "passes over the resample")
    batch_size: PositiveInt = _(64, "images a step")
    learning_rate: PositiveFloat = _(1e-3, "at the top of the cycle")
    weight_decay: float = _(1.0, "of AdamW", ge=0)
    dropout: float = _(0.6, "of hidden units", ge=0, lt=1)
    precision: Literal["float32", "bfloat16"] = _("float32", "of activations; bfloat16 is fast on a GPU that has it")


class MLPOptions(NetworkOptions):
    """A learner: a small network on image features."""

    kind: Literal["mlp"] = "mlp"
    head: Literal["quantiles", "location_scale"] = _("location_scale", "as of gbm")
    width: PositiveInt = _(64, "units of a hidden layer")
    depth: PositiveInt = _(2, "hidden layers")


class ResNetOptions(NetworkOptions):
    """A learner: a small residual network on the image."""

    kind: Literal["resnet"] = "resnet"
    head: Literal["quantiles", "location_scale"] = _("quantiles", "as of gbm")
    width: PositiveInt = _(8, "channels of the first stage; 4, 8, 16: about 5e3, 2e4, 8e4 parameters")
    blocks: PositiveInt = _(1, "residual blocks of each of the three stages")
    features: bool = _(False, "whether it looks at the image's features too")
    hidden: PositiveInt = _(64, "units that bring both together")
    learning_rate: PositiveFloat = _(1e-2, "at the top of the cycle")
    weight_decay: float = _(0.01, "of AdamW", ge=0)
    dropout: float = _(0.0, "of hidden units", ge=0, lt=1)


LearnerOptions: TypeAlias = MarginalOptions | LinearOptions | GBMOptions | MLPOptions | ResNetOptions
Learner = RootModel[Annotated[LearnerOptions, Field(discriminator="kind")]]  # an entry of `learners`


# ------------------------------------------------------------------------------------------------------------ sections


class Index(Options):
    """A published split: an .npz of row numbers, pinned by its hash."""

    path: str = Field(description="of the file, with arrays mia_train_idxs and mia_eval_idxs")
    sha256: str = Field(description="of its bytes")


class Split(Options):
    """Which image has which role; counts are of distinct images, shares of units, about."""

    seed: NonNegativeInt = _(0, "of the draw")
    member: NonNegativeInt | str = _(
        0, 'how many to draw (0: none is known), or the pattern of the members\' image_ids: "members/*"'
    )
    auxiliary: PositiveInt | Annotated[float, Field(gt=0, lt=1)] = _(
        0.6, "non-members that fit the thresholds: a count, or a share of them"
    )
    holdout: PositiveInt | Literal["rest"] = _("rest", "non-members that measure error rates: a count, or rest")
    index: Index | None = _(None, "a published split, pinned: {path: roles.npz, sha256: ...}")
    reference: NonNegativeInt = _(
        0, "non-members more, in no other role, on which a reference is trained: learners see its scores; 0: none"
    )
    unscored: Literal["refuse", "leave_out"] = _(
        "refuse", "of a file of scores: images without a row in it: refuse | leave_out"
    )


class Check(Options):
    """Checks against wrong conclusions; none looks at a score of the trained target."""

    seed: NonNegativeInt = _(0, "of folds, permutations and untrained networks")
    false_alarm: float = _(0.01, "the chance that any of them fails where roles were drawn at random", ge=0.005, lt=1)
    blind_auc: float = _(
        0.55, "features alone tell roles apart: the interval's lower end above which that check fails", ge=0.5, lt=1
    )
    hash_distance: int = _(10, "of 64 bits of a perceptual hash, that may differ between near-duplicates", ge=0, le=64)
    pixel_rmse: PositiveFloat = _(0.5, "and their pixels, as a multiple of what is typical between similar non-members")


class HubPipeline(Options):
    """A repository of models, and which of its commits."""

    repo: str = Field(pattern=r"^[\w.-]+/[\w.-]+$", description="owner/name")
    revision: str = Field(pattern=r"^[0-9a-f]{40}$", description="the commit's full hash: a branch could move")


class PinnedFolder(Options):
    """A pipeline folder, pinned by the hash of what is in it."""

    path: str = Field(description="of the folder")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="of its files; where another is named the stage says it")


class Taking(Options):
    """Which files of a pipeline are taken."""

    variant: str | None = _(None, "of a pipeline: which weights, where a part has several: like non_ema, or fp16")
    leave_out: list[str] = _([], 'of a pipeline: files that are no part of the model, like "unet_ema/*", "*.fp16.*"')


class BaseOnHub(Taking, HubPipeline):
    """A base on the Hub."""


class BaseFolder(Taking, PinnedFolder):
    """A base in a folder."""


# A repository is told from a folder by its key, so that a fault is named in the one that was meant.
Base = Annotated[
    Annotated[BaseFolder, Tag("folder")] | Annotated[BaseOnHub, Tag("hub")],
    Discriminator(lambda value: "hub" if isinstance(value, HubPipeline) or "repo" in value else "folder"),
]


class Adapter(Options):
    """A LoRA or another adapter beside the first."""

    path: str = Field(description="of the file or folder")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="of its bytes; where another is named the stage says it")
    scale: float = _(1.0, "by which it is fused")


class Training(Options):
    """How a target is trained here: a DDPM by the simple epsilon loss."""

    seed: int = _(0, "of weights, noise and batches", ge=0, lt=2**62)
    block_out_channels: list[PositiveInt] = _([32, 64], "of the UNet's levels", min_length=1)
    layers_per_block: PositiveInt = _(1, "residual layers of a level")
    attention: bool = _(False, "self-attention on the lowest level")
    dropout: float = _(0.0, "of the UNet", ge=0, lt=1)
    num_train_timesteps: int = _(1000, "of the diffusion process", gt=0, le=100_000)
    beta_schedule: Literal["linear", "squaredcos_cap_v2"] = _("linear", "linear | squaredcos_cap_v2")
    steps: PositiveInt = _(3000, "of the optimiser")
    batch_size: PositiveInt = _(64, "images a step")
    learning_rate: PositiveFloat = _(1e-3, "after warm-up")
    warmup_steps: NonNegativeInt = _(100, "over which it rises")
    decay: Literal["cosine", "linear"] = _("cosine", "how it falls: cosine | linear")
    max_grad_norm: PositiveFloat = _(1.0, "to which gradients are clipped")
    ema_decay: float = _(0.995, "of the moving average of weights, which is kept", gt=0, lt=1)
    checkpoint_every: PositiveInt = _(100, "steps: what a killed run loses at most")


class TargetOptions(Taking, Training):
    """How the target is trained, or what is taken of one from elsewhere."""

    hub: HubPipeline | None = _(None, "a pipeline on the Hub: {repo: owner/name, revision: a commit's full hash}")
    base: Base | None = _(
        None,
        "the model that the target was fine-tuned from, whose scores learners see: {path: folder, sha256: its hash} or "
        "{repo: owner/name, revision: a commit's full hash}; of either also variant and leave_out",
    )
    scale: float = _(1.0, "of an adapter: by which it is fused into its base")
    adapters: list[Adapter] = _([], "of an adapter: others fused with it: {path: file, sha256: its hash, scale: 1.0}")
    pickle: str | None = _(None, "of a pipeline: the pickled weights to take all the same, by their file's name")
    scores: list[str] = _(
        ["t_error_t*", "pia_t*", "pian_t*", "loss_t*", "sima_t*", "rediffuse_t*"],
        "of a file of scores: the columns that are scores, by name or pattern; any other column is refused",
        min_length=1,
    )


class TErrorGrid(Options):
    """t-errors at 0, interval, 2 interval, ..., last: one walk."""

    interval: PositiveInt = _(10, "between timesteps")
    last: NonNegativeInt = _(200, "timestep")

    @property
    def timesteps(self) -> list[int]:
        """All of them."""
        return list(range(0, self.last + 1, self.interval))


class ReDiffuse(Options):
    """The mean of `draws` variations from each timestep, walked back to 0 by `stride`: black-box."""

    timesteps: list[PositiveInt] = _([], "draws * t / stride network calls each")
    stride: PositiveInt = _(50, "of the walk back")
    draws: PositiveInt = _(10, "variations")


class Attacks(Options):
    """The attacks to run, and the timesteps of each."""

    t_error: TErrorGrid = _(TErrorGrid(), "one walk")
    pia: list[NonNegativeInt] = _([20, 100, 200], "timesteps")
    pian: list[NonNegativeInt] = _([20, 100, 200], "timesteps")
    naive_loss: list[NonNegativeInt] = _([20, 100, 200], "timesteps")
    sima: list[NonNegativeInt] = _([0, 20, 100], "timesteps")
    rediffuse: ReDiffuse = _(ReDiffuse(), "black-box")
    noise_seed: NonNegativeInt = _(0, "of the naive loss and of rediffuse")


class Precision(Options):
    """How the target's networks are run."""

    channels_last: bool = _(True, "images as (B, H, W, C) in memory")
    precision: Literal["float32", "tf32", "bfloat16", "float16"] = _(
        "float32", "of products: float32 | tf32 | bfloat16 | float16, which are faster on a GPU"
    )
    low_weights: bool = _(
        False, "the network's weights in `precision` too: half the memory; bfloat16 or float16, as pipelines run"
    )
    tiling: bool = _(False, "the autoencoder takes large images in tiles: less memory, other numbers at the seams")
    offload: bool = _(
        False, "the network's layers wait in main memory, and come to the GPU when they are called: slower, exact"
    )
    compile: bool = _(False, "by torch.compile: minutes that pay off on very many images; needs a C++ compiler")

    @model_validator(mode="after")
    def _go_together(self) -> Self:
        if self.low_weights and self.precision not in ("bfloat16", "float16"):
            raise ValueError(f"low_weights: true needs precision: bfloat16 or float16, not {self.precision}")
        if self.offload and self.compile:
            raise ValueError("offload: true and compile: true do not go together")
        return self


class Score(Precision):
    """Which scores, and how they are computed."""

    backend: Literal["local", "ray"] = _(
        "local", "local | ray: on a cluster, `pip install -e '.[ray]'`; another backend re-scores nothing"
    )
    shard: PositiveInt = _(256, "images written together: what a killed run loses at most, and a cluster hands out")
    batch_size: PositiveInt | Literal["auto"] = _(
        "auto", "images a network call: auto, what fits the memory, or a count; at most a shard"
    )
    condition: Literal["given", "none"] = _(
        "given", "of a conditional target: given: labels or captions | none: no class, the empty prompt"
    )
    tolerance: PositiveFloat = _(
        1e-3,
        "relative: the most that channels_last, precision, low_weights, tiling and compile may move a score; beyond it "
        "scoring is refused",
    )
    attacks: Attacks = _(Attacks(), "the timesteps of each")


class Fit(Options):
    """What all learners learn, and how often."""

    scores: list[str] = _(
        ["t_error_t10", "t_error_t0", "t_error_t20", "t_error_t30", "t_error_t50", "t_error_t70", "t_error_t100"],
        "score columns learnt together, by name or pattern; several are also judged together, as <learner>_fusion",
        min_length=1,
    )
    bag_size: PositiveInt = _(10, "attackers, each on its own resample")
    seed: NonNegativeInt = _(0, "of resamples and attackers")
    calibration: NonNegativeInt = _(0, "auxiliary images of a calibration split, exact; 0: all of them, out of bag")
    patience: NonNegativeInt = _(
        0,
        "eighths of the epochs (of gbm: trees) without a lower loss on a quarter of the images out of bag, after which "
        "an attacker stops; 0: never, and all out of bag calibrate",
    )


class TPRAtFPR(Options):
    """A criterion: the share of members caught at this false-positive rate."""

    tpr_at_fpr: Rate = Field(description="of holdout images")


# A mapping is the one and anything else the other, so that a fault is named in the one that was meant.
Criterion = Annotated[
    Annotated[Literal["auc"], Tag("auc")] | Annotated[TPRAtFPR, Tag("tpr")],
    Discriminator(lambda value: "tpr" if isinstance(value, dict | TPRAtFPR) else "auc"),
]


class Evaluate(Options):
    """How results are judged and shown."""

    alphas: list[Rate] = _(
        [0.1, 0.05, 0.01],
        "false-positive rates asked for; n auxiliary images support 1 / (n + 1) and more",
        min_length=1,
    )
    confidence: Rate = _(0.95, "of every interval")
    curve_fpr: Rate = _(0.01, "at which curves show their TPR, and groups of images their FPR")
    complexity: str = _("compressed_bits", "the image feature whose deciles must not differ in FPR")
    score: str | None = _(None, "of fit.scores, what a learner is judged by: null: the first | a column | selected")
    selection: float = _(
        0.0, "share of members and holdout on which `score: selected` is chosen; reported nowhere", ge=0, lt=1
    )
    selection_seed: NonNegativeInt = _(0, "of that share")
    criterion: Criterion = _("auc", "of the choice, by one threshold for all: auc | {tpr_at_fpr: 0.1}")
    stack: list[str] = _([], "learners with a location and a scale, made one; [] for no stack")
    false_discovery_rate: Rate = _(0.1, "the share of the suspects named that were not used, at most, on average")


class CopiesOptions(Options):
    """Copies of members among what the target generates; without samples nothing is generated."""

    samples: NonNegativeInt = _(0, "images to generate; 0: none")
    seed: NonNegativeInt = _(0, "of their noise, and of their prompts")
    batch_size: PositiveInt = _(64, "images a network call, written together: what a killed run loses at most")
    neighbours: PositiveInt = _(50, "images nearest to a sample, whose mean distance is its unit")
    false_discovery_rate: Rate = _(0.1, "the share of the members named that were not copied, at most, on average")


class Report(Options):
    """The page."""

    exposed: PositiveInt = _(12, "members in the grid of the most exposed")


class Source(Options):
    """Where a target comes from, as stage `config` wrote it."""

    images: str
    model: str
    source: Kind


class Levels(Options):
    """What decides which false-positive rates can be asked for, as stage `config` wrote it."""

    alphas: list[Rate]
    curve_fpr: Rate
    calibration: NonNegativeInt


class RoleLeaks(Options):
    """What a target must not be conditioned on, as stage `check` wrote it."""

    seed: NonNegativeInt  # of the null check
    leaks: dict[str, dict[str, str]]  # label or caption -> role -> a sentence on how it gives the role away


SECTIONS: dict[str, type[Options]] = {
    "split": Split,
    "check": Check,
    "target": TargetOptions,
    "score": Score,
    "fit": Fit,
    "evaluate": Evaluate,
    "copies": CopiesOptions,
    "report": Report,
}
