"""Sentences of a reasoning text: the unit that labellers label.

1. A sentence ends after . ? ! (and closing quotes or brackets) before white space, and at a line break. Points inside numbers, after single
   letters and after list numbers at the beginning of a line end none.
2. Sentences do not overlap, hold no white space at their ends, and together cover all other characters: a piece without two letters or
   digits (a bracket, a rule) joins the sentence before it, or the one after it at the beginning.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_END = re.compile(r"[.?!]+[\"”')\]*]*(?=\s)|\n+")
_LIST_NUMBER = re.compile(r"(?:^|\n)[\s*#-]*\d{1,3}\.$")
_SINGLE = re.compile(r"(?:^|[\s(])(?:[B-HJ-Z]|[b-hj-z]|Mr|Mrs|Ms|Dr|vs|cf|e\.g|i\.e|Fig|Eq|approx)\.$")


@dataclass(frozen=True)
class Sentence:
    """Characters `start:end` of a text, and what they say."""

    start: int
    end: int
    text: str


def sentences(text: str) -> tuple[Sentence, ...]:
    """The sentences of a text in order."""
    ends = [m.end() for m in _END.finditer(text) if not _goes_on(text, m)] + [len(text)]
    pieces: list[tuple[int, int]] = []
    start = 0
    held: int | None = None
    for end in ends:
        inside = text[start:end]
        a, b = start + len(inside) - len(inside.lstrip()), start + len(inside.rstrip())
        start = end
        if a >= b:
            continue
        if sum(c.isalnum() for c in text[a:b]) < 2:
            if pieces:
                pieces[-1] = pieces[-1][0], b
            elif held is None:
                held = a
            continue
        pieces.append((a if held is None else held, b))
        held = None
    return tuple(Sentence(a, b, text[a:b]) for a, b in pieces)


def _goes_on(text: str, match: re.Match[str]) -> bool:
    if not match[0].startswith("."):
        return False
    before = text[max(0, match.end() - 12) : match.end()]
    return _LIST_NUMBER.search(before) is not None or _SINGLE.search(before) is not None
