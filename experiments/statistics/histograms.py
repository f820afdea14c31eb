"""How far two histograms of drawn answers lie apart, without what chance alone puts between them.

1. KL of two histograms of n draws is above 0 when both were drawn from one distribution (two of ten draws: by about 0.16 nats). The mean
   over permutations of the draws between the two is taken off, so that the value of two like distributions is about 0, and may be below.
2. Categories get a pseudo-count, so that one that was never drawn makes nothing infinite.

Sources: Bogdan et al. 2506.19143 (importance of sentences); the permutation mean is the plug-in's expectation under no difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .shares import Floats

PSEUDO = 0.5
"""Added to every category (Jeffreys)."""
FLOOR = 1e-6
"""Least probability of an exact distribution."""


@dataclass(frozen=True)
class HistogramKL:
    """KL(one || other) in nats."""

    value: float
    """Without the permutation mean."""
    raw: float
    bias: float
    """Mean over permutations."""
    se: float
    """Standard error, by resampling the draws of both."""
    p: float
    """(1 + permutations at least as large)/(1 + permutations)."""


def kl(one: Floats, other: Floats) -> Floats:
    """KL(one || other) in nats along the last axis of distributions; probabilities below `FLOOR` are raised to it."""
    p, q = (np.maximum(np.asarray(d, float), FLOOR) for d in (one, other))
    p, q = p / p.sum(-1, keepdims=True), q / q.sum(-1, keepdims=True)
    return np.asarray((p * np.log(p / q)).sum(-1))


def histogram_kl(
    one: Sequence[int], other: Sequence[int], permutations: int = 200, resamples: int = 200, seed: int = 0
) -> HistogramKL:
    """KL of two rows of counts `[categories]`. Raises ValueError for rows of unequal length, or without a draw."""
    a, b = np.asarray(one, dtype=np.int64), np.asarray(other, dtype=np.int64)
    if a.shape != b.shape or a.ndim != 1 or min(a.sum(), b.sum()) < 1 or min(a.min(), b.min()) < 0:
        raise ValueError("two histograms need one row of counts each, of the same categories, with at least one draw")
    rng = np.random.default_rng(seed)
    raw = float(_smoothed(a, b))
    pooled = a + b
    first = rng.multivariate_hypergeometric(pooled, int(a.sum()), size=permutations)
    null = _smoothed(first, pooled - first)
    drawn = _smoothed(
        rng.multinomial(int(a.sum()), a / a.sum(), size=resamples),
        rng.multinomial(int(b.sum()), b / b.sum(), size=resamples),
    )
    beyond = int((null >= raw - 1e-12).sum())
    bias = float(null.mean())
    return HistogramKL(raw - bias, raw, bias, float(drawn.std(ddof=1)), (1 + beyond) / (1 + permutations))


def _smoothed(one: np.ndarray, other: np.ndarray) -> Floats:
    p, q = one + PSEUDO, other + PSEUDO
    return kl(p / p.sum(-1, keepdims=True), q / q.sum(-1, keepdims=True))
