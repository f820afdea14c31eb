"""Axes of difficulty of a question, and the rows that a shift is fitted on.

1. Of the built-in task they are exact: rules (depth), candidates (distance), whether the symbols are renamed, whether the operands are ones
   that training does not have. Elsewhere they are a proxy: words of the question and numbers in it.
2. An axis is 0 at its reference: 3 rules, 5 candidates, the question's own symbols, and elsewhere the questions' mean.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ...pair.problem import Problem
from ...statistics import Floats
from ...tasks.findstart import CANDIDATES, RULES, FindStart
from ...tasks.items import Item
from ...tasks.task import Task
from ...tasks.twins import TwinFindStart
from .prefixes import question_of

DEPTH, DISTANCE = 3, 5
"""Rules and candidates of the reference problem, which are those that training has most of."""
TRAINED_RULES, TRAINED_CANDIDATES = (2, 5), (3, 8)
"""What training problems have, ends included."""
NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


@dataclass(frozen=True)
class Axis:
    """What is counted of a question, and of which zero."""

    name: str
    of: Callable[[Item, str], float]
    """Of an item, and of the variant in which it is asked."""
    reference: float = 0.0


def axes_of(task: Task, items: Sequence[Item], variants: Sequence[str]) -> list[Axis]:
    """The axes of a task's questions. Raises BadInput for a task whose prompts are no questions in a form."""
    if isinstance(task, FindStart):
        own = [
            Axis("rules", lambda item, variant: len(item.data.rules), DEPTH),
            Axis("candidates", lambda item, variant: len(item.data.candidates), DISTANCE),
        ]
        return own + [Axis(name, lambda item, variant, name=name: float(variant == name)) for name in variants[1:]]  # type: ignore[misc]

    def words(item: Item, variant: str) -> float:
        return len(question_of(task, item).split()) / 10

    def numbers(item: Item, variant: str) -> float:
        return len(NUMBER.findall(question_of(task, item)))

    return [
        Axis(name, count, round(float(np.mean([count(item, "") for item in items])), 1))
        for name, count in (("ten words", words), ("numbers", numbers))
    ]


def table_of(axes: Sequence[Axis], rows: Sequence[tuple[Item, str]]) -> Floats:
    """`[rows, axes]`, zero at the reference."""
    return np.array([[axis.of(item, variant) - axis.reference for axis in axes] for item, variant in rows])


def wide(task: Task) -> tuple[str | None, str]:
    """The built-in task at all difficulties, in place of its named splits, and its split; None where the task stays as it is."""
    if isinstance(task, FindStart) and task.rules is None and not isinstance(task, TwinFindStart):
        return FindStart(RULES, CANDIDATES).name, "test"
    return None, ""


def place_of(problem: Problem) -> str:
    """Where a problem lies against those of training."""
    deep = len(problem.rules) > TRAINED_RULES[1]
    many = not TRAINED_CANDIDATES[0] <= len(problem.candidates) <= TRAINED_CANDIDATES[1]
    if deep and many:
        return "both beyond training"
    return "rules beyond training" if deep else "candidates beyond training" if many else "as in training"


PLACES = ("as in training", "rules beyond training", "candidates beyond training", "both beyond training")
