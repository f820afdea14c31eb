"""How a model's products are done at the moment: what was faster of late, and which weights have a second layout."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from .packed import Packed

EXPLORED, EVERY = 6, 96
"""Passes that are timed by turns, in parts and not, and after how many passes of as many rows that is done again."""


class Pace:
    """Whether products are shared among threads by outputs: what was faster of late, for each number of rows. On a busy machine threads
    that wait for each other cost more than they save, and that changes while a program runs."""

    def __init__(self) -> None:
        self.needed = False
        """Whether any product can be shared so."""
        self.shared = False
        """In the pass in progress."""
        self._passes: Counter[int] = Counter()
        self._better: dict[int, bool] = {}
        self._seconds: dict[tuple[int, bool], list[float]] = {}
        self.packable = False
        """Whether the model's weights may have a second layout."""
        self.packed: list[Packed] = []
        """Those that have one."""
        self.packing = False
        """Whether the pass in progress is a generation's own, which uses it."""

    @contextmanager
    def timed(self, rows: int) -> Iterator[None]:
        """Around one pass of a few rows."""
        size = -(-rows // 8)
        turn = self._passes[size] % EVERY
        self.shared = turn % 2 == 1 if turn < EXPLORED else self._better[size]
        start = time.perf_counter()
        yield
        if turn < EXPLORED:
            self._seconds.setdefault((size, self.shared), []).append(time.perf_counter() - start)
        if turn == EXPLORED - 1:
            apart, whole = (statistics.median(self._seconds.pop((size, way))) for way in (True, False))
            self._better[size] = apart < whole
        self._passes[size] += 1

    def unpack(self) -> None:
        """Drop the packed weights of trials."""
        for laid in self.packed:
            laid.drop()
        self.packed.clear()
