"""Items: what a task asks, and the random stream of a row."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Item:
    """One question: `id` pairs it across arms, `gold` is the right answer as text, `data` is the task's own record."""

    id: str
    gold: str
    data: Any


def stream_seed(item: str, seed: int) -> int:
    """The random stream of a row: shared by arms (common random numbers), different across items and seeds."""
    return int.from_bytes(hashlib.sha256(f"{item}/{seed}".encode()).digest()[:7], "big")
