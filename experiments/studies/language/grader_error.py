"""How often a grader errs, on labelled sentences that it has not seen."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from ...statistics import Interval, wilson
from .directions import Direction
from .texts import labelled

UNTOLD = "unscorable"


@dataclass(frozen=True)
class ClassError:
    """What a grader said of the sentences of one class."""

    label: str
    n: int
    said: dict[str, int]
    """Sentences by what they were called, `UNTOLD` among them."""

    @property
    def wrong(self) -> int:
        """Sentences that were called something else; an untold one is none of them."""
        return self.n - self.said.get(self.label, 0) - self.said.get(UNTOLD, 0)

    @property
    def interval(self) -> Interval:
        """Of the share that was called something else (Wilson, 95 %)."""
        return wilson(self.wrong, self.n)


def grader_error(direction: Direction) -> tuple[ClassError, ...]:
    """By class, in the order of the file; nothing for a direction whose grader compares with right answers."""
    if direction.labelled is None:
        return ()
    grader, said = direction.grading(), dict[str, Counter[str]]()
    for text, label in labelled(direction.labelled):
        grade = grader.grade("", label, text)
        said.setdefault(label, Counter())[grade.answer or UNTOLD] += 1
    return tuple(ClassError(label, counts.total(), dict(counts)) for label, counts in said.items())
