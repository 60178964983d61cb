"""The engine of one machine: shard after shard in this process; the next one is read while one is scored."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from tqdm import tqdm

from stages.device import computed_on
from stages.engines.scorer import Scorer
from stages.engines.shards import npy

# the start of a shard, its scores as a .npy file, and what they were computed on
Save = Callable[[int, bytes, dict[str, str]], None]


def score_here(scorer: Scorer, starts: Sequence[int], save: Save, bar: tqdm) -> None:
    """Score the shards that start there, and save each as it is done."""
    with ThreadPoolExecutor(1) as ahead:
        reading = [ahead.submit(scorer.read, start) for start in starts[:1]]
        for start, after in zip(starts, [*starts[1:], None], strict=True):
            shard = reading.pop().result()
            if after is not None:
                reading.append(ahead.submit(scorer.read, after))
            save(start, npy(scorer.score(shard, bar.update)), computed_on(scorer.denoiser.device))
