"""The twins of a task's questions, as a card asks them.

Of the built-in task they are made (`tasks.twins`), of a task in words by words that the user names (`tasks.rewording`). A spec of twins is
read again from a stored run.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from steering.errors import BadInput

from ...pair.problem import Problem
from ...tasks.findstart import FindStart
from ...tasks.formed import Formed
from ...tasks.rewording import Reworded, as_words
from ...tasks.task import Task, resolve_task
from ...tasks.twins import TwinFindStart
from .asked import Elicit


@dataclass(frozen=True)
class Variant:
    """Twins of a task's questions."""

    name: str
    spec: str | dict[str, Any]
    again: str = ""
    """The variant that this one is another draw of."""
    beside: bool = False
    """Whether random directions answer it."""

    @property
    def task(self) -> TwinFindStart | Reworded:
        found = resolve_task(self.spec)
        assert isinstance(found, TwinFindStart | Reworded)
        return found

    def among(self, asked: Task, split: str, n: int) -> int:
        """How many of the first n questions have such a twin."""
        own = self.task
        return sum(own.has(item) for item in asked.items(split, n))


def variants(asked: Elicit, words: Mapping[str, str]) -> list[Variant]:
    """The twins of a task. Raises BadInput where it has none."""
    found = asked.found
    if isinstance(found, TwinFindStart | Reworded):
        raise BadInput(f"card symbols: {found.name} is made of twins already; name the task that they are twins of.")
    if isinstance(found, FindStart):
        if words:
            raise BadInput("card symbols: the built-in task has twins of its own; `words` is for tasks in words.")

        def named(twin: str, draw: int = 0) -> str:
            return TwinFindStart(found.rules, found.candidates, twin, draw).name

        return [
            Variant("renamed", named("renamed"), beside=True),
            Variant("renamed, another unit", named("renamed", 1), again="renamed"),
            Variant("permuted", named("permuted")),
            Variant("unseen operands", named("unseen"), beside=True),
        ]
    if not words:
        raise BadInput(
            f"card symbols: name words of {found.name}'s questions and others for them: --set 'words={{apples: blickets, red: wug}}'."
        )
    spec = {"dataset": asked.task} if isinstance(asked.task, str) else dict(asked.task)
    own = [Variant("other words", spec | {"words": dict(words)}, beside=True)]
    if len(words) > 1:
        own.append(
            Variant("other words, given to each other", spec | {"words": dict(words), "draw": 1}, again="other words")
        )
    return own


def absent_words(task: Task, split: str, n: int, words: Mapping[str, str]) -> list[str]:
    """Which of the words stand in none of the first n questions."""
    if not isinstance(task, Formed):
        return []
    texts = [task.question(item) for item in task.items(split, n)]
    return [old for old, new in words.items() if not any(as_words({old: new}).found(text) for text in texts)]


def frequent_words(task: Task, split: str, n: int, most: int = 3) -> list[str]:
    """The words of four letters and more that stand in most of the first n questions, for an example."""
    if not isinstance(task, Formed):
        return []
    found = Counter(
        word for item in task.items(split, n) for word in set(re.findall(r"[a-z]{4,}", task.question(item).lower()))
    )
    return [word for word, _ in sorted(found.items(), key=lambda pair: (-pair[1], pair[0]))[:most]]


def guessing_of(task: Task, split: str, n: int) -> dict[str, float]:
    """What guessing gives by question: one in as many as there are candidates; 0 where none are listed."""
    items = task.items(split, n)
    return {item.id: 1 / len(item.data.candidates) if isinstance(item.data, Problem) else 0.0 for item in items}
