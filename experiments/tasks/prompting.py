"""How a question is put to a model: prompt forms, with or without the model's own chat template.

1. A form is data: a template with `{question}` in it, and for chat models the system prompt, whether thinking is on, and other options of
   the model's template. A plain form is fed as it is written.
2. What a model's template would drop is refused rather than dropped: a system prompt that does not show in the text, `thinking` where the
   template has no such switch, a chat form for a model without a template.
3. There is exactly one BOS where the tokenizer uses one, whoever wrote it. `opening` is the beginning of the response, after everything
   that the template adds.
4. A question is data: what spells a control token of the model in it is fed as ordinary tokens, or refused where the tokenizer has none.
   Forms and system prompts are written by whoever writes the spec, and their control tokens are control tokens.
5. `fed` shows the tokens that are fed, from the ids.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator
from rich.table import Table
from rich.text import Text

from steering.errors import BadInput
from steering.model.prompts import as_data, encode_prompt, token_texts, unmarked
from steering.model.reader import Reads
from steering.model.thinking import model_markers, read_thinking

SLOT = "{question}"
SWITCH = "enable_thinking"
"""The name that chat templates give to the switch of their thinking segment."""
SPOKEN = {"system": "system prompt", "user": "question", "assistant": "response"}
"""What the messages of each role are called."""


class Form(BaseModel):
    """One way to ask."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    template: str = SLOT
    """The user's text; `{question}` stands for the question, and no other brace is special."""
    chat: bool = False
    """Whether the text goes through the model's chat template."""
    system: str | None = None
    thinking: bool | None = None
    """On or off where the chat template has a switch (`enable_thinking`); None leaves it at the template's default."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Further variables of the chat template."""
    opening: str = ""
    """The first words of every response, fed after the prompt."""

    @field_validator("template")
    @classmethod
    def _has_a_slot(cls, value: str) -> str:
        if value.count(SLOT) != 1:
            raise ValueError(f"holds {SLOT} {value.count(SLOT)} times; a prompt form holds it once")
        return value

    def text(self, question: str) -> str:
        """The user's text."""
        return self.template.replace(SLOT, question)


def as_form(value: Form | str | Mapping[str, Any]) -> Form:
    """A form from a spec: a template alone is a plain form. Raises pydantic's ValidationError."""
    return (
        value
        if isinstance(value, Form)
        else Form.model_validate({"template": value} if isinstance(value, str) else value)
    )


def prompt_text(model: Reads, form: Form, question: str) -> str:
    """The whole text as it is fed, special tokens written out. Raises BadInput for what the model's template cannot do."""
    return unmarked(_marked_text(model, form, question))


def _marked_text(model: Reads, form: Form, question: str) -> str:
    """`prompt_text` in which the question's control tokens are marked as data."""
    marked = as_data(model, question)
    text = _rendered(model, form, marked)
    if marked != question and unmarked(text) != _rendered(model, form, question):
        raise BadInput(
            f"The question holds text that spells a control token of {model.id}, and its chat template changes it; take it out."
        )
    return text


def _rendered(model: Reads, form: Form, question: str) -> str:
    if not form.chat:
        if form.system is not None or form.thinking is not None or form.options:
            raise BadInput(
                "system, thinking and options belong to a chat template; set `chat: true`, or write the words into the template."
            )
        return form.text(question) + form.opening
    options = dict(form.options)
    if form.thinking is not None:
        options[SWITCH] = form.thinking
    messages = [{"role": "user", "content": form.text(question)}]
    if form.system is not None:
        messages.insert(0, {"role": "system", "content": form.system})
    return in_template(model, messages, options) + form.opening


def in_template(model: Reads, messages: Sequence[Mapping[str, str]], options: Mapping[str, Any]) -> str:
    """Messages (`role`, `content`) in the model's chat template, up to where the response begins. `options` are variables of the template.

    Raises BadInput for a model without a template, for what its template does not know or refuses, and for what it drops of a message; what
    an earlier response thought may be dropped.
    """
    written = model.tokenizer.chat_template
    if not written:
        raise BadInput(
            f"{model.id} has no chat template, so a chat form cannot be fed to it. Use a plain form (`chat: false`) for base models."
        )
    source = written if isinstance(written, str) else " ".join(map(str, dict(written).values()))
    for name in options:
        if not re.search(rf"\b{re.escape(name)}\b", source):
            hint = " Leave `thinking` out: this template has no switch for it." if name == SWITCH else ""
            raise BadInput(f"The chat template of {model.id} has no variable {name!r}.{hint}")
    try:
        text = str(
            model.tokenizer.apply_chat_template(
                [dict(one) for one in messages], tokenize=False, add_generation_prompt=True, **options
            )
        )
    except Exception as error:  # templates raise errors of their own
        raise BadInput(f"The chat template of {model.id} refuses these messages: {error}") from error
    place = 0
    for one in messages:
        said = one["content"].strip()
        found = text.find(said, place)
        if found < 0 and one["role"] == "assistant":
            said = read_thinking(said, model_markers(model)).said.strip()
            found = text.find(said, place)
        if found < 0:
            raise BadInput(
                f"The chat template of {model.id} drops or changes the {SPOKEN[one['role']]}; put it into the form's template instead."
                if one["role"] == "system" or len(messages) <= 2
                else f"The chat template of {model.id} drops or changes what the {one['role']} says: {said[:60]!r}."
            )
        place = found + len(said)
    return text


def encode_form(model: Reads, form: Form, question: str, opening: str = "") -> tuple[int, ...]:
    """Ids of a question in a form, and after it `opening`. Raises BadInput as `prompt_text` and `encode_prompt`."""
    return encode_prompt(model, _marked_text(model, form, question) + opening)


@dataclass(frozen=True)
class FedToken:
    """One token as fed: its position, id, display text, and whether it is a special token."""

    position: int
    id: int
    text: str
    special: bool


def fed(model: Reads, ids: Sequence[int]) -> list[FedToken]:
    """The tokens that are fed, in order."""
    added = getattr(model.tokenizer, "added_tokens_decoder", {})
    special = set(model.tokenizer.all_special_ids) | {i for i, token in added.items() if token.special}
    return [
        FedToken(i, token, text, token in special)
        for i, (token, text) in enumerate(zip(ids, token_texts(model, ids), strict=True))
    ]


def fed_table(model: Reads, ids: Sequence[int], title: str = "tokens fed") -> Table:
    """`fed` for the terminal; white space is made visible."""
    table = Table(title=Text(f"{title}: {len(ids)}"), title_justify="left")
    for name, side in (("position", "right"), ("id", "right"), ("token", "left"), ("", "left")):
        table.add_column(name, justify=side)  # type: ignore[arg-type]
    for token in fed(model, ids):
        table.add_row(str(token.position), str(token.id), Text(repr(token.text)), "special" if token.special else "")
    return table
