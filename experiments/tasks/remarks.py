"""What is to be said of the questions that a task asks, before and beside what is counted on them.

1. A question that a model's tokenizer does not know is answered as if it were another one; it is looked for in the first questions, in
   every prompt form that is asked.
2. A question that stands in a split twice counts twice, so n is larger than the number of different questions; both are said.
3. Nothing is refused or changed because of it. Sentences name the task and the split, and are empty where there is nothing to say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from steering.model.prompts import unknown_in
from steering.model.reader import Reads

from ..progress import warning
from .items import Item
from .task import Task

SHOWN = 8
"""Questions that are looked at for what a tokenizer does not know."""
Asked = Sequence[tuple[Reads, str]]
"""Models and the prompt forms that they are asked in."""


def remarks(task: Task, items: Mapping[str, Sequence[Item]], asked: Asked) -> list[str]:
    """A sentence per split with repeated questions, and per model that does not know the questions; `items` by split."""
    form = asked[0][1]
    said = [sentence for split, own in items.items() if (sentence := repeated(task, split, own, form))]
    first = [item for own in items.values() for item in own][:SHOWN]
    forms: dict[str, tuple[Reads, list[str]]] = {}
    for model, name in asked:
        forms.setdefault(model.id, (model, []))[1].append(name)
    return said + [
        sentence for model, names in forms.values() if (sentence := unread(task, first, model, dict.fromkeys(names)))
    ]


def unread(task: Task, items: Sequence[Item], model: Reads, forms: Sequence[str] | Mapping[str, None]) -> str:
    """What is to be said of questions that the model's tokenizer does not know; empty where it knows all of these."""
    each = [[part for form in forms if (part := unknown_in(model, task.prompt(item, form)))] for item in items]
    odd = [found[0] for found in each if found]
    if not odd:
        return ""
    return f"{called(task)}: {len(odd)} of the first {len(items)} questions are not known whole. {odd[0].sentence(model.id)}"


def repeated(task: Task, split: str, items: Sequence[Item], form: str) -> str:
    """How many questions of a split are asked a second time, white space aside; empty where none is."""
    different = len({" ".join(task.prompt(item, form).split()) for item in items})
    if different == len(items):
        return ""
    return (
        f"{called(task)}, {split}: the {len(items)} questions are {different} different ones; what is asked twice counts twice, "
        f"and intervals are too narrow."
    )


def called(task: Task) -> str:
    """A task's name; of a data file at a whole path, the file's."""
    return Path(task.name).name if task.name.startswith("/") else task.name


def say(task: Task, items: Mapping[str, Sequence[Item]], asked: Asked, console: Console | None = None) -> None:
    """Print the remarks as warnings."""
    for sentence in remarks(task, items, asked):
        warning(sentence, console)
