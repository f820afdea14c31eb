"""Samples with a direction planted in them, in groups that shift the activations but say nothing of the label."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from steering.model.sites import Site

SITE = Site(1)
WIDTH = 24


def planted_samples(
    n: int = 900, classes: int = 2, gap: float = 2.0, group: int = 10, seed: int = 0
) -> tuple[Tensor, Tensor, list[str], Tensor]:
    """(X `[n, d]`, y `[n]`, group names, class directions `[classes, d]` of norm 1): X = noise + group shift + gap · direction of y."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.linalg.qr(torch.randn(WIDTH, classes, generator=generator))[0].T
    if classes == 2:
        directions = torch.stack([-directions[1] / 2, directions[1] / 2])
    y = torch.randint(0, classes, (n,), generator=generator)
    number = torch.arange(n) // group
    shift = torch.randn(int(number.max()) + 1, WIDTH, generator=generator) * 0.5
    x = torch.randn(n, WIDTH, generator=generator) + shift[number] + gap * directions[y]
    return x + 3.0, y, [f"item {g}" for g in number.tolist()], directions


def group_only_samples(groups: int = 60, size: int = 10, seed: int = 0) -> tuple[Tensor, Tensor, list[str]]:
    """Samples whose labels follow from their group and from nothing else: a probe can remember groups, not learn."""
    rng = np.random.default_rng(seed)
    centres, label = rng.normal(size=(groups, WIDTH)) * 4, rng.permutation(np.arange(groups) % 2)
    number = np.repeat(np.arange(groups), size)
    x = centres[number] + rng.normal(size=(len(number), WIDTH)) * 0.3
    return torch.from_numpy(x).float(), torch.from_numpy(label[number]), [f"item {g}" for g in number]
