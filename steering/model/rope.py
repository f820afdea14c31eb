"""Rotary embeddings whose factor depends on the length of the sequence (`longrope`): one factor per row, never per batch.

1. Up to the limit of the original context such a model turns queries and keys by its short factors, beyond it by the long ones, at every
   position. The library picks by the largest position of a batch, so that a row would change with its neighbours; here rows of both sides
   are never read together (`groups`), and a pass is held to its rows' side (`fixed`).
2. Keys in a cache have been turned. A row that would pass the limit while it is written is refused, with the lengths that can be run.
3. `dynamic` factors begin beyond the context, which is refused anyway; other kinds (`linear`, `yarn`, `llama3`) do not depend on it.
4. A model that picks its factors in another way than the library's is held to its short ones: its context is the limit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from ..errors import BadInput
from .layout import text_config

KIND = "longrope"
HELD = "default"
"""The kind under which the library leaves the factors as they are."""


@dataclass(frozen=True)
class _Part:
    """The factors of one rotary module, or of its layers of one type."""

    module: Any
    layer_type: str | None
    short: Tensor
    long: Tensor

    @property
    def name(self) -> str:
        return "inv_freq" if self.layer_type is None else f"{self.layer_type}_inv_freq"


@dataclass(frozen=True)
class Rope:
    """How a model's rotary factors depend on length. Without a limit they do not, and everything here costs nothing."""

    limit: int | None = None
    """Longest sequence, in tokens, that is read with the short factors."""
    parts: tuple[_Part, ...] = ()

    @property
    def held(self) -> bool:
        """Whether passes can be held to a side."""
        return bool(self.parts)

    def long(self, length: int) -> bool:
        """Whether a sequence of `length` tokens is read with the long factors."""
        return self.limit is not None and length > self.limit

    def groups(self, lengths: Sequence[int]) -> list[list[int]]:
        """The indices of sequences that may be read together, in order."""
        sides = [self.long(length) for length in lengths]
        return [found for side in (False, True) if (found := [n for n, own in enumerate(sides) if own == side])]

    def check_row(self, where: str, prompt: int, new: int) -> None:
        """Raises BadInput for a row that would pass the limit while it is written (its last token is not read)."""
        if self.limit is None or self.long(prompt) or not self.long(prompt + new - 1):
            return
        raise BadInput(
            f"{where}: {prompt} prompt tokens + max_new_tokens {new} pass {self.limit}, where this model's rotary factors change, so that "
            f"the whole text would have to be read anew. Set max_new_tokens to at most {self.limit - prompt + 1}, or give a prompt of "
            f"more than {self.limit} tokens."
        )

    def check_together(self, lengths: Sequence[int]) -> None:
        """Raises BadInput when sequences that are read in one pass lie on both sides of the limit."""
        if len(self.groups(lengths)) > 1:
            raise BadInput(
                f"The sequences have {min(lengths)} to {max(lengths)} tokens, on both sides of {self.limit}, where this model's rotary "
                f"factors change; they cannot be read together. Give those of up to {self.limit} tokens and the longer ones in calls of "
                f"their own."
            )

    def check_short(self, lengths: Sequence[int]) -> None:
        """Raises BadInput for a sequence beyond the limit, where it is read in parts that must all use one side's factors."""
        if any(map(self.long, lengths)):
            raise BadInput(
                f"A text has {max(lengths)} tokens; this is done up to {self.limit} only, where this model's rotary factors change. Cut "
                f"the text."
            )

    @contextmanager
    def fixed(self, long: bool) -> Iterator[None]:
        """Passes in this context use the factors of one side, whatever positions they hold."""
        kinds = [(part.module, part.module.rope_type) for part in self.parts]
        try:
            for part in self.parts:
                factors = getattr(part.module, part.name)
                factors.copy_((part.long if long else part.short).to(factors))
                own = part.module.rope_type
                part.module.rope_type = HELD if part.layer_type is None else {**own, part.layer_type: HELD}
            yield
        finally:
            for module, kind in reversed(kinds):
                module.rope_type = kind


@torch.no_grad()
def rope_of(model: nn.Module) -> Rope:
    """How the rotary factors of a model depend on length."""
    config = text_config(model.config)
    given = getattr(config, "rope_parameters", None) or {}
    kinds = {None: given} if "rope_type" in given else given
    limits = [int(own["original_max_position_embeddings"]) for own in kinds.values()
              if isinstance(own, dict) and own.get("rope_type") == KIND]  # fmt: skip
    if not limits:
        return Rope()
    parts = []
    for module in model.modules():
        own = getattr(module, "rope_type", None)
        for layer_type, kind in own.items() if isinstance(own, dict) else ((None, own),):
            prefix = "" if layer_type is None else f"{layer_type}_"
            if kind == KIND and hasattr(module, f"{prefix}original_inv_freq"):
                length = 1 + int(kinds[layer_type]["original_max_position_embeddings"])
                long, _ = ROPE_INIT_FUNCTIONS[KIND](module.config, None, seq_len=length, layer_type=layer_type)
                parts.append(_Part(module, layer_type, getattr(module, f"{prefix}original_inv_freq"), long))
    return Rope(min(limits), tuple(parts) if len(set(limits)) == 1 else ())
