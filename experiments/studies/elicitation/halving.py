"""Successive halving: many candidates on few questions, the better half on twice as many, until two are left on all of them.

What is measured is the caller's; ties go to the candidate that stands first. Source: Jamieson & Talwalkar 2016.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Round:
    """What was measured in a round: right answers of each candidate, of `n` questions."""

    n: int
    right: dict[str, int]


def sizes(candidates: int, n: int) -> list[int]:
    """Questions per round: as many rounds as halvings leave one of `candidates`, twice as many questions in each, `n` in the last."""
    rounds = max(1, (candidates - 1).bit_length())
    return [max(1, n // 2 ** (rounds - 1 - place)) for place in range(rounds)]


def halved(
    names: Sequence[str], n: int, measure: Callable[[Sequence[str], int], dict[str, int]]
) -> tuple[str, list[Round]]:
    """The winner, and every round. `measure` gives the right answers of candidates on the first questions."""
    left, rounds = list(names), []
    for size in sizes(len(names), n):
        found = measure(left, size)
        rounds.append(Round(size, {name: found[name] for name in left}))
        ranked = sorted(left, key=lambda name: -found[name])  # stable: the first of equals stays first
        left = [name for name in left if name in ranked[: (len(left) + 1) // 2]]
    return max(left, key=lambda name: (rounds[-1].right[name], -left.index(name))), rounds
