"""Grouped splits: no item lies on both sides of what is fitted and what is measured.

1. A group is whatever shares information beyond the label: a problem, a trace, a prompt. A split holds whole groups.
2. `Split` checks itself: one that puts a group on both sides is refused, naming the group.
3. Classes are spread over the parts as evenly as whole groups allow (scikit-learn's StratifiedGroupKFold), fixed by a seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from steering.errors import BadInput


@dataclass(frozen=True, eq=False)
class Split:
    """Numbers of the samples fitted on and of those held out. Raises BadInput when a group, or a sample, lies on both sides."""

    train: np.ndarray
    test: np.ndarray
    groups: np.ndarray
    """Group number of every sample, `[n]`."""
    names: tuple[str, ...] = ()
    """Name of each group number, for messages."""

    def __post_init__(self) -> None:
        if not len(self.train) or not len(self.test):
            raise BadInput(f"A split needs samples on both sides; it has {len(self.train)} and {len(self.test)}.")
        both = np.intersect1d(self.groups[self.train], self.groups[self.test])
        if len(both):
            first = self.names[both[0]] if self.names else str(both[0])
            raise BadInput(
                f"Group {first!r} lies on both sides of the split ({len(both)} groups do): what is measured there was fitted on. "
                f"Split whole groups, for example with grouped_split."
            )


def numbered(groups: Sequence[object] | np.ndarray, n: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """(group number per sample `[n]`, names). Raises BadInput when there is not one group for each of the `n` samples."""
    if len(groups) != n:
        raise BadInput(f"{n} samples but {len(groups)} groups; name the group of each sample.")
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(str(g), len(numbers)) for g in groups], np.int64), tuple(numbers)


def grouped_folds(y: np.ndarray, groups: np.ndarray, folds: int, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """`folds` pairs (train, test) of sample numbers; every sample is tested once. There are fewer folds where a class has fewer groups.

    Raises BadInput when a class occurs in one group only: it cannot be on both sides.
    """
    spread = {int(k): len(np.unique(groups[y == k])) for k in np.unique(y)}
    rare = min(spread, key=lambda k: spread[k])
    if spread[rare] < 2:
        raise BadInput(
            f"Class {rare} occurs in {spread[rare]} group only, so it cannot be both fitted and measured; read more items."
        )
    splitter = StratifiedGroupKFold(min(folds, spread[rare]), shuffle=True, random_state=seed)
    return [(train, test) for train, test in splitter.split(np.zeros(len(y)), y, groups)]


def grouped_split(
    y: np.ndarray, groups: np.ndarray, held_out: float = 0.25, seed: int = 0, names: tuple[str, ...] = ()
) -> Split:
    """About `held_out` of the groups to measure on, the rest to fit on, with every class on both sides.

    Raises BadInput for a share outside 0 to 0.5, or where no such split exists.
    """
    if not 0 < held_out <= 0.5:
        raise BadInput(f"A held-out share of {held_out} is not between 0 and 0.5.")
    wanted = set(np.unique(y).tolist())
    for attempt in range(8):
        for train, test in grouped_folds(y, groups, round(1 / held_out), seed + 1000 * attempt):
            if set(y[train].tolist()) == set(y[test].tolist()) == wanted:
                return Split(train, test, groups, names)
    raise BadInput(
        "No split of whole groups has every class on both sides; read more items, or leave rare classes out."
    )
