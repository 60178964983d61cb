"""What an audit takes, before it starts: images, network calls, minutes, memory.

Network calls are counted from the options of the attacks.  How long one takes is measured: the model is opened as stage
`score` opens it, in a process of its own, and called on a batch of the audit's own images.  The fitting of the learners
is a rule of thumb: attackers, images and score columns times what one takes on a CPU's core.
"""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from leakgauge.attacks.columns import NETWORKS, choose, score_columns, with_base
from leakgauge.commands.pipeline import environment, minutes
from leakgauge.config import asked, names, section, source_of, suspects_entry
from leakgauge.errors import InputError
from leakgauge.options import Attacks, Fit, GBMOptions, Learner, LearnerOptions, MLPOptions, ResNetOptions, Score

if TYPE_CHECKING:
    from leakgauge.attacks.scorer import Scorer

BEGAN = time.monotonic()
START = 6.0  # seconds until a stage has imported what it needs
CALLS, SECONDS = 3, 2.0  # that are timed: so many calls, or fewer once they have taken so long
NULL_IMAGES = 300  # as in leakgauge.scoring, which takes seconds to import
# seconds an attacker and auxiliary image take on one core with the default options; gbm: of each score column; resnet:
# of 64 pixels
FITTING = {"marginal": 0.0, "linear": 1e-4, "gbm": 0.8e-3, "mlp": 1.0e-3, "resnet": 3.5e-3}


@dataclass(frozen=True)
class Measured:
    """What opening and calling the model takes.  Times in seconds, memory in bytes."""

    opening: float
    encoding: float  # of an image
    call: float  # of the network, an image
    calls: int  # that were timed
    batch: int  # images a call
    memory: int
    device: str
    tried: int  # images, at most, that the precision asked for is tried on, twice, before each table of images


@dataclass(frozen=True)
class Estimate:
    """What is left to do for a target."""

    images: dict[str, int]  # run -> images that it scores
    calls: int  # of the network
    seconds: dict[str, float]  # run -> how long
    measured: Measured | None  # None: nothing is to be scored here

    @property
    def scoring(self) -> float:
        """Seconds of scoring."""
        return sum(self.seconds[run] for run in self.images if run in self.seconds)

    def sentences(self) -> list[str]:
        """As it is printed."""
        rest = sum(self.seconds.values()) - self.scoring
        fitting = f"about {minutes(rest)}, most of it to fit the learners (a rule of thumb)"
        if not self.seconds:
            return ["Estimate: everything is up to date."]
        if not self.images:
            return [f"Estimate, at most: all scores are there; all else {fitting}."]
        each = ", ".join(f"{count:,} {_said(run)}" for run, count in self.images.items())
        total = (
            f"Estimate, at most: {sum(self.images.values()):,} images to score ({each}): {self.calls:,} network calls."
        )
        found = self.measured
        if found is None:
            return [total, f"Scoring takes as long as the cluster does; all else {fitting}."]
        return [
            total,
            f"Scoring about {minutes(self.scoring)} on {found.device} (measured on {found.calls} calls of "
            f"{found.batch} images); all else {fitting}.",
            f"Memory about {found.memory / 2**30:.1f} GiB while scoring.",
        ]


def _said(run: str) -> str:
    """score@mine-member -> member, score_suspects@found -> suspects found."""
    stage, _, key = run.partition("@")
    return key.rpartition("-")[2] if stage == "score" else f"suspects {key}"


def estimate(target: str, stale: Collection[str]) -> Estimate:
    """What the runs that are not up to date take, as far as they are of this target.

    Stages config, split, check, base and target must be up to date.  Raises InputError where a model cannot be opened.
    """
    every = image_counts(target)
    if source_of(target).source == "scores":
        every = {}
    images = {run: count for run, count in every.items() if run in stale}
    attacks = section("score", Score, target).attacks
    local = asked("score", Score, target).backend == "local"
    measured = _measured_elsewhere(target) if images and local else None
    tried = measured.tried if measured else 0
    models = 2 if _has_base(target) else 1
    calls = {run: calls_of(count, attacks, tried, models) for run, count in images.items()}
    seconds = {run: took for run, took in _others(target, image_counts(target)).items() if run in stale}
    if measured:
        for run, count in images.items():
            seconds[run] = models * (measured.opening + count * measured.encoding) + calls[run] * measured.call
    return Estimate(images, sum(calls.values()), seconds, measured)


def image_counts(target: str) -> dict[str, int]:
    """Run that scores -> images.  Raises InputError where no image is auxiliary."""
    from leakgauge.tables import ROLES, read_table

    tables = {f"score@{target}-{role}": Path(f"data/roles/{target}/{role}.parquet") for role in ROLES}
    for name in names("suspects"):
        if (asked_about := suspects_entry(name)).target == target:
            tables[f"score_suspects@{name}"] = Path(f"data/images/{asked_about.images}.parquet")
    counts = {run: read_table(path, ["image_id"]).num_rows for run, path in tables.items()}
    if not counts[f"score@{target}-auxiliary"]:
        raise InputError(f"{tables[f'score@{target}-auxiliary']}: holds no image: an audit needs auxiliary images")
    return counts


def calls_of(images: int, attacks: Attacks, tried: int = 0, models: int = 1) -> int:
    """Network calls of scoring a table of images.  tried : see `Measured`.  models : the target, and perhaps a base."""
    trained = (images + 2 * min(images, tried)) * network_calls(attacks)
    return models * trained + NETWORKS * min(images, NULL_IMAGES) * null_calls(attacks)


def network_calls(attacks: Attacks) -> int:
    """Calls an image, of all attacks together: they share that at t = 0, and the t-errors one walk."""
    rediffuse = attacks.rediffuse
    single = len(attacks.pia) + len(attacks.pian) + len(attacks.naive_loss) + len(attacks.sima)
    walked = sum(rediffuse.draws * (t // rediffuse.stride) for t in rediffuse.timesteps)
    return 1 + len(attacks.t_error.timesteps) + single + walked


def null_calls(attacks: Attacks) -> int:
    """Calls an image under an untrained network: the first t-errors of the walk."""
    return 3 if attacks.t_error.last else 2


def _others(target: str, images: dict[str, int]) -> dict[str, float]:
    """Seconds of the stages that score nothing.  images : see `image_counts`."""
    auxiliary, every = images[f"score@{target}-auxiliary"], sum(images.values())
    fit, attacks = section("fit", Fit, target), section("score", Score, target).attacks
    columns = score_columns(attacks)
    scores = choose(target, fit.scores, list(with_base(columns) if _has_base(target) else columns))
    seconds = {f"evaluate@{target}": START + every / 100, "report": START + 4.0}
    for name in names("learners"):
        options = section(f"learners/{name}", Learner, target).root
        work = fit.bag_size * auxiliary * _fitting(options, len(scores), _pixels(target))
        seconds[f"fit@{target}-{name}"] = START + work / _processes(fit.bag_size)
        seconds[f"predict@{target}-{name}"] = START + every / 500
    for name in names("suspects"):
        if suspects_entry(name).target == target:
            seconds[f"suspects@{name}"] = START + 5.0
    return seconds


def _has_base(target: str) -> bool:
    return Path(f"models/base/{target}/pipeline").is_dir()  # as `leakgauge.scoring`, which imports torch, looks for it


def _fitting(options: LearnerOptions, scores: int, pixels: int) -> float:
    """Seconds an attacker and auxiliary image: a network learns all scores at once."""
    each = FITTING[options.kind]
    if isinstance(options, GBMOptions):
        return each * scores * options.trees / GBMOptions().trees
    if isinstance(options, MLPOptions):
        return each * options.epochs / MLPOptions().epochs
    if isinstance(options, ResNetOptions):
        default = ResNetOptions()
        return each * options.epochs / default.epochs * options.width / default.width * max(pixels / 64, 1)
    return each


def _processes(attackers: int) -> int:
    from joblib import cpu_count

    return max(min(cpu_count(), attackers), 1)


def _pixels(target: str) -> int:
    """Of an image of the audit."""
    from leakgauge.tables import RowReader, decode_images

    reader = RowReader(Path(f"data/roles/{target}/auxiliary.parquet"), ["image"])
    return int(decode_images(reader.rows(0, 1))[0, 0].size)


def _measured_elsewhere(target: str) -> Measured:
    """`measure` in a process of its own, so that its memory is its own and is given back."""
    command = [sys.executable, "-m", "leakgauge.commands.estimate", target]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True)
    if done.returncode:
        raise InputError(done.stderr.strip().rpartition("\n")[2] or "the estimate failed")
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


def measure(target: str) -> Measured:
    """Open the model as `score` does, and time some calls on auxiliary images.  Raises InputError."""
    import torch

    from leakgauge.attacks.scorer import TRIED_ON, Job, Scorer, precision_asked
    from leakgauge.compute import best_device
    from leakgauge.scoring import base_of, runs_code, score_options

    device = best_device()
    images = Path(f"data/roles/{target}/auxiliary.parquet")
    job = Job(
        target, Path(f"models/target/{target}"), images, score_options(target), base_of(target), runs_code(target)
    )
    scorer = Scorer(job, device)
    opening = time.monotonic() - BEGAN
    batch, encoding, call, calls = _timed(scorer)
    cuda = device.type == "cuda"
    threads = torch.get_num_threads()
    peak = torch.cuda.max_memory_reserved() if cuda else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return Measured(
        opening=opening,
        encoding=encoding,
        call=call,
        calls=calls,
        batch=batch,
        memory=peak + _memory_of_others(scorer, cuda),
        device=torch.cuda.get_device_name(device) if cuda else f"{threads} CPU thread{'s' * (threads > 1)}",
        tried=TRIED_ON if precision_asked(scorer.job) else 0,
    )


def _memory_of_others(scorer: "Scorer", cuda: bool) -> int:
    """Bytes of the weights of further networks: that of the null check, in float32, and a base."""
    weights, options = list(scorer.denoiser.network.parameters()), scorer.job.options
    null_waits = cuda and (options.offload or options.low_weights)
    null = 0 if null_waits else sum(4 * weight.numel() for weight in weights)
    base_waits = scorer.job.base is None or (cuda and options.offload)
    return null + (0 if base_waits else sum(weight.numel() * weight.element_size() for weight in weights))


def _timed(scorer: "Scorer") -> tuple[int, float, float, int]:
    """Images a call; seconds an image to encode it, and to call the network on it; and how many calls were timed."""
    from leakgauge.attacks.scorer import out_of_memory

    batch = scorer.batch_size
    while True:
        try:
            return batch, *_time(scorer, batch)
        except (MemoryError, RuntimeError) as error:
            if batch == 1 or not out_of_memory(error):
                raise
        batch //= 2  # as the scorer does


def _time(scorer: "Scorer", batch: int) -> tuple[float, float, int]:
    import torch

    def clock() -> float:
        if scorer.denoiser.device.type == "cuda":
            torch.cuda.synchronize()
        return time.monotonic()

    shard = scorer.read(0, batch)
    bound = scorer.denoiser.with_condition(shard.conditioning)
    with torch.inference_mode():
        bound.epsilon(bound.encode(shard.pixels), 0)  # what is done once, on the first call, is not timed
        began = clock()
        x0 = bound.encode(shard.pixels)
        encoded = clock()
        calls = 0
        while calls < CALLS and clock() - encoded < SECONDS:
            bound.epsilon(x0, 0)
            calls += 1
    return (encoded - began) / len(shard), (clock() - encoded) / calls / len(shard), calls


if __name__ == "__main__":
    from leakgauge.cli import end_with_parent, errors_in_one_line

    end_with_parent()
    with errors_in_one_line("estimate"):
        print(json.dumps(asdict(measure(sys.argv[1]))))
