"""Pairs of rows: the same question and seed in two arms, and what changed between them.

1. Rows are joined on (item, seed), never on row order; what only one arm has is counted, not guessed.
2. Every pair has exactly one outcome: helped, hurt, both right or both wrong, always read from left to right.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

OUTCOMES: dict[str, str] = {
    "helped": "left wrong, right right",
    "hurt": "left right, right wrong",
    "both right": "right in both arms",
    "both wrong": "wrong in both arms",
}


@dataclass(frozen=True)
class Pair:
    """One question with one seed in two arms. `left` and `right` are positions in the sequences that were joined."""

    item: str
    seed: int
    order: int
    left: int
    right: int
    left_correct: bool
    right_correct: bool

    @property
    def outcome(self) -> str:
        """One of `OUTCOMES`."""
        if self.left_correct == self.right_correct:
            return "both right" if self.left_correct else "both wrong"
        return "helped" if self.right_correct else "hurt"


@dataclass(frozen=True)
class Pairing:
    """The join of two arms: the pairs in order of the split, and what had no partner."""

    pairs: tuple[Pair, ...]
    left_only: int
    right_only: int
    repeated: int
    """Rows beyond the first with the same (item, seed) in one arm; only the first is used."""

    @property
    def counts(self) -> dict[str, int]:
        """Number of pairs per outcome; every outcome is present."""
        found = Counter(pair.outcome for pair in self.pairs)
        return {name: found[name] for name in OUTCOMES}

    def names(self) -> dict[str, Pair]:
        """The pairs by the name that links and menus use: the item, with its seed where an item has several."""
        several = {item for item, n in Counter(pair.item for pair in self.pairs).items() if n > 1}
        return {f"{p.item} (seed {p.seed})" if p.item in several else p.item: p for p in self.pairs}


def pair_rows(left: Sequence[Mapping[str, Any]], right: Sequence[Mapping[str, Any]]) -> Pairing:
    """Join two arms of one split; rows carry `item`, `seed`, `order` and `correct`."""
    lefts, repeated_left = _by_key(left)
    rights, repeated_right = _by_key(right)
    pairs = [
        Pair(
            item=item,
            seed=seed,
            order=int(left[index]["order"]),
            left=index,
            right=rights[item, seed],
            left_correct=bool(left[index]["correct"]),
            right_correct=bool(right[rights[item, seed]]["correct"]),
        )
        for (item, seed), index in lefts.items()
        if (item, seed) in rights
    ]
    return Pairing(
        pairs=tuple(sorted(pairs, key=lambda pair: (pair.order, pair.item, pair.seed))),
        left_only=len(lefts.keys() - rights.keys()),
        right_only=len(rights.keys() - lefts.keys()),
        repeated=repeated_left + repeated_right,
    )


def _by_key(rows: Sequence[Mapping[str, Any]]) -> tuple[dict[tuple[str, int], int], int]:
    found: dict[tuple[str, int], int] = {}
    for index, row in enumerate(rows):
        found.setdefault((str(row["item"]), int(row["seed"])), index)
    return found, len(rows) - len(found)


def matching(names: Mapping[str, Pair], outcome: str) -> list[str]:
    """The names whose pair has `outcome`; all names for any other word."""
    return [name for name, pair in names.items() if outcome not in OUTCOMES or pair.outcome == outcome]


def neighbour(names: Iterable[str], shown: Iterable[str], current: str, by: Literal[-1, 1]) -> str | None:
    """The next name of `shown` after (`by` = 1) or before (-1) `current` in the order of `names`; None at the end."""
    order = {name: index for index, name in enumerate(names)}
    here = order.get(current, -1)
    ahead = [name for name in shown if (order[name] - here) * by > 0]
    return (ahead[0] if by > 0 else ahead[-1]) if ahead else None
