"""A person's prompts and conversations, as a model is fed them.

1. A prompt is fed as it is written. A conversation goes through the model's chat template, up to where the next response begins; where its
   last turn is the assistant's, that is the beginning of the response, and the model goes on from it.
2. What a user says is data: what spells a control token in it is fed as ordinary tokens, or refused (`steering.model.prompts`). System
   prompts and the assistant's turns may hold control tokens, such as those around a thought.
3. What a template cannot do or would drop is refused, as in `prompting`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from steering.errors import BadInput, unknown
from steering.model.prompts import as_data, encode_prompt, unmarked
from steering.model.reader import Reads

from .own_texts import Message, OwnPrompt
from .prompting import SWITCH, in_template

ROLES = ("system", "user", "assistant")


@dataclass(frozen=True)
class Asked:
    """One prompt as fed."""

    text: str
    """The whole text, special tokens written out."""
    ids: tuple[int, ...]
    messages: tuple[Message, ...] | None
    """The conversation that it was made from; None for a prompt that is fed as it is written."""
    id: str | int | None = None

    @property
    def said(self) -> tuple[str, ...]:
        """What the person wrote."""
        return (self.text,) if self.messages is None else tuple(one.content for one in self.messages)


def parse_turn(text: str) -> Message:
    """`user:TEXT`, `assistant:TEXT` or `system:TEXT`. Raises BadInput."""
    role, colon, content = text.partition(":")
    if not colon or role not in ROLES:
        raise unknown("role", role[:40], ROLES, "--turn (write ROLE:TEXT, such as user:What is 2+2?)")
    if not content.strip():
        raise BadInput(f"--turn {text!r} says nothing; write the text after the colon.")
    return Message(role=role, content=content)  # type: ignore[arg-type]


def asked(
    model: Reads,
    prompts: Sequence[OwnPrompt],
    *,
    chat: bool = False,
    system: str | None = None,
    thinking: bool | None = None,
) -> list[Asked]:
    """Prompts as fed, in order. With `chat`, a prompt is a user's turn; `system` begins every conversation; `thinking` is the switch of a
    template that has one. Raises BadInput naming the prompt."""
    made = []
    for number, one in enumerate(prompts, 1):
        called = f"prompt {number}" + ("" if one.id is None else f" ({one.id})")
        try:
            made.append(_asked(model, one, chat, system, thinking))
        except BadInput as error:
            raise BadInput(f"{called}: {error}" if len(prompts) > 1 else str(error)) from error
    return made


def _asked(model: Reads, one: OwnPrompt, chat: bool, system: str | None, thinking: bool | None) -> Asked:
    turns = one.messages
    if turns is None and not chat:
        if system is not None or thinking is not None:
            raise BadInput("A system prompt and thinking belong to a chat template; ask with --chat.")
        text = str(one.prompt)
        return Asked(text, encode_prompt(model, text), None, one.id)
    if not turns and not str(one.prompt).strip():
        raise BadInput("The prompt is empty. Give at least one word.")
    turns = turns or (Message(role="user", content=str(one.prompt)),)
    if system is not None:
        if turns[0].role == "system":
            raise BadInput("There is a system prompt in the conversation, and another one beside it; give one.")
        turns = (Message(role="system", content=system), *turns)
    if any(turn.role == "system" for turn in turns[1:]):
        raise BadInput("A conversation has one system prompt, and it comes first.")
    if not any(turn.role == "user" for turn in turns):
        raise BadInput("A conversation needs a user's turn.")
    opening = turns[-1].content if turns[-1].role == "assistant" else ""
    options = {} if thinking is None else {SWITCH: thinking}
    before = turns[:-1] if opening else turns
    if not model.tokenizer.chat_template:
        raise BadInput(
            f"{model.id} has no chat template, so it cannot be asked in turns. Ask it with a prompt: without --chat, or in the app as an "
            "own prompt."
        )
    messages = [
        {"role": t.role, "content": as_data(model, t.content) if t.role != "assistant" else t.content} for t in before
    ]
    text = in_template(model, messages, options)
    plain = in_template(model, [{"role": t.role, "content": t.content} for t in before], options)
    if unmarked(text) != plain:
        raise BadInput(
            f"A user's turn or the system prompt spells a control token of {model.id}, and its chat template changes it; take it out."
        )
    return Asked(plain + opening, encode_prompt(model, text + opening), turns, one.id)
