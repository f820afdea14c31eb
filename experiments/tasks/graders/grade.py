"""The verdict on one response.

1. A grade keeps apart what is often collapsed: answer right, answer found (scorable), trace right, well formed. An answer that could not be
   compared is unscorable, and neither right nor wrong.
2. A grade says which grader gave it, the value it gave, and why.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ...pair.verifier import Span


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

    def grade(self, question: str, gold: str, text: str) -> Grade: ...


def verdict(grader: str, answer: str, correct: bool, explanation: str) -> Grade:
    """A scorable grade."""
    return Grade(answer, correct, True, grader=grader, explanation=explanation)


def unscorable(grader: str, answer: str | None, explanation: str) -> Grade:
    """A grade of a response that has no answer, or one that could not be compared."""
    return Grade(answer, False, False, grader=grader, explanation=explanation)
