"""A LoRA of eight epochs, to be audited epoch by epoch.

    python -m benchmarks.fine_tunes.epochs DIR

Writes base/, a DDPM of 600 of scikit-learn's digits; epochs/, a LoRA of rank 64 on 100 other digits at eight points of
its training (an adapter of PEFT each); and images/, these 100 in members/ beside the 1,097 others.  Then, in an audit
project with the folder in it:

    leakgauge audit DIR/epochs DIR/images --members 'members/*' --base DIR/base --name lora
"""

from pathlib import Path

import numpy as np
import torch
from diffusers import DDPMPipeline
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from PIL import Image
from sklearn.datasets import load_digits

from benchmarks.fine_tunes.run import BASE, BASE_STEPS, LAYERS, MEMBERS, Way, _fine_tuned
from leakgauge.cli import parser_of
from leakgauge.diffusion.training import train
from leakgauge.options import Training

SEED, STEPS, EPOCHS = 0, 10, 8  # steps of an epoch, which looks at each image some six times
WAY = Way("LoRA of rank 64", 64, 1e-3, tuple(STEPS * (epoch + 1) for epoch in range(EPOCHS)))


def main() -> None:
    """Train, fine-tune, write."""
    parser = parser_of(main)
    parser.add_argument("folder", metavar="DIR", type=Path)
    folder = parser.parse_args().folder
    digits = np.round(load_digits().images * 255 / 16).astype(np.uint8)[:, None]  # (N, 1, 8, 8)
    order = np.random.default_rng(SEED).permutation(len(digits))
    members = order[BASE : BASE + MEMBERS]
    for number in order[BASE:]:
        file = folder / "images" / ("members" if number in members else "others") / f"{number:04d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(digits[number, 0]).save(file)
    pipeline, _ = train(torch.from_numpy(digits[order[:BASE]]), Training(seed=SEED, steps=BASE_STEPS), folder)
    DDPMPipeline(pipeline.unet, pipeline.scheduler).save_pretrained(folder / "base")
    for step, network in _fine_tuned(pipeline.unet, WAY, digits[members], SEED):
        if step in WAY.steps:
            config = LoraConfig(r=WAY.rank, lora_alpha=WAY.rank, target_modules=LAYERS)
            adapter = get_peft_model(DDPMPipeline.from_pretrained(folder / "base").unet, config)
            weights = get_peft_model_state_dict(network, adapter_name="default")
            set_peft_model_state_dict(adapter, {f"base_model.model.{name}": of for name, of in weights.items()})
            adapter.save_pretrained(folder / "epochs" / f"epoch_{step // STEPS}")


if __name__ == "__main__":
    main()
