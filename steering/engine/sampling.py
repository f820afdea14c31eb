"""Choosing the next token: greedy, or a draw that depends on the row alone.

1. A draw is an argmax: every token's score plus Gumbel noise that is a hash of (row seed, step, token id). A row's noise does not depend on
   its neighbours, its place in the batch, or on how often the run was interrupted; and where low bits of the logits do, another token is
   drawn only if the two best noisy scores lie within that difference. (A draw that walks the cumulative distribution turns over wherever
   the target lies near a boundary between any two of all tokens, and every small shift of early ids moves all later boundaries.)
2. The argmax is taken in two exact steps, so that noise is made for hundreds of numbers rather than for the whole vocabulary: over blocks
   of neighbouring ids, each scored by the log-sum-exp of its tokens (the maximum of scores with Gumbel noise is their log-sum-exp with
   Gumbel noise), then over the tokens of the block that won.
3. Temperature, top-k, top-p, min-p, repetition penalty and logit bias are the library's own processors, in its order.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from ..errors import BadInput
from .penalty import Penalty

DRAW = "gumbel blocks, version 1"
"""How a token is drawn: part of what a sampled row depends on."""
BLOCK = 256
"""Ids of a block."""
OF_BLOCKS = 1 << 40
"""Noise of block b is that of the id b + this, which no token has."""


def _signed(number: int) -> int:
    return number - (1 << 64) if number >> 63 else number


_GOLDEN, _FIRST, _SECOND = map(_signed, (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
"""Factors of splitmix64 as int64, whose products wrap round."""


@dataclass(frozen=True)
class GenerationSettings:
    """How rows are continued. `temperature` 0 is greedy."""

    max_new_tokens: int
    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float = 1.0
    """Above 1 makes tokens of the prompt and of the text so far less likely."""
    stop_strings: tuple[str, ...] = ()
    """A row ends when the text it generated holds one of these."""
    logit_bias: tuple[tuple[int, float], ...] = ()
    """(token id, nats added to its logit)."""
    penalty: Penalty | None = None
    """Tokens that are made less likely, everywhere or while a thought is young."""

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise BadInput(f"max_new_tokens is {self.max_new_tokens}; at least 1 token must be generated.")
        if self.temperature < 0:
            raise BadInput(f"temperature is {self.temperature}; use 0 for greedy or a positive number.")
        if self.temperature == 0 and any(v is not None for v in (self.top_k, self.top_p, self.min_p)):
            raise BadInput("top_k, top_p and min_p need a temperature above 0; greedy ignores them.")
        for name, value in (("top_p", self.top_p), ("min_p", self.min_p)):
            if value is not None and not 0 < value <= 1:
                raise BadInput(f"{name} is {value}; give a share above 0 and at most 1.")
        if self.top_k is not None and self.top_k < 1:
            raise BadInput(f"top_k is {self.top_k}; keep at least 1 token.")
        if self.repetition_penalty <= 0:
            raise BadInput(f"repetition_penalty is {self.repetition_penalty}; give a positive number, 1 for none.")
        if any(not stop for stop in self.stop_strings):
            raise BadInput("An empty stop string would end every row at once.")

    @cached_property
    def processors(self) -> LogitsProcessorList:
        """The library's processors for these settings."""
        chain = LogitsProcessorList()
        if self.logit_bias:
            chain.append(SequenceBiasLogitsProcessor({(token,): float(bias) for token, bias in self.logit_bias}))
        if self.repetition_penalty != 1.0:
            chain.append(RepetitionPenaltyLogitsProcessor(self.repetition_penalty))
        if self.temperature not in (0.0, 1.0):
            chain.append(TemperatureLogitsWarper(self.temperature))
        if self.top_k is not None:
            chain.append(TopKLogitsWarper(self.top_k))
        if self.top_p is not None:
            chain.append(TopPLogitsWarper(self.top_p))
        if self.min_p is not None:
            chain.append(MinPLogitsWarper(self.min_p))
        return chain

    @property
    def needs_history(self) -> bool:
        """Whether the choice reads the tokens so far."""
        return self.repetition_penalty != 1.0


def uniforms(seeds: np.ndarray, steps: np.ndarray | int) -> np.ndarray:
    """One number in [0, 1) per row, float64, by the splitmix64 finaliser on (seed, step)."""
    with np.errstate(over="ignore"):
        x = np.asarray(seeds).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        x = x + (np.asarray(steps, dtype=np.uint64) + np.uint64(1)) * np.uint64(0xD1B54A32D192ED03)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 0xBF58476D1CE4E5B9)):
            x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
        x = x ^ (x >> np.uint64(29))
    return (x >> np.uint64(11)).astype(np.float64) * 2.0**-53


def draw_keys(seeds: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """One 64-bit key per row, int64, a hash of (seed, step): what a row's noise at a step is made from."""
    with np.errstate(over="ignore"):
        x = np.asarray(seeds).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        x = x + (np.asarray(steps, dtype=np.uint64) + np.uint64(1)) * np.uint64(0xD1B54A32D192ED03)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    return (x ^ (x >> np.uint64(31))).view(np.int64)


def gumbels(keys: Tensor, ids: Tensor) -> Tensor:
    """Standard Gumbel noise `[rows, n]`, float32, a hash of each row's key `[rows]` and of `ids [n]` or `[rows, n]` (both int64).

    -log(-log(1 - u)) with u a 53-bit number in (0, 1), kept to relative precision near 0: large values, those that win, are exact to
    float32 up to 37.4.
    """
    x = keys[:, None] + (ids + 1) * _GOLDEN
    for shift, factor in ((30, _FIRST), (27, _SECOND)):
        x = (x ^ ((x >> shift) & ((1 << (64 - shift)) - 1))) * factor
    x = x ^ ((x >> 31) & ((1 << 33) - 1))
    u = (((x >> 11) & ((1 << 53) - 1)).float() + 0.5) * 2.0**-53
    return -(-torch.log1p(-u)).log()


def choose(logits: Tensor, settings: GenerationSettings, keys: Tensor | None, history: Tensor | None = None) -> Tensor:
    """Next token ids `[rows]` from logits `[rows, vocabulary]` (float32).

    `keys [rows]` are those of `draw_keys` (None when greedy), `history [rows, n]` the tokens so far (padded with one of the row's own).
    """
    scores = logits
    if settings.processors:
        empty = torch.empty(len(logits), 0, dtype=torch.long, device=logits.device)
        scores = settings.processors(empty if history is None else history, logits)  # type: ignore[arg-type]
    if settings.temperature == 0:
        return scores.argmax(-1)
    assert keys is not None
    size = scores.shape[-1]
    if size <= BLOCK:
        return (scores + gumbels(keys, torch.arange(size, device=scores.device))).argmax(-1)
    blocks = torch.nn.functional.pad(scores, (0, -size % BLOCK), value=-torch.inf).unflatten(-1, (-1, BLOCK))
    numbers = torch.arange(blocks.shape[1], device=scores.device)
    block = (blocks.logsumexp(-1) + gumbels(keys, numbers + OF_BLOCKS)).argmax(-1)
    inside = blocks[torch.arange(len(block), device=block.device), block]
    ids = block[:, None] * BLOCK + torch.arange(BLOCK, device=block.device)
    return ids[:, 0] + (inside + gumbels(keys, ids)).argmax(-1)
