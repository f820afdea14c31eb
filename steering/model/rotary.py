"""A cheaper equal of the rotary embedding of queries and keys in a decoding step.

Modelling files turn queries and keys one after the other, each with a negation, four slices and five products and sums. Here both are
turned at once, x cos + (second half, first half) (-sin, sin), which are the same products and sums, and so the same bits. It is tried
beside the function that a model calls before it is used; one of another convention (interleaved, partial) keeps its own way.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

NAME = "apply_rotary_pos_emb"
"""What modelling files call it."""
SHAPES = ((1, 4, 2, 16), (3, 2, 2, 8))
"""Rows, query heads, key heads and width of the trials."""

Rotation = Callable[..., tuple[Tensor, Tensor]]


class Rotary:
    """The function in place of one modelling file's own, for passes of one token per row; longer ones go to `own`."""

    def __init__(self, own: Rotation):
        self.own = own
        self._angles: dict[int, tuple[Tensor, Tensor, Tensor, Tensor]] = {}
        """By the identity of a pass's `sin`: it and `cos` (held, so that identities last), and both as they are used."""

    def forget(self) -> None:
        """The pass is over."""
        self._angles.clear()

    def __call__(
        self, q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Queries `q [rows, heads, 1, d]` and keys `k [rows, key heads, 1, d]`, turned; `cos`, `sin` are `[rows, 1, d]`."""
        if args or kwargs or q.shape[2] != 1 or q.shape[-1] != sin.shape[-1] or q.dtype != sin.dtype:
            return self.own(q, k, cos, sin, *args, **kwargs)
        half = sin.shape[-1] // 2
        known = self._angles.get(id(sin))
        if known is None or known[1] is not cos:
            signed = sin.clone()
            signed[..., :half].neg_()
            known = self._angles[id(sin)] = sin, cos, cos.unsqueeze(1), signed.unsqueeze(1)
        heads, both = q.shape[1], torch.cat((q, k), dim=1)
        across = torch.cat((both[..., half:], both[..., :half]), dim=-1).mul_(known[3])
        both.mul_(known[2]).add_(across)
        return both[:, :heads], both[:, heads:]


def rotations(model: nn.Module) -> list[tuple[dict[str, Any], Rotary]]:
    """The namespaces of `model`'s modelling files whose rotary function has this equal, with it."""
    names = dict.fromkeys(type(module).__module__ for module in model.modules())
    spaces = [vars(sys.modules[name]) for name in names if name in sys.modules]
    return [(space, Rotary(space[NAME])) for space in spaces if callable(space.get(NAME)) and equal(space[NAME])]


def equal(own: Rotation) -> bool:
    """Whether `Rotary` gives the bits of `own`, on random queries and keys."""
    generator = torch.Generator().manual_seed(0)
    mine = Rotary(own)
    with torch.inference_mode():
        for rows, heads, key_heads, width in SHAPES:
            q, k = (torch.randn(rows, 1, h, width, generator=generator).transpose(1, 2) for h in (heads, key_heads))
            cos, sin = (torch.randn(rows, 1, width, generator=generator) for _ in range(2))
            try:
                theirs, found = own(q, k, cos, sin), mine(q, k, cos, sin)
            except (TypeError, RuntimeError, ValueError, IndexError):
                return False
            if not all(a.dtype == b.dtype and torch.equal(a, b) for a, b in zip(theirs, found, strict=True)):
                return False
    return True
