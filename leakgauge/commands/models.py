"""what can be opened: kinds of model, and what to do about those that are refused

    leakgauge models

MODEL of `leakgauge audit`, or `model` of a target in params.yaml.
"""

import argparse

REFUSED = (
    ("LoRA and other adapters", "merge them into the pipeline's weights first"),
    ("pickled weights", "name the file: `target: {pickle: unet/diffusion_pytorch_model.bin}`; tensors alone are read"),
    ("weights beside those that are opened", "`target: {leave_out: ['unet_ema/*']}` says that they are no part of it"),
    ("code of the model's own", "never run"),
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """There are none."""


def run() -> int:
    """Print it.  The names are those that `leakgauge.diffusion.loading` opens."""
    from leakgauge.diffusion.loading import AUTOENCODERS, NETWORKS, SCHEDULERS

    rows = [
        ("diffusers pipeline folder", "model_index.json, scheduler/, unet/ or transformer/; safetensors"),
        ("  networks", ", ".join(NETWORKS)),
        ("  processes", ", ".join(SCHEDULERS)),
        ("  autoencoders", ", ".join(AUTOENCODERS)),
        ("  conditions", "none, classes, captions (CLIP text encoders: pip install 'leakgauge[text]')"),
        ("pipeline on the Hub", "owner/name@ and the full hash of a commit"),
        ("pytorch-ddpm checkpoint", "a folder with ckpt.pt and flagfile.txt: its ema_model"),
        ("scores from elsewhere", "a Parquet file: image_id, role and columns of scores, lower for members"),
        ("trained here", "model: leakgauge/diffusion/training.py trains it on the members"),
    ]
    _table("Can be opened", rows)
    _table("Is refused, in one line", list(REFUSED))
    return 0


def _table(title: str, rows: list[tuple[str, str]]) -> None:
    import textwrap

    print(title)
    for name, text in rows:
        first, *more = textwrap.wrap(text, 80)
        print(f"  {name:<38}{first}")
        for line in more:
            print(" " * 40 + line)
    print()
