"""What cards are asked about: a pair of models, a task, and the settings in which elicitors are compared.

1. A setting is a split and a prompt form. The built-in pair has two: bare prompts, where what is elicited is the first word, and
   think-first prompts of hard problems, where the decisions lie inside the trace.
2. Another task names its split, its direct form and the form that asks to think first; both are settings on the same questions.
"""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from steering.model.models import LoadedModel

from ...evaluation.loading import Loading
from ...tasks.findstart import FindStart
from ...tasks.task import Task, check_form, resolve_task


class Setting(BaseModel):
    """Questions of a split, asked in a form."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    split: str
    form: str


BUILTIN = (
    Setting(name="bare prompts", split="standard-test", form="bare"),
    Setting(name="think-first prompts, hard problems", split="hard-test", form="think"),
)


class Elicit(BaseModel):
    """The pair, the task and the settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    base: str = "builtin:base"
    thinking: str | None = "builtin:thinking"
    """The model at the other end of the gap; None where there is none."""
    task: str | dict[str, Any] = "find-start"
    settings: tuple[Setting, ...] = Field(default=BUILTIN, min_length=1)
    think: str = "think"
    """The form that asks to think first: the prompt that every elicitor stands beside."""
    max_new_tokens: int = Field(default=360, ge=2)
    loading: Loading | None = None

    @model_validator(mode="after")
    def _asked_of_the_task(self) -> Elicit:
        for form in (*(setting.form for setting in self.settings), self.think):
            check_form(self.found, form)
        names = [setting.name for setting in self.settings]
        if len(set(names)) < len(names):
            twice = next(name for place, name in enumerate(names) if name in names[:place])
            raise ValueError(f"two settings are called {twice!r}; give each a name of its own")
        seen: dict[tuple[str, str], str] = {}
        for setting in self.settings:
            if (other := seen.setdefault((setting.split, setting.form), setting.name)) != setting.name:
                raise ValueError(
                    f"{other} and {setting.name} ask the same questions, those of {setting.split}, in one form, {setting.form}; name two "
                    f"of {', '.join(self.found.forms)}"
                )
        if self.thinking == self.base:
            raise ValueError(f"{self.base} is both models of the pair; name another thinking model, or one model alone")
        return self

    @cached_property
    def found(self) -> Task:
        """The task. Raises BadInput."""
        return resolve_task(self.task)

    @property
    def builtin(self) -> bool:
        """Whether it is the built-in task, whose traces are verified line by line."""
        return isinstance(self.found, FindStart)

    def digest(self, models: dict[str, LoadedModel], **facts: Any) -> str:
        """Hash of the models, of what is asked, and of `facts`: 12 hexadecimal digits."""
        own = self.model_dump(mode="json", exclude={"base", "thinking", "task"}) | facts
        known = [[model.fingerprint, model.tokenizer_fingerprint] for model in models.values()]
        text = json.dumps([known, self.found.name, self.found.digest, own], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]
