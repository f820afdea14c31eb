"""Whether two answers to one question are the same: what a vote counts.

Written alike, case and blanks aside; else where the task's grader takes the one for right with the other as the right answer. Tasks without
such a grader (the built-in one, whose answers are numbers; reasoning-gym, whose scorers know their own problem only) compare what is
written.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from steering.errors import BadInput

from .graders.grade import Grader
from .items import Item
from .task import Task
from .templated import Templated


@runtime_checkable
class Compares(Protocol):
    """A task whose answers a grader compares."""

    @property
    def grader(self) -> Grader: ...

    def question(self, item: Item) -> str: ...


def same_answer(task: Task, item: Item, one: str, other: str) -> bool:
    """Whether two answers to an item are the same."""
    if _plain(one) == _plain(other):
        return True
    task = task.inner if isinstance(task, Templated) else task
    if not isinstance(task, Compares):
        return False
    try:
        return task.grader.grade(task.question(item), one, rf"\boxed{{{other}}}").correct
    except BadInput:  # an answer that is no right answer of this grader, such as a word for a number
        return False


def _plain(answer: str) -> str:
    return "".join(answer.split()).casefold()
