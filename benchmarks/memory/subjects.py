"""What stages are measured on: CIFAR-10 images of any number, one role, in a folder made for the purpose.

Images, their PNGs and hashes are real.  Features and the scores that `fit` learns are drawn at random: a stage's
memory does not depend on them.  Everything is made a row group at a time.
"""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from PIL import Image
from ruamel.yaml import YAML

from benchmarks.synthetic import REPOSITORY, write_options
from leakgauge.tables import ROW_GROUP, image_table, write_pieces

IMAGES = ("cifar10-train.parquet", "cifar10-test.parquet")
SCORED, FITTED = "scored", "fitted"  # targets: of a small network, and of no more than scores
FEATURES = 470  # as many as a colour image has
LEARNERS = {  # of params.yaml, and cheap
    "gbm": {"trees": 20, "scale_trees": 5},
    "mlp": {"epochs": 2},
    "resnet": {"epochs": 1, "width": 4},
}
ATTACKS = {  # three network calls an image
    "t_error": {"interval": 10, "last": 10},
    "pia": [],
    "pian": [],
    "naive_loss": [],
    "sima": [],
    "rediffuse": {"timesteps": [], "stride": 50, "draws": 1},
    "noise_seed": 0,
}


def write_subjects(folder: Path, data: Path, images: int) -> None:
    """Write what `score scored auxiliary` and `fit fitted <learner>` read.  data : the folder with `IMAGES`."""
    _write_options(folder)
    _write_network(folder / f"models/target/{SCORED}")
    ids = [f"{row:05d}" for row in range(images)]
    for target in (SCORED, FITTED):
        facts = {"target": target, "role": "auxiliary"}
        write_pieces(folder / f"data/roles/{target}/auxiliary.parquet", _images(data, images), facts)
        write_pieces(folder / f"data/features/{target}/auxiliary.parquet", _features(ids), facts)
    facts = {"target": FITTED, "role": "auxiliary", "target_sha256": "drawn", "columns": {"loss": {}}}
    loss = np.random.default_rng(0).lognormal(size=images)
    table = pa.table({"image_id": ids, "loss": loss})
    write_pieces(folder / f"data/scores/{FITTED}/auxiliary.parquet", [table], facts)


def _write_options(folder: Path) -> None:
    """params.yaml, and what stages read of it."""
    params = YAML(typ="safe").load((REPOSITORY / "params.yaml").read_text(encoding="utf-8"))
    entry = next(iter(params["targets"].values()))
    params["targets"] = {SCORED: entry, FITTED: entry | {"model": "scores.parquet", "fit": {"scores": ["loss"]}}}
    params["learners"] = {name: params["learners"][name] | options for name, options in LEARNERS.items()}
    params["score"]["attacks"] = ATTACKS
    params["fit"] |= {"scores": ["t_error_t10"], "bag_size": 2}
    write_options(folder, params)


def _write_network(folder: Path) -> None:
    network = UNet2DModel(
        sample_size=32,
        in_channels=3,
        out_channels=3,
        layers_per_block=1,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D",) * 2,
        up_block_types=("UpBlock2D",) * 2,
        norm_num_groups=8,
        add_attention=False,
    )
    DDPMPipeline(network, DDPMScheduler()).save_pretrained(folder)


def _images(data: Path, count: int) -> Iterator[pa.Table]:
    """The first `count` images of both files, as the `IMAGES` contract of leakgauge.tables has them."""
    start = 0
    for name in IMAGES:
        for batch in pq.ParquetFile(data / name).iter_batches(ROW_GROUP // 4, columns=["image", "label"]):
            batch = batch.slice(0, count - start)
            if not len(batch):
                return
            ids = [f"{row:05d}" for row in range(start, start + len(batch))]
            pixels = np.stack([_decoded(row["bytes"].as_py()) for row in batch.column("image")])
            yield image_table(ids, pixels, batch.column("label").to_pylist(), [None] * len(ids))
            start += len(batch)


def _decoded(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as picture:
        return np.asarray(picture.convert("RGB"))


def _features(ids: list[str]) -> Iterator[pa.Table]:
    rng = np.random.default_rng(0)
    for start in range(0, len(ids), ROW_GROUP):
        here = ids[start : start + ROW_GROUP]
        drawn = rng.standard_normal((len(here), FEATURES), dtype=np.float32)
        labels = pa.array(np.zeros(len(here), dtype=np.int64))
        yield pa.table({"image_id": here, "label": labels} | {f"s{i}": drawn[:, i] for i in range(FEATURES)})
