"""Texts of an update read in groups of like length, so that short ones are not padded to the longest.

1. Every group is padded to its own longest prompt and its own longest text. What padding would have held is zero, and bears no loss.
2. Positions count a text's own tokens, as they do when the engine writes it.
3. Groups are the cheapest: tokens read, padding with them, and `EACH` more for every group. What memory holds at once limits them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

EACH = 192
"""Tokens that one more group is taken to cost."""


class Reads(Protocol):
    """What reads one group: log-probabilities and entropies of the last tokens, `[texts, kept]`."""

    def __call__(self, model: Any, ids: Tensor, mask: Tensor, kept: int) -> tuple[Tensor, Tensor | None]: ...


def like_lengths(lengths: Sequence[int], each: int = EACH) -> list[list[int]]:
    """Places of the texts, shortest first, cut where reading each part at its own longest is cheapest."""
    order = sorted(range(len(lengths)), key=lambda place: (lengths[place], place))
    best: list[tuple[int, int]] = [(0, 0)]
    for end in range(1, len(order) + 1):
        longest = lengths[order[end - 1]]
        best.append(min((best[begin][0] + (end - begin) * longest + each, begin) for begin in range(end)))
    groups: list[list[int]] = []
    end = len(order)
    while end:
        begin = best[end][1]
        groups.append(order[begin:end])
        end = begin
    return groups[::-1]


def read_by_length(
    reads: Reads, model: Any, ids: Tensor, mask: Tensor, kept: int, most: int | None = None
) -> tuple[Tensor, Tensor | None]:
    """What `reads` gives of prompts padded on the left and texts of `kept` tokens padded on the right, `[texts, tokens]` both: the same
    but for rounding, and zero where a text has ended. A group has at most `most` texts."""
    asked = ids.shape[1] - kept
    before, behind = mask[:, :asked].sum(1).tolist(), mask[:, asked:].sum(1).tolist()
    groups = like_lengths([one + other for one, other in zip(before, behind, strict=True)])
    groups = [
        group[start : start + (most or len(group))]
        for group in groups
        for start in range(0, len(group), most or len(group))
    ]
    found: list[Tensor] = []
    spread: list[Tensor | None] = []
    for group in groups:
        rows = torch.tensor(group, device=ids.device)
        left, right = asked - max(before[place] for place in group), max(1, *(behind[place] for place in group))
        here = mask[rows, left : asked + right]
        places = (here.cumsum(1) - 1).clamp(min=0)
        logps, entropies = reads(partial(model, position_ids=places), ids[rows, left : asked + right], here, right)
        found.append(_widened(logps, kept))
        spread.append(None if entropies is None else _widened(entropies, kept))
    back = torch.argsort(torch.tensor([place for group in groups for place in group], device=ids.device))
    wide = [one for one in spread if one is not None]
    return torch.cat(found)[back], torch.cat(wide)[back] if wide else None


def _widened(values: Tensor, kept: int) -> Tensor:
    return torch.nn.functional.pad(values, (0, kept - values.shape[1]))
