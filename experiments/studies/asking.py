"""What a study asks, on any task: two prompt forms of the same questions, and which questions are read, chosen on, and reported.

1. Without anything said it is the built-in task: training problems are read, development splits choose, test splits report.
2. On another task the three are splits that its spec names. One question must not serve two of them: what is chosen on the questions that
   are reported is no result.
3. Prompts are the ids that an evaluation of the same task feeds, chat templates included.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from rich.console import Console

from steering.engine.generation import Generation, Row, generate
from steering.engine.sampling import GenerationSettings
from steering.errors import BadInput, unknown
from steering.extraction import Reading
from steering.model.models import LoadedModel

from ..tasks.findstart import FindStart
from ..tasks.items import Item, stream_seed
from ..tasks.remarks import say
from ..tasks.task import Task, asked_ids, resolve_task
from .readings import training_problems

TOKENS = 360
"""Tokens of a text where a study does not say."""


@dataclass(frozen=True)
class Asking:
    """A task, its two prompt forms, and the questions of a study."""

    task: str | Mapping[str, Any] = "find-start"
    direct: str = "quick"
    """The form that asks for the answer at once: the baseline."""
    reasoning: str = "think"
    """The form that asks for reasoning first."""
    others: tuple[str, ...] = ("bare",)
    """Further forms that are reported."""
    read: Mapping[str, int] = field(default_factory=dict)
    """Questions that are read, by split; training problems of the built-in task where none is named."""
    development: Mapping[str, int] = field(default_factory=lambda: {"standard-dev": 48, "hard-dev": 24})
    test: Mapping[str, int] = field(
        default_factory=lambda: {"standard-test": 200, "hard-test": 200, "new-map-test": 200}
    )
    max_new_tokens: int = TOKENS

    @cached_property
    def found(self) -> Task:
        """The task."""
        return resolve_task(self.task if isinstance(self.task, str) else dict(self.task))

    @property
    def builtin(self) -> bool:
        """Whether it is the built-in task, whose labels and traces are exact."""
        return isinstance(self.found, FindStart)

    def check(self) -> None:
        """Raises BadInput for a form that the task lacks, for no questions to read, or for a question that serves two purposes."""
        for form in (self.direct, self.reasoning, *self.others):
            if form not in self.found.forms:
                raise unknown("prompt form", form, self.found.forms, where=f"task {self.found.name}")
        if not self.builtin and not self.read:
            raise BadInput(
                f"Task {self.found.name}: name the questions that are read, as split:count, for example train:200."
            )
        seen: dict[str, str] = {}
        for purpose, splits in (("read", self.read), ("chosen on", self.development), ("reported", self.test)):
            for split, n in splits.items():
                for item in self.found.items(split, n):
                    asked = " ".join(
                        self.found.prompt(item, self.direct).split()
                    )  # one blank more is the same question
                    if seen.setdefault(asked, purpose) != purpose:
                        raise BadInput(
                            f"Item {item.id} of split {split} is {purpose}, and the same question is {seen[asked]}; give splits that share "
                            f"no question."
                        )

    def questions(self, n: int) -> list[Item]:
        """The first `n` questions that are read."""
        if self.builtin and not self.read:
            return [Item(f"train/{i:05d}", str(p.answer), p) for i, p in enumerate(training_problems(n))]
        items = [item for split, count in self.read.items() for item in self.found.items(split, count)]
        return items[:n]

    def prompts(self, model: LoadedModel, items: Sequence[Item], form: str) -> list[tuple[int, ...]]:
        """Ids of the items' prompts in a form."""
        return [asked_ids(self.found, model, item, form) for item in items]

    def reading(self, model: LoadedModel, items: Sequence[Item], form: str) -> Reading:
        """The last token of each prompt."""
        return Reading.last_token(self.prompts(model, items, form))

    def responses(
        self, model: LoadedModel, items: Sequence[Item], form: str, *, temperature: float = 1.0, batch_size: int = 96
    ) -> list[Generation]:
        """One response per item, with its entropies; sampled unless `temperature` is 0."""
        rows = [
            Row(ids, seed=stream_seed(item.id, 0))
            for item, ids in zip(items, self.prompts(model, items, form), strict=True)
        ]
        return generate(
            model, rows, GenerationSettings(self.max_new_tokens, temperature=temperature), batch_size=batch_size
        )

    def say(self, models: Sequence[LoadedModel], n: int | None = None, console: Console | None = None) -> None:
        """Warn of questions that are repeated, or that a model's tokenizer does not know; `n` of those that are read, by default all."""
        read = self.questions(n or sum(self.read.values())) if n or self.read else []
        items = {"read": read} if read else {}
        for splits in (self.development, self.test):
            items |= {split: self.found.items(split, count) for split, count in splits.items()}
        forms = dict.fromkeys((self.direct, self.reasoning, *self.others))
        say(self.found, items, [(model, form) for model in models for form in forms], console)


BUILTIN = Asking()
TRAINING = Asking(development={}, test={})
"""Training problems of the built-in task alone."""


def task_of(asking: Asking) -> str | dict[str, Any]:
    """The task as an evaluation's spec writes it."""
    return asking.task if isinstance(asking.task, str) else dict(asking.task)


def counted(text: str, option: str) -> dict[str, int]:
    """`dev:48,hard:24` as a mapping. Raises BadInput naming the option."""
    found: dict[str, int] = {}
    for part in filter(None, text.split(",")):
        split, colon, count = part.strip().rpartition(":")
        if not colon or not split or not count.isdigit() or int(count) < 1:
            raise BadInput(f"{option} {text}: write split:count, such as dev:48 or dev:48,hard:24.")
        found[split] = int(count)
    return found
