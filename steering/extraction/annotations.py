"""Annotated traces: text in which an annotator has marked what each part does, in the format of arXiv 2506.18167.

1. The format is `["label"] text ["end-section"]`, one after the other. Annotators also write `[label]` without quotes (a known label, so
   that `[x]` in mathematics stays text) and forget the end; a part then ends where the next one begins.
2. Text outside of parts is not labelled, and an empty part is none.
3. Parts are located in the original text in order, so a sentence that occurs twice is found twice. White space may differ. A part that the
   annotator has altered is not located; nothing is guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest

LABELS = (
    "initializing",
    "deduction",
    "adding-knowledge",
    "example-testing",
    "uncertainty-estimation",
    "backtracking",
)
"""The six behaviours of arXiv 2506.18167; backtracking, uncertainty-estimation, example-testing and adding-knowledge are steered there."""
END = "end-section"


@dataclass(frozen=True)
class Part:
    """One annotated part of a trace."""

    label: str
    text: str


@dataclass(frozen=True, order=True)
class TextSpan:
    """Where a part lies in the original text: characters `start` to `end`, end exclusive."""

    start: int
    end: int
    label: str


def parse_annotated(text: str, labels: Iterable[str] = LABELS) -> tuple[Part, ...]:
    """The parts of an annotated trace in order. Quoted labels are taken as they come, unquoted ones only when they are in `labels`.

    Empty when the text holds no label: annotators sometimes return none, and a trace without parts is simply not read.
    """
    known = "|".join(re.escape(label) for label in (*labels, END))
    markers = list(re.finditer(rf'\["([^"\[\]\n]+)"\]|\[({known})\]', text))
    parts = []
    for marker, after in zip_longest(markers, markers[1:]):
        label = (marker[1] or marker[2]).strip()
        body = text[marker.end() : after.start() if after else len(text)].strip()
        if label != END and body:
            parts.append(Part(label, body))
    return tuple(parts)


def locate(parts: Sequence[Part], original: str) -> tuple[tuple[TextSpan, ...], tuple[Part, ...]]:
    """(spans in the original text, parts not found in it). Each part is looked for after the one before it, then from the beginning."""
    spans, lost = [], []
    cursor = 0
    for part in parts:
        pattern = re.compile(r"\s+".join(map(re.escape, part.text.split())))
        match = pattern.search(original, cursor) or pattern.search(original)
        if match is None:
            lost.append(part)
            continue
        spans.append(TextSpan(match.start(), match.end(), part.label))
        cursor = max(cursor, match.end())
    return tuple(spans), tuple(lost)


def token_span(offsets: Sequence[tuple[int, int]], start: int, end: int) -> tuple[int, int] | None:
    """Tokens that cover characters `start` to `end`, as `(first, last + 1)`; `offsets` holds each token's characters. None: no token does.

    Tokens without characters (BOS) cover nothing.
    """
    covering = [i for i, (a, b) in enumerate(offsets) if a < b and a < end and b > start]
    return (covering[0], covering[-1] + 1) if covering else None
