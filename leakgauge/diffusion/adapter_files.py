"""The files of an adapter: which are taken, and what becomes of the others.

| form | taken of a folder |
|---|---|
| adapter of PEFT | adapter_config.json and adapter_model.safetensors, or those in the folder of each part (unet/) |
| LoRA, textual inversion | pytorch_lora_weights.safetensors, or learned_embeds.safetensors |

States of training (checkpoint-500/), and files that are no weights, are listed as not taken.  Other weights are
refused: two adapters in one folder may be meant together, and to leave one out in silence would audit another model.
"""

import re
from pathlib import Path

from leakgauge.diffusion.pipelines import TRAINING, WEIGHTS, Plan
from leakgauge.errors import InputError
from leakgauge.files import files_below

PEFT_CONFIG, PEFT_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
LORA, EMBEDDING = "pytorch_lora_weights.safetensors", "learned_embeds.safetensors"
STATE = re.compile(  # of training: what diffusers' scripts leave, and transformers' Trainer
    rf"{TRAINING.pattern}|learned_embeds-steps-\d+\.(safetensors|bin)|(optimizer|scheduler)\.pt|rng_state\w*\.pth"
    r"|training_args\.bin"
)
NAMED = 5  # of several files, so many are named in an error


def plan_adapter(adapter: Path) -> Plan:
    """Which files of an adapter are taken, by their names alone; of a file, itself.

    Raises InputError for a folder that holds none, or weights that are neither taken nor a state of training.
    """
    if not adapter.is_dir():
        return Plan({adapter.name: adapter.name}, [])
    names = [file.relative_to(adapter).as_posix() for file in files_below(adapter)]
    there = [name for name in names if not STATE.fullmatch(name)]
    weights = [name for name in there if name.endswith(WEIGHTS)]
    taken = _peft(there) or [name for name in (LORA, EMBEDDING) if name in there][:1]
    if not taken:
        raise InputError(f"{adapter}: {_instead(adapter, names, weights)}")
    if others := sorted({*weights} - {*taken}):
        raise InputError(
            f"{adapter}: holds {_few(others)} beside {', '.join(taken)}: name the one file that is the adapter (of "
            "PEFT: move the others away); those that go with it are named in target.adapters"
        )
    return Plan({name: name for name in taken}, [name for name in names if name not in taken])


def _peft(names: list[str]) -> list[str]:
    """Configurations and weights of an adapter of PEFT: of one in the folder, or else of one in each folder in it."""
    configs = [name for name in names if name == PEFT_CONFIG]
    configs = configs or [name for name in names if re.fullmatch(rf"[^/]+/{re.escape(PEFT_CONFIG)}", name)]
    weights = [name.removesuffix(PEFT_CONFIG) + PEFT_WEIGHTS for name in configs]
    return configs + [name for name in weights if name in names]


def _instead(adapter: Path, names: list[str], weights: list[str]) -> str:
    """What a folder holds that is no adapter, and what to do."""
    kinds = (LORA, EMBEDDING, PEFT_CONFIG)
    if states := sorted({Path(name).parts[0] for name in names if STATE.fullmatch(name) and name.endswith(kinds)}):
        return (
            f"holds states of training alone ({_few(states)}): name one of them, or have "
            f"`leakgauge audit {adapter} IMAGES` audit each of them, as a curve"
        )
    safetensors = [name for name in weights if name.endswith(".safetensors")]
    return f"holds {_few(safetensors) or 'no .safetensors'}: name the adapter's file itself"


def _few(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{', '.join(names[:NAMED])}{more}"
