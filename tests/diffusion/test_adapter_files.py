"""The files of an adapter: each is taken, listed as not taken, or refused by name."""

from pathlib import Path

import pytest

from leakgauge.diffusion.adapter_files import plan_adapter
from leakgauge.errors import InputError

LORA, EMBEDDING = "pytorch_lora_weights.safetensors", "learned_embeds.safetensors"
PEFT = ("adapter_config.json", "adapter_model.safetensors")
IN_UNET, IN_TEXT = ([f"{part}/{name}" for name in PEFT] for part in ("unet", "text_encoder"))
STATES = ["optimizer.bin", "random_states_0.pkl", "scheduler.bin"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Makes a folder of empty files of these names; returns it."""
    monkeypatch.chdir(tmp_path)

    def make(names: list[str]) -> Path:
        for name in names:
            (Path("lora") / name).parent.mkdir(parents=True, exist_ok=True)
            (Path("lora") / name).write_bytes(b"")
        return Path("lora")

    return make


@pytest.mark.parametrize(
    ("taken", "not_taken"),
    [
        ([LORA], ["README.md", "logs/events", *(f"checkpoint-500/{name}" for name in (LORA, "model.safetensors"))]),
        ([LORA], [f"checkpoint-500/{name}" for name in STATES]),
        ([LORA], STATES),
        ([EMBEDDING], ["learned_embeds-steps-500.safetensors"]),
        ([*PEFT], ["README.md", *(f"checkpoint-500/{name}" for name in (*PEFT, "optimizer.pt", "rng_state.pth"))]),
        ([*IN_UNET, *IN_TEXT], ["training_args.bin", *(f"checkpoint-500/{name}" for name in PEFT)]),
    ],
)
def test_states_of_training_and_files_that_are_no_weights_are_listed(folder, taken, not_taken):
    plan = plan_adapter(folder([*taken, *not_taken]))
    assert sorted(plan.taken) == sorted(taken)
    assert plan.not_taken == sorted(not_taken)


@pytest.mark.parametrize(
    ("taken", "beside"),
    [
        ([LORA], ["style.safetensors"]),
        ([LORA], [EMBEDDING]),
        ([LORA], ["pytorch_lora_weights.bin"]),
        ([LORA], ["later/pytorch_lora_weights.safetensors"]),
        ([*PEFT], [LORA]),
        ([*PEFT], ["text_encoder/adapter_model.safetensors"]),
        ([*IN_UNET], ["adapter_model.safetensors", "unet/lora.safetensors"]),
    ],
)
def test_weights_beside_those_that_are_taken_are_refused_by_name(folder, taken, beside):
    with pytest.raises(InputError) as error:
        plan_adapter(folder([*taken, *beside]))
    assert str(error.value) == (
        f"lora: holds {', '.join(beside)} beside {', '.join(taken)}: name the one file that is the adapter (of PEFT: "
        "move the others away); those that go with it are named in target.adapters"
    )


def test_a_folder_of_checkpoints_alone_is_refused_with_what_to_do(folder):
    made = folder([f"checkpoint-{step}/{name}" for step in (250, 500) for name in (LORA, *STATES)])
    with pytest.raises(InputError) as error:
        plan_adapter(made)
    assert str(error.value) == (
        "lora: holds states of training alone (checkpoint-250, checkpoint-500): name one of them, or have "
        "`leakgauge audit lora IMAGES` audit each of them, as a curve"
    )


def test_of_many_files_five_are_named(folder):
    with pytest.raises(InputError, match=r"holds 0.safetensors, 1.+, 4.safetensors and 3 more: name the adapter's"):
        plan_adapter(folder([f"{number}.safetensors" for number in range(8)]))


def test_an_adapter_in_an_inner_folder_is_no_state_of_training(folder):
    with pytest.raises(InputError, match=rf"^lora: holds later/{LORA}: name the adapter's file itself$"):
        plan_adapter(folder([f"later/{LORA}"]))
