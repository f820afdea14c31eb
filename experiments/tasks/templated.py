"""A task asked through further templates: its items, right answers and grader, and prompt forms that are data.

    task: {dataset: templates, task: find-start, templates: {careful: "{question} think first"}}

1. A template holds `{question}` once or more often, and nothing else in it is special; with `chat: true` and so on it is a whole prompt
   form (`prompting.Form`). The forms of the task itself stay as they are.
2. The question is what the task asks apart from the words of its forms; of the built-in task it is the bare prompt, with its `?`.
3. The digest is that of the task and of the templates.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import field_validator

from steering.errors import BadInput, unknown
from steering.model.prompts import encode_prompt
from steering.model.reader import Reads

from .findstart import FindStart
from .formed import Formed
from .graders.grade import NOTHING, Grade, Known
from .items import Item
from .labellers import Labeller
from .prompting import SLOT, Form, encode_form, prompt_text
from .protocols import Task


class Template(Form):
    """A prompt form that may hold the question more than once."""

    @field_validator("template")
    @classmethod
    def _has_a_slot(cls, value: str) -> str:
        if SLOT not in value:
            raise ValueError(f"a template holds {SLOT}, which stands for the question; {value[:60]!r} does not")
        return value


def as_template(value: Any) -> Template:
    """A template from a spec: a text alone is a plain one. Raises pydantic's ValidationError."""
    return Template.model_validate({"template": value} if isinstance(value, str) else value)


@dataclass(frozen=True)
class Templated:
    """The task `inner`, with templates by name beside its own forms. Raises BadInput for a name that is taken, and for a task without
    questions of its own."""

    inner: Task
    templates: Mapping[str, Template]

    def __post_init__(self) -> None:
        if not isinstance(self.inner, FindStart | Formed):
            raise BadInput(
                f"Task {self.inner.name} has no questions apart from its prompts, so no template can hold them; name another task."
            )
        if not self.templates:
            raise BadInput("Task templates: name at least one template.")
        taken = [name for name in self.templates if name in self.inner.forms]
        if taken:
            raise BadInput(f"Template {taken[0]!r}: task {self.inner.name} has a form of that name; give it another.")

    @property
    def name(self) -> str:
        return self.inner.name

    @property
    def splits(self) -> tuple[str, ...]:
        return self.inner.splits

    @property
    def forms(self) -> tuple[str, ...]:
        return (*self.inner.forms, *self.templates)

    @property
    def digest(self) -> str:
        facts = {name: form.model_dump(mode="json") for name, form in self.templates.items()}
        told = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
        return f"{self.inner.digest}+templates-{told}"

    @property
    def labeller(self) -> Labeller | None:
        """Who labels the sentences of responses."""
        found: Labeller | None = getattr(self.inner, "labeller", None)
        return found

    def items(self, split: str, n: int) -> list[Item]:
        return self.inner.items(split, n)

    def question(self, item: Item) -> str:
        """What templates hold."""
        return (
            str(item.data.prompt("bare")) if isinstance(self.inner, FindStart) else _formed(self.inner).question(item)
        )

    def prompt(self, item: Item, form: str) -> str:
        """The user's text, without a chat template."""
        if form in self.templates:
            return self.templates[form].text(self.question(item))
        if form not in self.forms:
            raise unknown("prompt form", form, self.forms, where=f"task {self.name}")
        return self.inner.prompt(item, form)

    def encode(self, model: Reads, item: Item, form: str, opening: str = "") -> tuple[int, ...]:
        """Ids as fed to this model."""
        if form in self.templates:
            return encode_form(model, self.templates[form], self.question(item), opening)
        if isinstance(self.inner, Formed):
            return self.inner.encode(model, item, form, opening)
        return encode_prompt(model, self.prompt(item, form) + opening)

    def fed_text(self, model: Reads, item: Item, form: str, opening: str = "") -> str:
        """The text that `encode` encodes."""
        if form in self.templates:
            return prompt_text(model, self.templates[form], self.question(item)) + opening
        if isinstance(self.inner, Formed):
            return self.inner.fed_text(model, item, form, opening)
        return self.prompt(item, form) + opening

    def grade(self, item: Item, text: str, known: Known = NOTHING) -> Grade:
        return self.inner.grade(item, text, known)


def _formed(task: Any) -> Formed:
    assert isinstance(task, Formed)
    return task
