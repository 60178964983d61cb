"""what can be opened: kinds of model, and what to do about those that are refused

    leakgauge models

MODEL of `leakgauge audit`, or `model` of a target in params.yaml.
"""

import argparse
import ast
import textwrap
from pathlib import Path

LOADING = Path(__file__).parents[1] / "diffusion/loading.py"
REFUSED = (
    ("adapters in a pipeline's folder", "audit the adapter itself, with --base FOLDER"),
    ("pickled weights", "name the file: `target: {pickle: unet/diffusion_pytorch_model.bin}`; tensors alone are read"),
    ("weights beside those that are opened", "`target: {leave_out: ['unet_ema/*']}` says that they are no part of it"),
    ("pickled checkpoints (.pt, .pkl, .pth)", "convert the weights to safetensors, beside a model.py: see examples/"),
    ("one file for a whole model, pickled (.ckpt)", "convert it to .safetensors: it is then fused into --base, whole"),
    (
        "other networks",
        "SDXL's refiner, Kandinsky, Stable Cascade, AuraFlow, CogView, Qwen-Image, FLUX 2: scores from elsewhere",
    ),
    (
        "schedulers of other noise processes",
        "KarrasVe, IPNDM, CogVideoX, Wuerstchen, consistency models, discrete tokens: scores from elsewhere",
    ),
    (
        "DPMSolverSDEScheduler (torchsde)",
        "write DPMSolverMultistepScheduler in scheduler_config.json: the noise process is the same",
    ),
    (
        "networks that take another image",
        "inpainting, depth, upscaling, instruct-pix2pix, Flux Kontext: scores from elsewhere",
    ),
    ("latent consistency models", "networks with time_cond_proj_dim: scores from elsewhere"),
    ("code beside a pipeline", "is never run; a model of your own is a folder with model.py, run with --run-code"),
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """There are none."""


def run() -> int:
    """Print it.  The names are those that `leakgauge.diffusion.loading` opens."""
    rows = [
        ("diffusers pipeline folder", "model_index.json, scheduler/, unet/ or transformer/; safetensors"),
        ("  networks", ", ".join(constant("NETWORKS"))),
        ("  processes", ", ".join(constant("SCHEDULERS"))),
        ("  autoencoders", ", ".join(constant("AUTOENCODERS"))),
        ("  conditioning", "none, classes, captions (CLIP, T5, BERT, Gemma 2: pip install -e '.[text]')"),
        ("LoRA and other adapters", "of diffusers, kohya or PEFT, fused into --base: pip install -e '.[lora]'"),
        ("one file for a whole model", ".safetensors, laid out as its --base: pip install -e '.[lora]'"),
        ("pipeline on the Hub", "owner/name@ and the full hash of a commit"),
        ("a model of your own", "a folder with model.py, whose `load` opens it: --run-code"),
        (
            "  other training codes",
            "denoising-diffusion-pytorch, guided-diffusion, improved-diffusion, EDM, MONAI: model.py in examples/",
        ),
        ("pytorch-ddpm checkpoint", "a folder with ckpt.pt and flagfile.txt: its ema_model"),
        (
            "scores from elsewhere",
            "CSV or Parquet: image_id, is_member or role, and scores, lower for members",
        ),
        ("trained here", "model: leakgauge/diffusion/training.py trains it on the members"),
    ]
    _table("Can be opened", rows)
    print()
    _table("Is refused, in one line", list(REFUSED))
    return 0


def constant(name: str) -> list[str]:
    """The words in a constant of `leakgauge.diffusion.loading`, read there: to import it takes seconds, for torch."""
    for node in ast.parse(LOADING.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == [name]:
            return [str(part.value) for part in ast.walk(node.value) if isinstance(part, ast.Constant)]
    raise KeyError(name)


def _table(title: str, rows: list[tuple[str, str]]) -> None:
    print(title)
    for name, text in rows:
        first, *more = textwrap.wrap(text, 80)
        print(f"  {name:<38}{first}")
        for line in more:
            print(" " * 40 + line)
