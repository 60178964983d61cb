"""Checkpoints of pytorch-ddpm (github.com/w86763777/pytorch-ddpm) as diffusers pipelines.

Most of this literature attacks models of that code (SecMI, PIA, Tang et al., ...): the UNet of Ho et al., "Denoising
Diffusion Probabilistic Models", NeurIPS 2020.  A target is a folder with its checkpoint and `flagfile.txt`, the
options it was trained with.  diffusers' UNet2DModel is the same network under other names.  One thing is kept as it
is there: the embedding of a timestep is a row of a table, sines and cosines interleaved, among the weights.
"""

from itertools import count
from pathlib import Path
from typing import Annotated, Literal

import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from pydantic import BaseModel, Field, NonNegativeInt, ValidationError
from torch import Tensor

from leakgauge.diffusion.pipelines import check_weights, load_checkpoint
from leakgauge.errors import InputError
from leakgauge.files import files_below

FLAGFILE = "flagfile.txt"
PREDICTION = {"epsilon": "epsilon", "xstart": "sample"}  # mean_type -> diffusers' prediction_type
VARIANCE = {"fixedlarge": "fixed_large", "fixedsmall": "fixed_small"}
RESIDUAL = {  # the parts of a residual block there -> here
    "block1.0": "norm1",
    "block1.2": "conv1",
    "temb_proj.1": "time_emb_proj",
    "block2.0": "norm2",
    "block2.3": "conv2",
    "shortcut": "conv_shortcut",
}
ATTENTION = {
    "attn.group_norm": "group_norm",
    "attn.proj_q": "to_q",
    "attn.proj_k": "to_k",
    "attn.proj_v": "to_v",
    "attn.proj": "to_out.0",
}


class Flags(BaseModel):
    """The options in a flagfile that decide the network and its noise; the others are about its training."""

    T: Annotated[int, Field(gt=0, le=100_000)]
    ch: Annotated[int, Field(gt=0, le=2**14, multiple_of=32)]  # its GroupNorm has 32 groups
    ch_mult: list[Annotated[int, Field(gt=0, le=64)]]
    attn: list[NonNegativeInt] = []  # levels with attention, from 0; absl writes no line for an empty list
    num_res_blocks: Annotated[int, Field(gt=0, le=64)]
    beta_1: Annotated[float, Field(gt=0, lt=1)]
    beta_T: Annotated[float, Field(gt=0, lt=1)]  # noqa: N815, its name there
    mean_type: Literal["epsilon", "xstart"]
    var_type: Literal["fixedlarge", "fixedsmall"] = "fixedlarge"  # of sampling alone
    img_size: Annotated[int, Field(gt=0, le=2**14)]


def pytorch_ddpm_pipeline(folder: Path) -> DDPMPipeline:
    """The averaged model (`ema_model`) of a folder with `ckpt.pt`, or one other `.pt` file, and `flagfile.txt`.

    Raises InputError, naming the file, if either is missing or damaged, or if they do not belong to one network:
    no weight is made up and none is left out.
    """
    files_below(folder)  # no link leads out of it
    flags, path = read_flags(folder / FLAGFILE), _checkpoint_file(folder)
    checkpoint = load_checkpoint(path)
    if "ema_model" not in checkpoint:
        found = ", ".join(sorted(map(str, checkpoint))[:5]) or "nothing"
        raise InputError(f"{path}: has no 'ema_model', the averaged weights that are attacked (it has {found})")
    weights = check_weights(path, checkpoint["ema_model"])
    weights = {name.removeprefix("module."): weight for name, weight in weights.items()}  # of DataParallel
    head = weights.get("head.weight")  # (ch, channels of an image, 3, 3)
    with torch.device("meta"):  # no memory is taken before it is clear that the weights fit
        unet = _make_unet(flags, 3 if head is None or head.ndim != 4 else head.shape[1])
    unet.load_state_dict(_renamed(path, weights, unet, flags), assign=True)
    return DDPMPipeline(unet, _make_scheduler(flags))


def read_flags(path: Path) -> Flags:
    """The options in a flagfile of absl: a line `--name=value` each, repeated for a list.  Raises InputError."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        raise InputError(f"{path}: not found, or no text: it holds the network's options, --T=1000 and so on") from None
    values: dict[str, list[str]] = {}
    for line in lines:
        name, _, value = line.strip().lstrip("-").partition("=")
        values.setdefault(name, []).append(value)
    lists = ("ch_mult", "attn")
    try:
        flags = Flags.model_validate({name: found if name in lists else found[-1] for name, found in values.items()})
    except ValidationError as error:
        first = error.errors()[0]
        found = "is missing" if first["type"] == "missing" else f"{first['msg']}, found {first['input']!r}"
        raise InputError(f"{path}: --{first['loc'][0]}: {found}") from None
    levels = len(flags.ch_mult)
    if flags.ch_mult[0] != 1:  # UNet2DModel has one width for the first convolution and the first level
        raise InputError(f"{path}: --ch_mult={flags.ch_mult[0]}: the first level must be as wide as --ch: --ch_mult=1")
    if max(flags.attn, default=0) >= levels:
        raise InputError(f"{path}: --attn={max(flags.attn)}: there are {levels} levels (--ch_mult), counted from 0")
    if flags.img_size % 2 ** (levels - 1):
        raise InputError(f"{path}: --img_size={flags.img_size} does not halve {levels - 1} times, as --ch_mult asks")
    return flags


def _checkpoint_file(folder: Path) -> Path:
    """`ckpt.pt`, as the trainer calls it, or the only `.pt` there is: some are published as ckpt-step<n>.pt."""
    files = sorted(file for file in folder.glob("*.pt") if file.is_file())
    if folder / "ckpt.pt" in files:
        return folder / "ckpt.pt"
    if len(files) != 1:
        found = ", ".join(file.name for file in files) or "no .pt file"
        raise InputError(f"{folder}: expected a folder with ckpt.pt and {FLAGFILE}, found {found}")
    return files[0]


def _make_unet(flags: Flags, channels: int) -> UNet2DModel:
    levels = range(len(flags.ch_mult))
    return UNet2DModel(
        sample_size=flags.img_size,
        in_channels=channels,
        out_channels=channels,
        block_out_channels=tuple(flags.ch * multiple for multiple in flags.ch_mult),
        layers_per_block=flags.num_res_blocks,
        down_block_types=tuple("AttnDownBlock2D" if i in flags.attn else "DownBlock2D" for i in levels),
        up_block_types=tuple("AttnUpBlock2D" if i in flags.attn else "UpBlock2D" for i in reversed(levels)),
        attention_head_dim=None,  # one head, as wide as the level
        norm_num_groups=32,
        norm_eps=1e-5,
        time_embedding_type="learned",  # the checkpoint's own table, (T, ch)
        num_train_timesteps=flags.T,
    ).eval()


def _make_scheduler(flags: Flags) -> DDPMScheduler:
    return DDPMScheduler(
        num_train_timesteps=flags.T,
        beta_start=flags.beta_1,
        beta_end=flags.beta_T,
        beta_schedule="linear",
        prediction_type=PREDICTION[flags.mean_type],
        variance_type=VARIANCE[flags.var_type],
        clip_sample=False,  # its sampler clips the finished image alone
    )


def _renamed(path: Path, weights: dict[str, Tensor], unet: UNet2DModel, flags: Flags) -> dict[str, Tensor]:
    """The weights under the names and in the shapes of `unet`.  Raises InputError unless they fit one to one."""
    expected = unet.state_dict()
    names = {
        f"{theirs}.{kind}": f"{ours}.{kind}"
        for theirs, ours in _modules(flags).items()
        for kind in ("weight", "bias")
        if f"{ours}.{kind}" in expected
    }
    for fault, keys in (("lacks", names.keys() - weights.keys()), ("has besides", weights.keys() - names.keys())):
        if keys:
            raise InputError(
                f"{path}: does not fit {FLAGFILE} (--ch_mult, --attn, --num_res_blocks): "
                f"{fault} {len(keys)} weights, the first is '{min(keys)}'"
            )
    renamed = {}
    for theirs, ours in names.items():
        weight, shape = weights[theirs].float(), expected[ours].shape
        if weight.shape != shape and weight.shape == (*shape, 1, 1):  # attention is made of 1x1 convolutions there
            weight = weight[:, :, 0, 0]
        if weight.shape != shape:
            raise InputError(
                f"{path}: does not fit {FLAGFILE} (--T, --ch, --ch_mult): "
                f"'{theirs}' is of shape {tuple(weight.shape)}, expected {tuple(shape)}"
            )
        renamed[ours] = weight
    return renamed


def _modules(flags: Flags) -> dict[str, str]:
    """Every module of the checkpoint that could have weights -> the module of UNet2DModel that it is."""
    modules = {
        "time_embedding.timembedding.0": "time_proj",
        "time_embedding.timembedding.1": "time_embedding.linear_1",
        "time_embedding.timembedding.3": "time_embedding.linear_2",
        "head": "conv_in",
        "tail.0": "conv_norm_out",
        "tail.2": "conv_out",
    }
    last, down, up = len(flags.ch_mult) - 1, count(), count()  # its lists have residual blocks and resamplings in a row
    for level in range(last + 1):
        for i in range(flags.num_res_blocks):
            modules |= _residual(f"downblocks.{next(down)}", f"down_blocks.{level}", i)
        if level < last:
            modules[f"downblocks.{next(down)}.main"] = f"down_blocks.{level}.downsamplers.0.conv"
        for i in range(flags.num_res_blocks + 1):
            modules |= _residual(f"upblocks.{next(up)}", f"up_blocks.{level}", i)
        if level < last:
            modules[f"upblocks.{next(up)}.main"] = f"up_blocks.{level}.upsamplers.0.conv"
    return modules | _residual("middleblocks.0", "mid_block", 0) | _residual("middleblocks.1", "mid_block", 1)


def _residual(theirs: str, ours: str, i: int) -> dict[str, str]:
    """The modules of one residual block and of its attention, if it has one."""
    residual = {f"{theirs}.{there}": f"{ours}.resnets.{i}.{here}" for there, here in RESIDUAL.items()}
    return residual | {f"{theirs}.{there}": f"{ours}.attentions.{i}.{here}" for there, here in ATTENTION.items()}
