"""The verdict on one response.

1. A grade keeps apart what is often collapsed: answer right, answer found (scorable), trace right, well formed. An answer that could not be
   compared is unscorable, and neither right nor wrong.
2. A grade says which grader gave it, the value it gave, and why.
3. What is known of a response beside its text (`Known`) decides with it: how it ended, and how its thinking is marked.
4. A response that ends inside its thinking segment answers nothing, unless a grader is told to be lenient; its grade holds what the
   lenient reading gives either way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from steering.model.thinking import MARKERS, Markers

from ...pair.verifier import Span


@dataclass(frozen=True)
class Known:
    """What is known of a response beside its text."""

    finish: str | None = None
    """`eos`, `stop`, `length` or `cancelled`, as the row ended; None where that is not known and is told from the text."""
    opened: bool = False
    """Whether the prompt ends inside a thinking segment, which the response goes on with."""
    markers: tuple[Markers, ...] = MARKERS
    """What stands around a thinking segment."""

    @property
    def complete(self) -> bool | None:
        """Whether the text is whole; None where that is not known."""
        return None if self.finish is None else self.finish in ("eos", "stop")


NOTHING = Known()
"""A text by itself."""


@dataclass(frozen=True)
class Grade:
    """The verdict on one response. `trace_ok` and `well_formed` are None where the task has no such verifier."""

    answer: str | None
    """The final answer as found in the text; None where there is none."""
    correct: bool
    scorable: bool
    """Whether an answer was found and could be compared."""
    trace_ok: bool | None = None
    well_formed: bool | None = None
    labels: tuple[Span, ...] = ()
    detector: str = ""
    """Who gave the labels."""
    grader: str = ""
    explanation: str = ""
    """Where the answer was found and how it was compared, or why it could not be."""
    unclosed: bool = False
    """Whether the response ends inside its thinking segment, or with it."""
    lenient: bool | None = None
    """Of an unclosed response: whether the answer that stands in the thinking segment is right; None where it was not read."""

    @property
    def value(self) -> float | None:
        """1 for right, 0 for wrong, None for unscorable."""
        return float(self.correct) if self.scorable else None


class Grader(Protocol):
    """Compares a response's final answer with the right one."""

    @property
    def name(self) -> str: ...

    @property
    def facts(self) -> dict[str, object]:
        """Everything that a verdict depends on beside question, gold answer and text, as plain JSON data."""

    def grade(self, question: str, gold: str, text: str, known: Known = NOTHING) -> Grade: ...


def verdict(grader: str, answer: str, correct: bool, explanation: str) -> Grade:
    """A scorable grade."""
    return Grade(answer, correct, True, grader=grader, explanation=explanation)


def unscorable(grader: str, answer: str | None, explanation: str) -> Grade:
    """A grade of a response that has no answer, or one that could not be compared."""
    return Grade(answer, False, False, grader=grader, explanation=explanation)
