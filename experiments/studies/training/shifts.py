"""Do two elicitors move activations the same way? Cosines of mean shifts, held against what noise leaves of a cosine and what chance makes.

1. A shift is, per question, the mean over a forced text of activations under an elicitor minus the base's on the same tokens.
2. Two elicitors are compared across halves: the mean shift of one on half of the questions with that of the other on the other half, over
   many random halvings, so that noise of a question, which all elicitors share, makes no cosine. An elicitor with itself is the split-half
   ceiling: two equal elicitors have that cosine and no more.
3. Chance is what random vectors of equal norm, each its own draw, make of the same cosine: activations lie in a narrow cone, so that any
   edit moves them partly alike.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...statistics import Floats

HALVINGS = 50


def halvings(n: int, count: int = HALVINGS, seed: int = 0) -> list[np.ndarray]:
    """Booleans `[n]`, half of them true, `count` times. Raises ValueError below 4 questions."""
    if n < 4:
        raise ValueError(f"{n} questions cannot be halved in more than a few ways; give at least 4")
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        half = np.zeros(n, dtype=bool)
        half[rng.permutation(n)[: n // 2]] = True
        found.append(half)
    return found


def _unit(values: Floats) -> Floats:
    size = np.linalg.norm(values, axis=-1, keepdims=True)
    return np.asarray(np.divide(values, size, out=np.full_like(values, np.nan), where=size > 0))


def across_halves(one: Floats, other: Floats, halves: Sequence[np.ndarray]) -> float:
    """Mean cosine of the mean shift of one `[questions, width]` on a half with that of the other on the rest, both ways round; NaN where a
    mean shift is zero."""
    masks = np.stack(halves).astype(float)
    first, second = (
        [_unit(part @ values / part.sum(1, keepdims=True)) for part in (masks, 1 - masks)] for values in (one, other)
    )
    return float(np.mean([(first[0] * second[1]).sum(-1), (first[1] * second[0]).sum(-1)]))
