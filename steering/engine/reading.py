"""How prompts are read: which tokens and layers of each, and how they are divided into passes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from .record import Progress

TOKENS_PER_PASS = 16_384
"""Prompt tokens (padding included) read in one forward pass."""
EFFICIENT_TOKENS = 256
"""Tokens from which on a larger pass is not faster per token on a CPU."""
PIECE = 1_024
"""Tokens of a row that one pass reads at most, but for a last one that would be alone."""
NEARLY = 0.8
"""Prompts shorter than this share of the longest one wait for a pass of their own kind."""


def shared_tokens(progress: Progress, alone: bool = False) -> int:
    """How many leading prompt tokens a row reads as everybody: those that its plan leaves unedited; of an edited prompt none when rows
    read `alone`."""
    prompt = len(progress.row.read_ids)
    first = None if progress.plan is None else progress.plan.first_edited
    if first is None or first >= prompt:
        return prompt
    return 0 if alone else first


@dataclass(frozen=True)
class Needs:
    """What the rows of a call want of one prompt."""

    tokens: int
    """Up to where some row needs it unedited."""
    layers: tuple[int, ...] = ()
    """Layers at which rows that edit it begin."""


@dataclass(frozen=True)
class Reading:
    """How a row reads its prompt: `shared` leading tokens as everybody, the rest under its own plan from layer `begin` on."""

    prompt: tuple[int, ...]
    shared: int
    begin: int

    @property
    def whole(self) -> bool:
        """Whether the plan leaves the prompt unedited."""
        return self.shared == len(self.prompt)


def reading(progress: Progress, alone: bool = False) -> Reading:
    return Reading(progress.row.read_ids, shared_tokens(progress, alone), 0 if alone else begin_layer(progress))


def prompt_needs(readings: Iterable[Reading], resumes: bool) -> dict[tuple[int, ...], Needs]:
    """The needs of every distinct prompt; `resumes` says whether passes can begin at a later layer."""
    tokens: dict[tuple[int, ...], int] = {}
    layers: dict[tuple[int, ...], list[int]] = {}
    for row in readings:
        tokens[row.prompt] = max(tokens.get(row.prompt, 0), row.shared)
        if row.begin:
            layers.setdefault(row.prompt, []).append(row.begin)
    needs = {}
    for prompt, count in tokens.items():
        begins = layers.get(prompt, [])
        worth = resumes and (len(begins) > 1 or (count == len(prompt) and begins))
        needs[prompt] = Needs(len(prompt) if worth else count, tuple(sorted(set(begins))) if worth else ())
    return needs


def begin_layer(progress: Progress) -> int:
    """The layer at which a row's own reading of its prompt can begin: 0 when it reads nothing itself, or only a token or two."""
    prompt = len(progress.row.read_ids)
    if progress.plan is None or prompt - shared_tokens(progress) <= 2:
        return 0
    return progress.plan.first_layer(prompt)


def pieces(width: int) -> list[tuple[int, int]]:
    """Columns 0 to `width` in passes, `(begin, end)`; none of a longer text is a single column, which is a decoding step's."""
    ends = [*range(PIECE, width - 1, PIECE), width]
    return list(zip([0, *ends[:-1]], ends, strict=True))


def fitting(lengths: Sequence[int], device: torch.device) -> int:
    """How many of the longest prompts are read in one pass, of `lengths` in ascending order: as many as fit, and once a pass is
    large enough to be efficient, no more than are nearly as long as the longest, so that little of it is padding."""
    widest, count = lengths[-1], 0
    enough = TOKENS_PER_PASS if device.type == "cuda" else EFFICIENT_TOKENS
    for length in reversed(lengths):
        tokens = (count + 1) * widest
        if count and (tokens > TOKENS_PER_PASS or (tokens > enough and length < NEARLY * widest)):
            break
        count += 1
    return count
