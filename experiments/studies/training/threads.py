"""How many threads a training takes: one for a small model on a CPU, whose sums then do not depend on how many a process has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from steering.model.models import LoadedModel

SMALL = 5_000_000
"""Numbers below which one thread trains as fast as several."""


def is_small(base: LoadedModel) -> bool:
    """Whether one thread trains it as fast as several would: on a CPU, a model of few numbers."""
    return base.device.type == "cpu" and sum(value.numel() for value in base.model.parameters()) <= SMALL


@contextmanager
def one_thread(base: LoadedModel) -> Iterator[None]:
    """A small model is trained by one thread, whose sums do not depend on how many a process has."""
    before = torch.get_num_threads()
    try:
        if is_small(base):
            torch.set_num_threads(1)
        yield
    finally:
        torch.set_num_threads(before)
