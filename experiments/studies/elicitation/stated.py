"""Candidate answers that a text states on its way, and results that it checks.

1. In the built-in task a candidate is one whose goal test says yes, or the concluded one. Elsewhere it is what a sentence by itself states
   to be the answer (a box, "the answer is", a conclusion), read and graded as a whole response is, or the value of an equation
   that ends it.
2. A result is checked, in the built-in task alone, where its line is computed again behind it; right is what the line's own arithmetic
   gives, whatever stood before it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from steering.model.models import LoadedModel

from ...pair.problem import Problem, Rule
from ...store.runs import Arm, Run
from ...tasks.agreement import same_answer
from ...tasks.graders.grade import Known
from ...tasks.items import Item
from ...tasks.task import Task
from .asked import Setting
from .steps import Step, steps_of
from .workroom import Workroom

_CHECKED = re.compile(r"\b(\d+) ([-+*]) (\d+) = (\d+) ; (?:hmm )?(?:wait )?check \1 \2 \3 = (\d+)\b")
_EQUATION = re.compile(r"=\s*([^=\s][^=\n]{0,60}?)[\s.;,]*$")
_UNFINISHED = Known(finish="length")
"""A sentence by itself ends no response, so that not every value in it is an answer."""


@dataclass(frozen=True)
class Stated:
    """A candidate answer, stated in step `step`, which ends behind `end` tokens of the text."""

    step: int
    end: int
    answer: str
    right: bool


@dataclass(frozen=True)
class Checked:
    """Whether a checked result was right before and after its check."""

    before: bool
    after: bool


def stated(model: LoadedModel, task: Task, item: Item, ids: Sequence[int]) -> tuple[Stated, ...]:
    """The candidates of a text (ids without the end token), in order."""
    problem = item.data if isinstance(item.data, Problem) else None
    steps = steps_of(model, ids, problem)
    return _exact(problem, steps) if problem else _read(task, item, steps)


def _exact(problem: Problem, steps: Sequence[Step]) -> tuple[Stated, ...]:
    found, tried = [], None
    for number, step in enumerate(steps):
        words = step.text.split()
        for word, following in pairwise([*words, ""]):
            if word == "try" and following.isdigit():
                tried = following
            passed = tried if word == "goal" and words[-2:] == ["yes", ";"] else None
            answer = following if word == "answer" and following.isdigit() else passed
            if answer is not None:
                found.append(Stated(number, step.end, answer, answer == str(problem.answer)))
    return tuple(found)


def _read(task: Task, item: Item, steps: Sequence[Step]) -> tuple[Stated, ...]:
    found = []
    for number, step in enumerate(steps):
        grade = task.grade(item, step.text, _UNFINISHED)
        equation = _EQUATION.search(step.text.strip()) if grade.answer is None else None
        if equation:
            grade = task.grade(item, f"The answer is {equation.group(1)}.", _UNFINISHED)
        if grade.answer is not None:
            found.append(Stated(number, step.end, grade.answer, grade.correct))
    return tuple(found)


def checked(text: str) -> tuple[Checked, ...]:
    """The checked results of a text of the built-in task."""
    found = []
    for value, op, operand, before, after in _CHECKED.findall(text):
        truth = Rule(op, int(operand))(int(value))
        found.append(Checked(int(before) == truth, int(after) == truth))
    return tuple(found)


@dataclass(frozen=True, eq=False)
class Reflected:
    """A text with what it states and checks."""

    item: str
    tokens: int
    right: bool
    answer: str | None
    candidates: tuple[Stated, ...]
    checks: tuple[Checked, ...] | None
    """None where the task's results are not known line by line."""
    agrees: bool | None
    """Whether the last candidate is the graded answer; None where one of them is missing."""
    prompt: tuple[int, ...]
    ends: tuple[int, ...]
    """Tokens behind which its steps end."""
    ids: tuple[int, ...]
    cut: bool = False
    """Whether it ends at the token limit."""

    @property
    def behaviour(self) -> int:
        """Checks of the built-in task; elsewhere candidates after the first one."""
        return max(0, len(self.candidates) - 1) if self.checks is None else len(self.checks)


def texts_of(room: Workroom, found: Run, setting: Setting, arm: Arm) -> list[Reflected]:
    """The texts of an arm, by question."""
    model, task = room.model(str(arm.model)), room.asked.found
    items = {item.id: item for item in task.items(setting.split, found.manifest.splits[setting.split])}
    columns = ["split", "item", "prompt_ids", "token_ids", "text", "answer", "correct", "finish"]
    texts = []
    for row in found.table(columns=columns, arms=[arm.name]).to_pylist():
        if row["split"] != setting.split:
            continue
        item, ids = items[row["item"]], tuple(t for t in row["token_ids"] if t not in model.eos_ids)
        candidates = stated(model, task, item, ids)
        agrees = same_answer(task, item, candidates[-1].answer, row["answer"]) if candidates and row["answer"] else None
        checks = checked(row["text"]) if room.asked.builtin else None
        ends = tuple(step.end for step in steps_of(model, ids))
        texts.append(
            Reflected(
                item.id, len(ids), bool(row["correct"]), row["answer"], candidates, checks, agrees, tuple(row["prompt_ids"]), ends, ids,
                row["finish"] == "length",
            )
        )  # fmt: skip
    return sorted(texts, key=lambda text: text.item)
