"""The measured hybrid that comes with the program: the lines of its table, and the command that makes them again.

It is shown where a store has no hybrid of its own, and marked as what it is. `docs/hybrid.md` has the same figures.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

FILE = Path(__file__).parent / "shipped" / "careful.json"


@dataclass(frozen=True)
class Shipped:
    """As `report.hybrid_frame` gives it."""

    command: str
    pair: tuple[str, str]
    program: str
    """Name and version of the program that ran it."""
    roles: dict[str, str]
    """Of the arms."""
    frame: pd.DataFrame


def shipped_hybrid(file: Path = FILE) -> Shipped:
    """Read it. Raises OSError or ValueError for a file that is not there or not whole."""
    found = json.loads(file.read_text(encoding="utf-8"))
    frame = pd.DataFrame(found["lines"])
    numbers = [name for name in frame if name not in ("split", "arm", "label", "gap_reason", "categories")]
    frame[numbers] = frame[numbers].astype(float)
    return Shipped(found["command"], tuple(found["pair"]), found["program"], found["roles"], frame)
