"""A task of one conversation of the user's own, asked through the model's chat template.

    task: {dataset: conversation, turns: [{role: user, content: What is 2+2?}], thinking: true}

1. What is fed is what `steer generate --chat` feeds (`conversations`): a user's turn is data, and what a template would drop is refused.
2. There is no right answer to compare with.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from steering.errors import BadInput, unknown

from .graders.grade import NOTHING, Grade, Known, unscorable
from .items import Item
from .turn import Turn, check_turns

if TYPE_CHECKING:
    from steering.model.reader import Reads

    from .conversations import Asked

FORM = "bare"
SPLIT = "prompt"


@dataclass(frozen=True)
class Conversation:
    """Turns, and the switch of a template that has one for thinking. Raises BadInput."""

    turns: tuple[Turn, ...]
    thinking: bool | None = None

    def __post_init__(self) -> None:
        check_turns(self.turns)

    @property
    def name(self) -> str:
        return "conversation"

    @property
    def digest(self) -> str:
        return self.name

    @property
    def splits(self) -> tuple[str, ...]:
        return (SPLIT,)

    @property
    def forms(self) -> tuple[str, ...]:
        return (FORM,)

    def items(self, split: str, n: int) -> list[Item]:
        if split != SPLIT:
            raise unknown("split", split, self.splits, where=f"task {self.name}")
        if n != 1:
            raise BadInput(f"Split {split}: n is {n}, and task {self.name} has one conversation.")
        told = json.dumps([[turn.role, turn.content] for turn in self.turns] + [[self.thinking]])
        return [Item(f"{SPLIT}/{hashlib.sha256(told.encode()).hexdigest()[:12]}", "", None)]

    def prompt(self, item: Item, form: str) -> str:
        """The turns as they were written, without a template."""
        if form != FORM:
            raise unknown("prompt form", form, self.forms, where=f"task {self.name}")
        return "\n\n".join(f"{turn.role}: {turn.content}" for turn in self.turns)

    def encode(self, model: Reads, item: Item, form: str, opening: str = "") -> tuple[int, ...]:
        return self._asked(model, opening).ids

    def fed_text(self, model: Reads, item: Item, form: str, opening: str = "") -> str:
        return self._asked(model, opening).text

    def _asked(self, model: Reads, opening: str) -> Asked:
        from .conversations import asked
        from .own_texts import Message, OwnPrompt

        turns = [(turn.role, turn.content) for turn in self.turns]
        if opening and turns[-1][0] == "assistant":
            turns[-1] = ("assistant", turns[-1][1] + opening)
        elif opening:
            turns.append(("assistant", opening))
        messages = tuple(Message(role=role, content=content) for role, content in turns)
        return asked(model, [OwnPrompt(messages=messages)], chat=True, thinking=self.thinking)[0]  # type: ignore[arg-type]

    def grade(self, item: Item, text: str, known: Known = NOTHING) -> Grade:
        return unscorable(self.name, None, "a conversation has no right answer to compare with")


def conversation_of(given: Mapping[str, Any]) -> Conversation:
    """From a task's mapping. Raises BadInput."""
    turns = given.get("turns")
    if not isinstance(turns, Sequence) or isinstance(turns, str):
        raise BadInput("Task conversation names its `turns`: a list of {role: user, content: ...}.")
    if given.get("thinking") not in (None, True, False):
        raise BadInput(f"Task conversation: thinking is {given['thinking']!r}; give true or false, or leave it out.")
    try:
        return Conversation(tuple(Turn.model_validate(turn) for turn in turns), given.get("thinking"))
    except ValidationError as error:
        first = error.errors()[0]
        raise BadInput(f"task.turns.{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
