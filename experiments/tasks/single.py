"""A task of one question: one item of the built-in task, or a prompt of the user's own.

    task: {dataset: one-question, item: standard-test/00007}
    task: {dataset: one-question, prompt: "rules + 15 ; * 9 ; goal 31 start 42 91 9 ?"}

1. An item has the id, prompt and grade that it has in the whole task.
2. A prompt is fed as it is written. One that is a find-the-start problem is graded as such; any other is unscorable.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from steering.errors import BadInput, unknown

from ..pair.problem import FORM_SUFFIX, parse_problem
from .findstart import FindStart
from .graders.grade import NOTHING, Grade, Known, unscorable
from .items import Item

WRITTEN = "bare"
"""The only form of a prompt of the user's own: as it is written."""
SPLIT = "prompt"


@dataclass(frozen=True)
class OneQuestion:
    """Exactly one of `item` (an id of the built-in task) and `written` (a prompt)."""

    item: str | None = None
    written: str | None = None

    def __post_init__(self) -> None:
        if (self.item is None) == (self.written is None):
            raise BadInput("Task one-question takes either `item` or `prompt`.")
        if self.written is not None and not self.written.strip():
            raise BadInput("The prompt is empty. Give at least one word.")
        if self.item is not None:
            _found(self.item)

    @property
    def name(self) -> str:
        return "one-question"

    @property
    def digest(self) -> str:
        return FindStart().digest if self.item is not None else self.name

    @property
    def splits(self) -> tuple[str, ...]:
        return (SPLIT if self.item is None else self.item.partition("/")[0],)

    @property
    def forms(self) -> tuple[str, ...]:
        return (WRITTEN,) if self.item is None else tuple(FORM_SUFFIX)

    def items(self, split: str, n: int) -> list[Item]:
        if split not in self.splits:
            raise unknown("split", split, self.splits, where=f"task {self.name}")
        if n != 1:
            raise BadInput(f"Split {split}: n is {n}, and task {self.name} has one question.")
        if self.item is not None:
            return [_found(self.item)]
        text = str(self.written)
        try:
            problem = parse_problem(text)
        except ValueError:
            problem = None
        name = f"{SPLIT}/{hashlib.sha256(text.encode()).hexdigest()[:12]}"
        return [Item(name, "" if problem is None else str(problem.answer), problem)]

    def prompt(self, item: Item, form: str) -> str:
        if self.written is None:
            return FindStart().prompt(item, form)
        if form != WRITTEN:
            raise unknown("prompt form", form, self.forms, where=f"task {self.name}")
        return self.written

    def grade(self, item: Item, text: str, known: Known = NOTHING) -> Grade:
        if item.data is None:
            return unscorable(self.name, None, "this prompt has no right answer to compare with")
        return FindStart().grade(item, text, known)


def _found(item: str) -> Item:
    """An item of the built-in task by its id, `<split>/<number>`."""
    split, _, number = item.partition("/")
    if not number.isdigit() or len(number) > 5:
        raise BadInput(f"{item!r} is not an item of the built-in task; write for example standard-test/00007.")
    return FindStart().items(split, int(number) + 1)[-1]
