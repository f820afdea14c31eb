"""Tasks: items, prompts, and exact grading. Real datasets and the built-in task look alike from here.

1. A grade keeps apart what is often collapsed: answer right, answer parseable, trace right, well formed.
2. Items of a split are a pure function of (split, n): the first n of a longer list are the shorter list.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from steering.errors import BadInput, unknown

from .pair.problem import FORM_SUFFIX, SPLITS, Problem, split_problems
from .pair.verifier import Span, verify


@dataclass(frozen=True)
class Item:
    """One question: `id` pairs it across arms, `gold` is the right answer as text, `data` is the task's own record."""

    id: str
    gold: str
    data: Any


@dataclass(frozen=True)
class Grade:
    """The verdict on one response. `trace_ok` and `well_formed` are None where the task has no such verifier."""

    answer: str | None
    correct: bool
    scorable: bool
    trace_ok: bool | None = None
    well_formed: bool | None = None
    labels: tuple[Span, ...] = ()
    detector: str = ""


class Task(Protocol):
    """What an evaluation needs of a task."""

    name: str
    splits: tuple[str, ...]
    forms: tuple[str, ...]

    def items(self, split: str, n: int) -> list[Item]: ...

    def prompt(self, item: Item, form: str) -> str: ...

    def grade(self, item: Item, text: str) -> Grade: ...


class FindStart:
    """The built-in task (`experiments/pair/problem.py`), verified exactly."""

    name = "find-start"
    splits = tuple(SPLITS)
    forms = tuple(FORM_SUFFIX)

    def items(self, split: str, n: int) -> list[Item]:
        if split not in SPLITS:
            raise unknown("split", split, SPLITS, where=f"task {self.name}")
        if n < 1:
            raise BadInput(f"Split {split}: n is {n}; ask for at least one item.")
        return [Item(f"{split}/{i:05d}", str(p.answer), p) for i, p in enumerate(split_problems(split, n))]

    def prompt(self, item: Item, form: str) -> str:
        if form not in FORM_SUFFIX:
            raise unknown("prompt form", form, FORM_SUFFIX, where=f"task {self.name}")
        problem: Problem = item.data
        return problem.prompt(form)  # type: ignore[arg-type]

    def grade(self, item: Item, text: str) -> Grade:
        verdict = verify(item.data, text)
        answer = None if verdict.answer is None else str(verdict.answer)
        trace_ok = verdict.trace_ok if verdict.reasoned else False
        return Grade(
            answer, verdict.correct, answer is not None, trace_ok, verdict.well_formed, tuple(verdict.labels), "grammar"
        )


TASKS: dict[str, Task] = {"find-start": FindStart()}


def task_named(name: str) -> Task:
    """Raises BadInput for an unknown task."""
    if name not in TASKS:
        raise unknown("task", name, TASKS)
    return TASKS[name]
