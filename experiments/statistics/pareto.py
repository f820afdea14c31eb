"""Accuracy against tokens: which arms no other arm beats on both.

An arm is on the front where no other is at least as accurate with at most as many tokens, and better in one. An arm that is right nowhere
is on no front: nothing is bought with its tokens. Means of a sample say so with uncertainty: `share` is how often an arm is on the front
when the items, shared by all arms, are resampled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from .bootstrap import _item_means
from .paired import PairedDifference, paired_difference
from .shares import Floats


@dataclass(frozen=True)
class FrontPoint:
    """One arm."""

    name: str
    accuracy: float
    tokens: float
    """Mean tokens of a response."""
    on_front: bool
    share: float
    """Share of bootstrap samples of items in which it is on the front."""
    beaten_by: str | None
    """The arm that beats it, most accurate first; None on the front, and of an arm that is right nowhere but costs least."""
    accuracy_difference: PairedDifference | None
    """That arm minus this one, on the same items."""
    token_difference: PairedDifference | None


def pareto_front(
    names: Sequence[str], correct: ArrayLike, tokens: ArrayLike, *, resamples: int = 2_000, seed: int = 0
) -> list[FrontPoint]:
    """Every arm in the order given. `correct` and `tokens` are `[arms, items]` or `[arms, items, seeds]`. Raises ValueError."""
    right, spent = np.asarray(correct, dtype=float), np.asarray(tokens, dtype=float)
    if right.shape != spent.shape or right.ndim < 2 or len(right) != len(names) or len(set(names)) != len(names):
        raise ValueError(
            f"one row of answers and one of tokens is needed per arm: {right.shape}, {spent.shape} for {len(names)} names"
        )
    means = _item_means(*right, *spent)
    a, t = np.stack(means[: len(names)]), np.stack(means[len(names) :])
    accuracy, length = a.mean(axis=1), t.mean(axis=1)
    front = _front(accuracy[None], length[None])[0]
    rng, n, held = np.random.default_rng(seed), a.shape[1], np.zeros(len(names))
    batch = max(1, 2_000_000 // a.size)
    for start in range(0, resamples, batch):
        weights = rng.multinomial(n, np.full(n, 1 / n), size=min(batch, resamples - start)) / n
        held += _front(weights @ a.T, weights @ t.T).sum(axis=0)
    found = []
    for i, name in enumerate(names):
        better = [j for j in range(len(names)) if j != i and _beats(accuracy[j], length[j], accuracy[i], length[i])]
        by = max(better, key=lambda j: (front[j], accuracy[j], -length[j])) if better else None
        found.append(
            FrontPoint(
                name, float(accuracy[i]), float(length[i]), bool(front[i]), float(held[i] / resamples),
                None if by is None else names[by],
                None if by is None else paired_difference(a[i], a[by], seed=seed),
                None if by is None else paired_difference(t[i], t[by], seed=seed),
            )
        )  # fmt: skip
    return found


def _beats(accuracy: float, tokens: float, other: float, others: float) -> bool:
    return accuracy >= other and tokens <= others and (accuracy > other or tokens < others)


def _front(accuracy: Floats, tokens: Floats) -> np.ndarray:
    """`[samples, arms]` booleans: on the front of its sample, and right somewhere. Sums of weights are compared up to rounding."""
    a, t = np.round(accuracy, 12), np.round(tokens, 9)
    no_worse = (a[:, :, None] >= a[:, None, :]) & (t[:, :, None] <= t[:, None, :])
    better = (a[:, :, None] > a[:, None, :]) | (t[:, :, None] < t[:, None, :])
    return np.asarray(~(no_worse & better).any(axis=1) & (a > 0))
