"""Conditioning of a network, its input beside x_t and t: nothing, the image's class, or a text.

| network | `given` | `none` |
|---|---|---|
| unconditional | nothing | nothing |
| by class, UNet2DModel with K classes | the dataset's `label`, 0 ... K - 1 | class K - 1, if no image has it |
| by class, DiT with K classes | the dataset's `label`, 0 ... K - 1 | class K, which training dropped labels to |
| by text | the dataset's `caption` | the empty prompt |
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from torch import Tensor

from leakgauge.errors import InputError

Use = Literal["given", "none"]
Labels = list[int | None]
Captions = list[str | None]
Column = Literal["label", "caption"]
Conditioning = Tensor | list[str] | None  # of each of some images: its class, (N,) int64, or its prompt; None: nothing


@dataclass(frozen=True)
class Unconditional:
    """Nothing."""

    def column(self, use: Use) -> Column | None:
        """The column of the dataset that the network is conditioned on."""
        return None

    def conditioning(self, labels: Labels, captions: Captions, use: Use) -> Conditioning:
        """Nothing, whatever the dataset has."""
        return None

    def sample_conditions(self, count: int) -> Conditioning:
        """Nothing to take turns."""
        return None

    def inputs(self, conditioning: Conditioning) -> dict[str, Tensor]:
        """What a batch adds to a call of the network."""
        return {}


@dataclass(frozen=True)
class ByClass:
    """Classes 0, ..., count - 1; `null` stands for no class."""

    count: int
    null: int

    def column(self, use: Use) -> Column | None:
        """The column of the dataset that the network is conditioned on."""
        return "label" if use == "given" else None

    def conditioning(self, labels: Labels, captions: Captions, use: Use) -> Conditioning:
        """The class of each image, (N,) int64.  Raises InputError."""
        if use == "none":
            if self.null < self.count and self.null in labels:
                raise InputError(
                    f"unconditional scoring needs a null class, but class {self.null} is a label of the dataset; "
                    "set it to given"
                )
            return torch.full((len(labels),), self.null)
        for label in labels:
            if label is None:
                raise InputError(
                    "the target is conditional on classes, and images have no label: name a folder's classes by "
                    "`classes` in the dataset's entry, or set it to none"
                )
            if not 0 <= label < self.count:
                raise InputError(f"the target knows classes 0 to {self.count - 1}, an image has label {label}")
        return torch.tensor(labels)

    def sample_conditions(self, count: int) -> Conditioning:
        """One class after another, (count,) int64."""
        return torch.arange(count) % self.count

    def inputs(self, conditioning: Conditioning) -> dict[str, Tensor]:
        """What a batch of these classes, (B,) int64, adds to a call of the network."""
        if not isinstance(conditioning, Tensor):
            raise ValueError("a class-conditional network needs classes")
        return {"class_labels": conditioning}


class ByText:
    """Prompts, through the pipeline's own tokenizer and text encoder."""

    def __init__(self, tokenizer: Any, encoder: Any) -> None:
        self.tokenizer, self.encoder = tokenizer, encoder

    def column(self, use: Use) -> Column | None:
        """The column of the dataset that the network is conditioned on."""
        return "caption" if use == "given" else None

    def conditioning(self, labels: Labels, captions: Captions, use: Use) -> Conditioning:
        """The prompt of each image.  Raises InputError where captions are asked for and an image has none."""
        if use == "none":
            return [""] * len(captions)
        prompts = [caption for caption in captions if caption is not None]
        if len(prompts) < len(captions):
            raise InputError(
                "the target is conditional on text, and images have no caption (`caption` in a Parquet dataset); "
                "set it to none, the empty prompt"
            )
        return prompts

    def sample_conditions(self, count: int) -> Conditioning:
        """Empty prompts."""
        return [""] * count

    def inputs(self, conditioning: Conditioning) -> dict[str, Tensor]:
        """What a batch of these prompts adds to a call of the network."""
        if not isinstance(conditioning, list):
            raise ValueError("a network conditional on text needs prompts")
        return {"encoder_hidden_states": self.embed(conditioning)}

    @torch.inference_mode()
    def embed(self, prompts: list[str]) -> Tensor:
        """(B, L, D) float32; a prompt that is too long loses its end.  Each prompt is encoded once."""
        distinct = list(dict.fromkeys(prompts))
        length = self.tokenizer.model_max_length
        options = {"padding": "max_length", "max_length": length, "truncation": True, "return_tensors": "pt"}
        embedded = [self.encoder(self.tokenizer(prompt, **options).input_ids).last_hidden_state for prompt in distinct]
        return torch.cat(embedded)[[distinct.index(prompt) for prompt in prompts]].clone()


Condition = Unconditional | ByClass | ByText
UNCONDITIONAL = Unconditional()


def open_text(folder: Path) -> ByText:
    """The tokenizer and the text encoder of a pipeline, CLIP's.

    folder : with `tokenizer/` and `text_encoder/`.  Raises InputError.
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
    text = ByText(tokenizer, encoder.eval().requires_grad_(False))
    if not torch.isfinite(text.embed([""])).all():
        raise InputError(f"{folder}: text_encoder weights are not finite (NaN or inf)")
    return text
