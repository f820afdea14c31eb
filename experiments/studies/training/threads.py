"""How many threads a training takes: one for a small model on a CPU, whose sums then do not depend on how many a process has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from steering.model.models import LoadedModel

from ...evaluation.executors import is_small


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
