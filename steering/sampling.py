"""Choosing the next token: greedy, or a draw that depends on the row alone.

1. The uniform number of a draw is a hash of (row seed, step): a row's sample does not depend on its neighbours, its place in the batch,
   or on how often the run was interrupted.
2. Temperature, top-k and top-p are the library's own processors.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from .errors import BadInput


@dataclass(frozen=True)
class GenerationSettings:
    """How rows are continued. `temperature` 0 is greedy."""

    max_new_tokens: int
    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise BadInput(f"max_new_tokens is {self.max_new_tokens}; at least 1 token must be generated.")
        if self.temperature < 0:
            raise BadInput(f"temperature is {self.temperature}; use 0 for greedy or a positive number.")
        if self.temperature == 0 and (self.top_k is not None or self.top_p is not None):
            raise BadInput("top_k and top_p need a temperature above 0; greedy ignores them.")

    def processors(self) -> LogitsProcessorList:
        """The library's processors for a positive temperature."""
        chain = LogitsProcessorList([TemperatureLogitsWarper(self.temperature)])
        if self.top_k is not None:
            chain.append(TopKLogitsWarper(self.top_k))
        if self.top_p is not None:
            chain.append(TopPLogitsWarper(self.top_p))
        return chain


def uniforms(seeds: np.ndarray, step: int) -> np.ndarray:
    """One number in [0, 1) per row, float64, by the splitmix64 finaliser on (seed, step)."""
    with np.errstate(over="ignore"):
        x = seeds.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(step + 1) * np.uint64(
            0xD1B54A32D192ED03
        )
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 0xBF58476D1CE4E5B9)):
            x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
        x = x ^ (x >> np.uint64(29))
    return (x >> np.uint64(11)).astype(np.float64) * 2.0**-53


def choose(logits: Tensor, settings: GenerationSettings, seeds: np.ndarray, step: int) -> Tensor:
    """Next token ids `[rows]` from logits `[rows, vocabulary]` (float32)."""
    if settings.temperature == 0:
        return logits.argmax(-1)
    scores = settings.processors()(torch.empty(0, dtype=torch.long), logits)  # type: ignore[arg-type]
    cumulative = scores.double().softmax(-1).cumsum(-1)
    drawn = torch.from_numpy(uniforms(seeds, step)).to(cumulative)[:, None] * cumulative[:, -1:]
    return torch.searchsorted(cumulative, drawn, right=True).squeeze(-1).clamp_max(logits.shape[-1] - 1)
