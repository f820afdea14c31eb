"""Would other samples have given the same direction? Split-half cosine.

1. The samples are halved at random several times; the direction is extracted from each half, and the two are compared.
2. Halves are drawn within each side; with `paired`, pairs stay together.
3. It is the cosine between two directions from *half* the samples each: the whole set's own reliability is higher.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..errors import BadInput

Extract = Callable[[Tensor, Tensor], Tensor]
"""(positive `[n, d]`, negative `[m, d]`) to a direction `[d]`."""


@dataclass(frozen=True)
class SplitHalf:
    """Cosine between the directions of two halves, over several random splits."""

    mean: float
    low: float
    """Smallest over the splits."""
    high: float
    splits: int


def difference_of_means(positive: Tensor, negative: Tensor) -> Tensor:
    """mean(positive) - mean(negative), float64 `[d]`."""
    return positive.double().mean(0) - negative.double().mean(0)


def split_half(
    positive: Tensor,
    negative: Tensor,
    *,
    extract: Extract = difference_of_means,
    paired: bool = False,
    splits: int = 8,
    seed: int = 0,
) -> SplitHalf:
    """Split-half cosine of `extract` on `positive [n, d]` and `negative [m, d]`. Raises BadInput with fewer than two samples on a side."""
    if min(len(positive), len(negative)) < 2:
        raise BadInput(
            f"A side with {min(len(positive), len(negative))} samples cannot be halved; read at least 2 on each."
        )
    if paired and len(positive) != len(negative):
        raise BadInput(
            f"Pairs need as many positive as negative samples; there are {len(positive)} and {len(negative)}."
        )
    if splits < 1:
        raise BadInput(f"splits {splits} must be at least 1.")
    rng = np.random.default_rng(seed)
    cosines = []
    for _ in range(splits):
        a = torch.from_numpy(rng.permutation(len(positive)))
        b = a if paired else torch.from_numpy(rng.permutation(len(negative)))
        i, j = len(a) // 2, len(b) // 2
        one, two = extract(positive[a[:i]], negative[b[:j]]), extract(positive[a[i:]], negative[b[j:]])
        cosines.append(float(torch.nn.functional.cosine_similarity(one.double(), two.double(), dim=0)))
    return SplitHalf(float(np.mean(cosines)), min(cosines), max(cosines), splits)
