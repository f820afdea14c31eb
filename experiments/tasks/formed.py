"""Tasks that are asked through prompt forms: templates, with or without the model's chat template."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

from steering.errors import unknown
from steering.model.reader import Reads

from .items import Item
from .prompting import Form, encode_form, prompt_text


class Formed(ABC):
    """What a task needs to say: its forms by name, and an item's question."""

    @property
    @abstractmethod
    def name(self) -> str: ...

    @property
    @abstractmethod
    def asked(self) -> Mapping[str, Form]:
        """Prompt forms by name."""

    @abstractmethod
    def question(self, item: Item) -> str:
        """The question of an item, which is data."""

    @property
    def forms(self) -> tuple[str, ...]:
        """Names of the prompt forms."""
        return tuple(self.asked)

    def prompt(self, item: Item, form: str) -> str:
        """The user's text, without a chat template."""
        return self._form(form).text(self.question(item))

    def encode(self, model: Reads, item: Item, form: str, opening: str = "") -> tuple[int, ...]:
        """Ids as fed to this model."""
        return encode_form(model, self._form(form), self.question(item), opening)

    def fed_text(self, model: Reads, item: Item, form: str, opening: str = "") -> str:
        """The text that `encode` encodes."""
        return prompt_text(model, self._form(form), self.question(item)) + opening

    def _form(self, name: str) -> Form:
        if name not in self.asked:
            raise unknown("prompt form", name, self.asked, where=f"task {self.name}")
        return self.asked[name]
