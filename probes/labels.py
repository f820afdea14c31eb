"""The common record of behaviour labels, whoever made them: a span, a label, the detector's name and its confidence.

1. A label always carries its detector and a confidence in (0, 1]; only an exact verifier says 1. A keyword rule is never shown as a fact.
2. Spans are half-open, in characters of a text or in tokens of a response; `unit` says which, and mixing the two is refused.
3. Characters become tokens by the offsets of the tokenizer that made the ids (`in_tokens`); nothing is tokenised again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from steering.errors import BadInput, unknown
from steering.extraction.annotations import TextSpan, token_span

Unit = Literal["characters", "tokens"]
ANNOTATION = "llm annotation"
"""Detector of the published annotated traces: an LLM made them, and no one checked each."""


@dataclass(frozen=True, order=True)
class BehaviourLabel:
    """A behaviour over `start:end`. Raises BadInput for an empty span, a confidence outside (0, 1], or no detector."""

    start: int
    end: int
    label: str
    detector: str
    confidence: float
    unit: Unit = "characters"

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end:
            raise BadInput(f"Label {self.label!r} has the empty or negative span {self.start}:{self.end}.")
        if not 0 < self.confidence <= 1:
            raise BadInput(f"Label {self.label!r} has confidence {self.confidence}; it lies above 0 and at most at 1.")
        if not self.detector:
            raise BadInput(f"Label {self.label!r} names no detector; a label without its source cannot be shown.")
        if self.unit not in ("characters", "tokens"):
            raise unknown("unit", self.unit, ("characters", "tokens"))

    def record(self) -> dict[str, Any]:
        """The row of the run store's `labels` column. Raises BadInput for a label in characters: the store counts tokens."""
        if self.unit != "tokens":
            raise BadInput("The run store keeps labels in tokens; convert them first with in_tokens.")
        return {
            "label": self.label,
            "start": self.start,
            "end": self.end,
            "detector": self.detector,
            "confidence": self.confidence,
        }


def from_annotation(
    spans: Iterable[TextSpan], detector: str = ANNOTATION, confidence: float = 0.9
) -> tuple[BehaviourLabel, ...]:
    """Labels of located annotated parts, in characters. The default confidence only says that no one checked the annotator."""
    return tuple(BehaviourLabel(s.start, s.end, s.label, detector, confidence) for s in sorted(spans))


def in_tokens(labels: Iterable[BehaviourLabel], offsets: Sequence[tuple[int, int]]) -> tuple[BehaviourLabel, ...]:
    """The same labels over tokens; `offsets [tokens]` holds the characters of each token in the text that was labelled.

    A label whose characters no token covers is left out. Raises BadInput for labels that are in tokens already.
    """
    found = []
    for label in labels:
        if label.unit != "characters":
            raise BadInput("These labels are in tokens already.")
        where = token_span(offsets, label.start, label.end)
        if where is not None:
            found.append(replace(label, start=where[0], end=where[1], unit="tokens"))
    return tuple(found)


def label_at(labels: Sequence[BehaviourLabel], start: int, end: int) -> str | None:
    """The label that covers most of `start:end`, the first of equals; None where none touches it."""
    shares: dict[str, int] = {}
    for label in labels:
        overlap = min(end, label.end) - max(start, label.start)
        if overlap > 0:
            shares[label.label] = shares.get(label.label, 0) + overlap
    return max(shares, key=lambda name: shares[name]) if shares else None
