"""Items: what a task asks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Item:
    """One question: `id` pairs it across arms, `gold` is the right answer as text, `data` is the task's own record."""

    id: str
    gold: str
    data: Any
