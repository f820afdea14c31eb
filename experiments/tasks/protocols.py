"""What an evaluation needs of a task, and what some tasks have beside it."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from steering.model.reader import Reads

from .graders.grade import NOTHING, Grade, Known
from .items import Item
from .labellers import Labeller


class Task(Protocol):
    """What an evaluation needs of a task."""

    @property
    def name(self) -> str: ...

    @property
    def splits(self) -> tuple[str, ...]: ...

    @property
    def forms(self) -> tuple[str, ...]: ...

    @property
    def digest(self) -> str: ...

    def items(self, split: str, n: int) -> list[Item]: ...

    def prompt(self, item: Item, form: str) -> str: ...

    def grade(self, item: Item, text: str, known: Known = NOTHING) -> Grade: ...


@runtime_checkable
class Encodes(Protocol):
    """A task whose prompts depend on the model (chat templates)."""

    def encode(self, model: Reads, item: Item, form: str, opening: str = "") -> tuple[int, ...]: ...

    def fed_text(self, model: Reads, item: Item, form: str, opening: str = "") -> str: ...


@runtime_checkable
class Labels(Protocol):
    """A task whose responses are labelled by somebody who errs, where its spec asks for it."""

    @property
    def labeller(self) -> Labeller | None: ...
