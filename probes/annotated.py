"""Annotated traces as labelled sentences: what labellers are trained on and scored against.

1. The files are lists of `{thinking_process, annotated_response, ...}` as published with arXiv 2506.18167. Their labels come from an
   LLM; they are the reference here, and no truth.
2. A sentence's reference label is the one that covers most of its characters; a sentence that the annotator left out has none and is
   neither trained on nor scored.
3. A trace without a located part is left out.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from steering.errors import BadInput
from steering.extraction.annotations import locate, parse_annotated

from .labels import BehaviourLabel, from_annotation, label_at
from .sentences import Sentence, sentences


@dataclass(frozen=True)
class AnnotatedTrace:
    """A text, its annotation, and the reference label of each of its sentences (None where there is none)."""

    number: int
    """Place in the file: the group of the trace."""
    text: str
    labels: tuple[BehaviourLabel, ...]
    sentences: tuple[Sentence, ...]
    reference: tuple[str | None, ...]
    lost: int
    """Parts that the annotator altered, which are not located."""


def annotated_trace(number: int, text: str, annotated: str) -> AnnotatedTrace:
    """One trace from its text and its annotated form."""
    spans, lost = locate(parse_annotated(annotated), text)
    labels = from_annotation(spans)
    found = sentences(text)
    return AnnotatedTrace(
        number, text, labels, found, tuple(label_at(labels, s.start, s.end) for s in found), len(lost)
    )


def read_annotated(path: Path | str) -> tuple[AnnotatedTrace, ...]:
    """The traces of a file that have at least one located part. Raises BadInput for a file that is no such list, naming the entry."""
    path = Path(path)
    if not path.is_file():
        raise BadInput(f"No annotated traces at {path}. Give a JSON list of {{thinking_process, annotated_response}}.")
    try:
        content = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise BadInput(f"{path} is not JSON ({error}).") from error
    if not isinstance(content, list):
        raise BadInput(f"{path} holds a {type(content).__name__}; a list of traces is needed.")
    traces = []
    for number, entry in enumerate(content):
        try:
            traces.append(annotated_trace(number, entry["thinking_process"], entry["annotated_response"] or ""))
        except (KeyError, TypeError) as error:
            raise BadInput(
                f"{path}: entry {number} lacks {error}; it needs thinking_process and annotated_response."
            ) from error
    kept = tuple(t for t in traces if t.labels)
    if not kept:
        raise BadInput(
            f'{path}: no trace holds a label; annotated_response is written as ["label"] text ["end-section"].'
        )
    return kept


def reference_of(traces: Sequence[AnnotatedTrace]) -> tuple[list[tuple[int, int]], list[str]]:
    """((trace, sentence) of every sentence that has a reference label, those labels)."""
    places = [(t, s) for t, trace in enumerate(traces) for s, label in enumerate(trace.reference) if label is not None]
    return places, [str(traces[t].reference[s]) for t, s in places]
