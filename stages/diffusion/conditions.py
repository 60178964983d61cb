"""What a network is told beside x_t and t: nothing, the image's class, or a text.

| network | `given` | `none` |
|---|---|---|
| unconditional | nothing | nothing |
| by class, UNet2DModel with K classes | the dataset's `label`, 0 ... K - 1 | class K - 1, if no image has it |
| by class, DiT with K classes | the dataset's `label`, 0 ... K - 1 | class K, which training dropped labels to |
| by text | refused: a dataset has no captions | the empty prompt |
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError
from torch import Tensor

from stages.command import InputError

Use = Literal["given", "none"]
Labels = list[int | None]


@dataclass(frozen=True)
class Unconditional:
    """Nothing."""

    def classes(self, labels: Labels, use: Use) -> Tensor | None:
        """Nothing, whatever the dataset has."""
        return None

    def in_turn(self, count: int) -> Tensor | None:
        """Nothing to take turns."""
        return None

    def inputs(self, classes: Tensor | None, count: int) -> dict[str, Tensor]:
        """What `count` images add to a call of the network."""
        return {}


@dataclass(frozen=True)
class ByClass:
    """Classes 0, ..., count - 1; `null` stands for no class."""

    count: int
    null: int

    def classes(self, labels: Labels, use: Use) -> Tensor | None:
        """The class of each image, (N,) int64.  Raises InputError."""
        if use == "none":
            if self.null < self.count and self.null in labels:
                raise InputError(
                    f"the target has no class for no class: its last, {self.null}, is a label of the dataset; "
                    "set it to given"
                )
            return torch.full((len(labels),), self.null)
        for label in labels:
            if label is None:
                raise InputError("the target is conditional on classes, and images have no label; set it to none")
            if not 0 <= label < self.count:
                raise InputError(f"the target knows classes 0 to {self.count - 1}, an image has label {label}")
        return torch.tensor(labels)

    def in_turn(self, count: int) -> Tensor | None:
        """One class after another, (count,) int64."""
        return torch.arange(count) % self.count

    def inputs(self, classes: Tensor | None, count: int) -> dict[str, Tensor]:
        """What `count` images of these classes, (count,) int64, add to a call of the network."""
        if classes is None:
            raise ValueError("a class-conditional network needs classes")
        return {"class_labels": classes}


@dataclass(frozen=True)
class ByText:
    """The embedding of the empty prompt, (1, L, D) float32."""

    empty: Tensor

    def classes(self, labels: Labels, use: Use) -> Tensor | None:
        """Nothing: the prompt is empty.  Raises InputError where captions are asked for."""
        if use == "given":
            raise InputError(
                "the target is conditional on text, and datasets have no captions; set it to none, the empty prompt"
            )
        return None

    def in_turn(self, count: int) -> Tensor | None:
        """Nothing: the prompt is empty."""
        return None

    def inputs(self, classes: Tensor | None, count: int) -> dict[str, Tensor]:
        """What `count` images add to a call of the network."""
        return {"encoder_hidden_states": self.empty.expand(count, -1, -1)}


Condition = Unconditional | ByClass | ByText
UNCONDITIONAL = Unconditional()


def empty_prompt(folder: Path) -> Tensor:
    """What a pipeline's text encoder makes of the empty prompt, (1, L, D) float32.

    folder : with `tokenizer/` and `text_encoder/`, CLIP's.  Raises InputError.
    """
    try:
        from transformers import CLIPTextModel, CLIPTokenizer
        from transformers.utils import logging
    except ImportError:
        raise InputError(f"{folder}: is conditional on text: needs `pip install -e '.[text]'`") from None
    logging.disable_progress_bar()
    try:
        tokenizer = CLIPTokenizer.from_pretrained(folder, subfolder="tokenizer", local_files_only=True)
        encoder, loading = CLIPTextModel.from_pretrained(
            folder,
            subfolder="text_encoder",
            use_safetensors=True,
            local_files_only=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise InputError(f"{folder}: has no text encoder that can be read: {error}") from None
    if loading["missing_keys"]:
        raise InputError(f"{folder}: text_encoder weights are missing: {sorted(loading['missing_keys'])[0]}")
    length = tokenizer.model_max_length
    tokens = tokenizer("", padding="max_length", max_length=length, truncation=True, return_tensors="pt").input_ids
    with torch.inference_mode():
        embedding = encoder.eval()(tokens).last_hidden_state
    if not torch.isfinite(embedding).all():
        raise InputError(f"{folder}: text_encoder weights are not finite (NaN or inf)")
    return embedding.clone()
