"""How far two lists of categories agree: raw, Cohen's kappa, Gwet's AC2, and whether kappa can be read at all.

1. Kappa falls to 0 where nearly everything is of one category, or nearly everything agrees, however good the agreement (the kappa paradox);
   AC2 does not. `saturated` says when that is so.
2. AC2 has identity weights, for categories without an order; with those it is AC1.

Sources: Cohen 1960; Gwet 2008 (AC1), 2014 (AC2).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from .shares import Interval, wilson

SATURATED = 0.95
"""Share of agreement, or of one category, from which kappa says nothing."""


@dataclass(frozen=True)
class Agreement:
    """Of `n` pairs. `kappa` and `ac2` are None where they are 0/0."""

    n: int
    raw: float
    interval: Interval
    """Of `raw`."""
    kappa: float | None
    ac2: float | None
    saturated: bool


def agreement(one: Sequence[Hashable], other: Sequence[Hashable]) -> Agreement:
    """Of two lists of categories in the same order. Raises ValueError for empty ones and for unequal lengths."""
    n = len(one)
    if not n or len(other) != n:
        raise ValueError(f"agreement needs two lists of one length, with at least one entry: {n}, {len(other)}")
    same = sum(a == b for a, b in zip(one, other, strict=True))
    raw, first, second = same / n, Counter(one), Counter(other)
    both = first + second
    by_chance = sum(first[c] * second[c] for c in both) / n**2
    kappa = (raw - by_chance) / (1 - by_chance) if by_chance < 1 else None
    prevalence = [count / (2 * n) for count in both.values()]
    ac2 = None
    if len(both) > 1:
        expected = sum(share * (1 - share) for share in prevalence) / (len(both) - 1)
        ac2 = (raw - expected) / (1 - expected)
    saturated = raw >= SATURATED or max(prevalence) >= SATURATED
    return Agreement(n, raw, wilson(same, n), kappa, ac2, saturated)
