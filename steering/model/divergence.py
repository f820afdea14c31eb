"""How far two predictions lie apart."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def jensen_shannon(one: Tensor, other: Tensor) -> Tensor:
    """Jensen-Shannon divergence `[...]` in bits of two distributions given as log-probabilities in nats `[..., vocabulary]`; in [0, 1]."""
    middle = torch.logaddexp(one, other) - math.log(2)
    halves = [torch.where(p > -math.inf, p.exp() * (p - middle), 0.0).sum(-1) for p in (one, other)]
    return ((halves[0] + halves[1]) / (2 * math.log(2))).clamp(0.0, 1.0)
