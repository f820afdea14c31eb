"""Mean and scatter of a stream of samples.

1. One pass, in float64; batches may come in any sizes, and the result is that of all samples at once (Chan, Golub and LeVeque 1983).
2. Memory is one `[d_model, d_model]` matrix of float64 per site, whatever the number of samples: 134 MB at d_model 4096.
"""

from __future__ import annotations

import torch
from torch import Tensor


class Moments:
    """Count, mean `[d]` and scatter `[d, d]` (sum of outer products about the mean) of the samples added so far."""

    def __init__(self, width: int):
        self.count = 0
        self.mean = torch.zeros(width, dtype=torch.float64)
        self.scatter = torch.zeros(width, width, dtype=torch.float64)

    def add(self, values: Tensor) -> Moments:
        """Take in `values [n, d]`."""
        if len(values) == 0:
            return self
        values = values.double()
        mean = values.mean(0)
        centred = values - mean
        return self._absorb(len(values), mean, centred.T @ centred)

    def merge(self, other: Moments) -> Moments:
        """Take in what `other` has seen."""
        return self._absorb(other.count, other.mean, other.scatter)

    def second_moment(self) -> Tensor:
        """Sum of outer products about zero, `[d, d]`."""
        return self.scatter + self.count * torch.outer(self.mean, self.mean)

    def _absorb(self, count: int, mean: Tensor, scatter: Tensor) -> Moments:
        total = self.count + count
        if total:
            step = mean - self.mean
            self.scatter += scatter + torch.outer(step, step) * (self.count * count / total)
            self.mean = self.mean + step * (count / total)
            self.count = total
        return self
