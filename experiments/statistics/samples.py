"""Several samples per problem: pass@k and the majority vote.

Sources: Chen et al. 2021, arXiv 2107.03374, equation 1 (pass@k); Wang et al. 2022, arXiv 2203.11171 (majority vote).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from .shares import Interval, mean_interval


@dataclass(frozen=True)
class PassAtK:
    """Probability that at least one of k samples is right, averaged over problems."""

    value: float
    interval: Interval
    k: int
    n: int
    """Problems."""


@dataclass(frozen=True)
class MajorityAtK:
    """Probability that the most frequent of k answers is right, averaged over problems."""

    value: float
    interval: Interval
    k: int
    n: int
    """Problems."""


def pass_at_k(
    correct_counts: ArrayLike,
    samples: int | ArrayLike,
    k: int,
    *,
    level: float = 0.95,
) -> PassAtK:
    """Unbiased pass@k: the mean over problems of 1 - C(n-c, k)/C(n, k), for c right of n samples.

    `correct_counts` is `[problems]`, `samples` the same or one number for all. The interval is the score interval of a mean over problems
    (`shares.mean_interval`). Raises ValueError for k above the samples of a problem, or counts out of range.
    """
    c = np.asarray(correct_counts, dtype=np.int64)
    n = np.broadcast_to(np.asarray(samples, dtype=np.int64), c.shape)
    if c.ndim != 1 or len(c) == 0 or (c < 0).any() or (c > n).any():
        raise ValueError("pass@k needs a row of counts, each between 0 and the samples of its problem")
    if not 1 <= k <= n.min():
        raise ValueError(f"pass@{k} needs k between 1 and the fewest samples of a problem, {n.min()}")
    # C(n-c, k)/C(n, k) is the product over j < k of (n-c-j)/(n-j), which is 0 as soon as n-c < k.
    j = np.arange(k)
    each = 1.0 - np.prod(np.clip(n[:, None] - c[:, None] - j, 0, None) / (n[:, None] - j), axis=1)
    value = float(each.mean())
    return PassAtK(value, mean_interval(each, level), k, len(c))


def majority_at_k(
    answers: Sequence[Sequence[Hashable | None]],
    right: Sequence[Hashable],
    k: int,
    *,
    draws: int = 2_000,
    seed: int = 0,
    level: float = 0.95,
) -> MajorityAtK:
    """maj@k: `answers[i]` are the samples of problem i, equal answers as equal values and None for no answer; `right[i]` the right one.

    None has no vote; a tie counts as the share of the tied that is right, and k samples without an answer are wrong. Averaged over subsets
    of k samples without replacement, all alike where k is the number of samples and `draws` random ones otherwise. The interval is
    the score interval of a mean over problems. Raises ValueError for k above the samples of a problem.
    """
    if len(answers) != len(right) or not answers:
        raise ValueError(f"each problem needs samples and a right answer: {len(answers)} and {len(right)}")
    fewest = min(map(len, answers))
    if not 1 <= k <= fewest:
        raise ValueError(f"maj@{k} needs k between 1 and the fewest samples of a problem, {fewest}")
    rng = np.random.default_rng(seed)
    each = np.array([_majority(samples, gold, k, draws, rng) for samples, gold in zip(answers, right, strict=True)])
    value = float(each.mean())
    return MajorityAtK(value, mean_interval(each, level), k, len(each))


def _majority(
    samples: Sequence[Hashable | None], gold: Hashable, k: int, draws: int, rng: np.random.Generator
) -> float:
    kinds = {kind: place for place, kind in enumerate(dict.fromkeys([gold, *(s for s in samples if s is not None)]))}
    codes = np.array([kinds[s] if s is not None else len(kinds) for s in samples])
    if k == len(samples):
        chosen = codes[None]
    else:
        chosen = codes[np.argsort(rng.random((draws, len(samples))), axis=1)[:, :k]]
    votes = (chosen[:, :, None] == np.arange(len(kinds))).sum(axis=1)
    top = votes.max(axis=1)
    tied = (votes == top[:, None]).sum(axis=1)
    return float(np.where((votes[:, 0] == top) & (top > 0), 1 / tied, 0.0).mean())
