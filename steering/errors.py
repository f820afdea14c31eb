"""Errors written for the reader: what was wrong, where, and what to pass instead.

1. `BadInput` is raised before any forward pass; the command line maps it to exit code 2 without a traceback.
2. `NeverFired` and `Cancelled` carry what was generated, so nothing that was computed is lost.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

NAMED = 40
"""Valid names that an error lists; a card has up to 30 fields, a tokenizer any number of words."""


class BadInput(ValueError):
    """Input that cannot be run. The message names the value, its place, and a valid alternative."""


class NeverFired(RuntimeError):
    """An asked-for edit was not applied. `generations` holds the rows as generated."""

    def __init__(self, message: str, generations: list[Any]):
        super().__init__(message)
        self.generations = generations


class Cancelled(RuntimeError):
    """Generation was cancelled. `generations` maps the place of each row that was begun to what it has."""

    def __init__(self, message: str, generations: dict[int, Any]):
        super().__init__(message)
        self.generations = generations


def unknown(kind: str, name: object, valid: Iterable[object], where: str = "") -> BadInput:
    """The error for a name outside a closed set: lists what is valid and the nearest match."""
    names = [str(v) for v in valid]
    near = difflib.get_close_matches(str(name), names, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    shown = [repr(valid) if "," in valid else valid for valid in names]
    return BadInput(
        f"Unknown {kind} {str(name)!r}{f' in {where}' if where else ''}.{hint} Valid: {listed(shown, NAMED)}."
    )


def listed(names: Iterable[object], most: int = 12) -> str:
    """Names for a sentence, of which the first `most` are shown: `a, b and 3 more`."""
    every = [str(name) for name in names]
    left = len(every) - most
    return ", ".join(every[:most]) + (f" and {left} more" if left > 0 else "")
