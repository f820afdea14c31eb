"""Behaviour labels by a language model behind an OpenAI-compatible endpoint.

1. Asking, retrying and giving up are the endpoint's (`endpoint.py`); a trace goes in pieces of at most `piece` characters, cut between
   sentences.
2. An answer counts only when its annotated parts are the trace: each part must be found word for word after the one before it, every label
   must be one of the six, and at most `missing` of the characters may be left out.
3. Labels carry the detector `judge <model>` and the confidence given: agreement of a judge is not measured here, and it is never 1.
4. The key appears in no label or repr.
"""

from __future__ import annotations

from dataclasses import dataclass

from steering.errors import BadInput
from steering.extraction.annotations import LABELS, Part, parse_annotated

from .endpoint import Endpoint, EndpointError, Unusable
from .labels import BehaviourLabel
from .sentences import sentences

SYSTEM = """You mark what each part of a reasoning trace does. Copy the whole trace, character by character, and put every part between two
markers: ["label"] before it and ["end-section"] after it. Change, shorten, translate and correct nothing, and add nothing of your own.

Labels:
- initializing: restates the task or says how the work will begin.
- deduction: draws a conclusion from what is already on the page; calculations belong here.
- adding-knowledge: brings in a fact, formula or definition from outside the task.
- example-testing: tries the idea out on an instance, a number or a special case.
- uncertainty-estimation: says how sure or unsure the writer is.
- backtracking: gives up the present line and turns to another one.

A part is as long as its label holds. Where one sentence does two things, cut it in two. Use no other label. Example:
["deduction"] So the sum is 12. ["end-section"] ["backtracking"] Wait, let me try another way. ["end-section"]"""


class JudgeError(EndpointError):
    """The judge gave no usable answer. The message says what was wrong with the last one."""


@dataclass(frozen=True)
class Judge:
    """A judging model behind an endpoint. Raises BadInput for numbers out of range."""

    endpoint: Endpoint
    piece: int = 6000
    """Characters sent at once."""
    missing: float = 0.02
    """Share of a piece's characters (white space not counted) that may carry no label."""
    confidence: float = 0.8

    def __post_init__(self) -> None:
        if self.piece < 200 or not 0 <= self.missing < 1:
            raise BadInput("piece must be at least 200 and missing from 0 to below 1.")
        if not 0 < self.confidence < 1:
            raise BadInput(f"A judge's confidence {self.confidence} lies between 0 and 1; it is never a fact.")

    @property
    def detector(self) -> str:
        return f"judge {self.endpoint.model}"

    def label(self, text: str) -> tuple[BehaviourLabel, ...]:
        """Labels of a trace, in characters. Raises JudgeError."""
        found: list[BehaviourLabel] = []
        for start, end in pieces(text, self.piece):
            for a, b, label in self._annotated(text[start:end]):
                found.append(BehaviourLabel(start + a, start + b, label, self.detector, self.confidence))
        return tuple(found)

    def _annotated(self, text: str) -> list[tuple[int, int, str]]:
        return self.endpoint.ask(
            [{"role": "system", "content": SYSTEM}, {"role": "user", "content": text}],
            lambda answer: located(answer, text, self.missing),
            what="annotation",
            remedy="Copy the trace exactly and mark all of it.",
            error=JudgeError,
        )


def located(answer: str, text: str, missing: float = 0.0) -> list[tuple[int, int, str]]:
    """`(start, end, label)` of every annotated part in `text`, white space aside. Raises an error that a judge can read.

    Parts are matched without white space: an answer may wrap lines, not change a letter.
    """
    parts = parse_annotated(answer)
    if not parts:
        raise Unusable(f"it holds no marked part, but begins {answer.strip()[:120]!r}.")
    solid = [i for i, c in enumerate(text) if not c.isspace()]
    bare = "".join(text[i] for i in solid)
    found, cursor, left = [], 0, 0
    for part in parts:
        start = _place(part, bare, cursor)
        left += start - cursor
        cursor = start + len("".join(part.text.split()))
        found.append((solid[start], solid[cursor - 1] + 1, part.label))
    left += len(bare) - cursor
    if left > missing * len(bare):
        raise Unusable(f"{left} of {len(bare)} characters are not marked.")
    return found


def _place(part: Part, bare: str, cursor: int) -> int:
    if part.label not in LABELS:
        raise Unusable(f"the label {part.label!r} is none of {', '.join(LABELS)}.")
    start = bare.find("".join(part.text.split()), cursor)
    if start < 0:
        raise Unusable(f"the part {part.text[:80]!r} is not in the trace word for word, or not in this order.")
    return start


def pieces(text: str, size: int) -> list[tuple[int, int]]:
    """Characters of consecutive pieces of at most `size`, cut between sentences; a longer sentence is a piece of its own."""
    found: list[tuple[int, int]] = []
    for sentence in sentences(text):
        if found and sentence.end - found[-1][0] <= size:
            found[-1] = found[-1][0], sentence.end
        else:
            found.append((sentence.start, sentence.end))
    return found
