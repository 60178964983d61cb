"""Conditioning of a network, its input beside x_t and t: nothing, the image's class, or a text.

| network | `given` | `none` |
|---|---|---|
| unconditional | nothing | nothing |
| by class, UNet2DModel with K classes | the dataset's `label`, 0 ... K - 1 | class K - 1, if no image has it |
| by class, DiT with K classes | the dataset's `label`, 0 ... K - 1 | class K, which training dropped labels to |
| by text | the dataset's `caption` | the empty prompt |
| by text, SDXL with `force_zeros_for_empty_prompt` | the dataset's `caption` | zeros, as training dropped captions |
| by text, Lumina 2 | a system prompt, then the dataset's `caption` | the empty prompt alone |
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from leakgauge.errors import InputError, warn

Use = Literal["given", "none"]
Labels = list[int | None]
Captions = list[str | None]
Column = Literal["label", "caption"]
Inputs = dict[str, Tensor]  # what a batch adds to a call of the network, by name
Conditioning = Tensor | Captions | None  # of each of some images: its class, (N,) int64, or its prompt; None: nothing


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

    def inputs(self, conditioning: Conditioning) -> Inputs:
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

    def inputs(self, conditioning: Conditioning) -> Inputs:
        """What a batch of these classes, (B,) int64, adds to a call of the network."""
        if not isinstance(conditioning, Tensor):
            raise ValueError("a class-conditional network needs classes")
        return {"class_labels": conditioning}


class ByText:
    """Prompts, through the pipeline's own tokenizers and text encoders; see `texts`.

    encode : from a prompt to the network's inputs, by name, each (1, ...).  none : those of no prompt, where they are
    not those of the empty prompt.  learnt : the token of each textual inversion -> whether a prompt contains it.
    """

    def __init__(
        self,
        encode: Callable[[str], Inputs],
        none: Callable[[], Inputs] | None = None,
        learnt: Mapping[str, Callable[[str], bool]] | None = None,
    ) -> None:
        self._encode, self._none, self._learnt = encode, none, learnt or {}
        self._last: dict[str | None, Inputs] = {}  # of the last batch: the next often has the same prompts

    def column(self, use: Use) -> Column | None:
        """The column of the dataset that the network is conditioned on."""
        return "caption" if use == "given" else None

    def conditioning(self, labels: Labels, captions: Captions, use: Use) -> Conditioning:
        """The prompt of each image.

        Raises InputError where captions are asked for and an image has none, and for a textual inversion whose token no
        prompt contains.
        """
        if use == "given" and None in captions:
            raise InputError(
                "the target is conditional on text, and images have no caption (`caption` in a Parquet dataset); "
                "set it to none, the empty prompt"
            )
        prompts: Captions = captions if use == "given" else [None] * len(captions)
        for token in self._learnt if prompts else ():
            self._check_learnt(token, prompts, use)
        return prompts

    def _check_learnt(self, token: str, prompts: Captions, use: Use) -> None:
        """Raise InputError where no prompt contains the token of a textual inversion; warn where some lack it."""
        lacking = sum(count for prompt, count in Counter(prompts).items() if not self._learnt[token](prompt or ""))
        if lacking == len(prompts):
            raise InputError(
                f"{use}, but no prompt contains '{token}', the token of a textual inversion, which thus changes no "
                f"score: write captions as in its training ('a photo of {token}') and set it to given, or leave the "
                "textual inversion out"
            )
        if lacking:
            warn(
                f"{lacking} of {len(prompts)} captions lack '{token}', the token of a textual inversion: it does not "
                "change their scores"
            )

    def sample_conditions(self, count: int) -> Conditioning:
        """No prompts."""
        return [None] * count

    def inputs(self, conditioning: Conditioning) -> Inputs:
        """What a batch of these prompts adds to a call of the network."""
        if not isinstance(conditioning, list):
            raise ValueError("a network conditional on text needs prompts")
        return self.embed(conditioning)

    def embed(self, prompts: Captions) -> Inputs:
        """The network's inputs, by name, each (B, ...).  A prompt is encoded once, by itself; None is no prompt."""
        self._last = {prompt: self._last.get(prompt) or self._embed(prompt) for prompt in dict.fromkeys(prompts)}
        embedded = [self._last[prompt] for prompt in prompts]
        return {name: torch.cat([one[name] for one in embedded]) for name in embedded[0]}

    @torch.inference_mode()
    def _embed(self, prompt: str | None) -> Inputs:
        if prompt is None and self._none:
            return self._none()
        return self._encode(prompt or "")


Condition = Unconditional | ByClass | ByText
UNCONDITIONAL = Unconditional()
