"""Words made less likely while a text is written: the thought-switching penalty (TIP, 2501.18585), and soft or hard suppression.

Of a word that is several tokens the first is penalised, with and without a blank before it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from pydantic import Field

from steering.engine.generation import Row, generate
from steering.engine.penalty import Penalty
from steering.engine.sampling import GenerationSettings
from steering.errors import BadInput
from steering.model.models import LoadedModel

from .candidates import Asked, Candidate
from .decoder import Fields


class Suppression(Fields):
    """`strength` in nats (none: the words cannot be written), for `window` tokens from where a thought begins (none: everywhere)."""

    words: tuple[str, ...] = ()
    ids: tuple[int, ...] = ()
    """Token ids beside those of the words."""
    strength: float | None = Field(default=None, gt=0)
    window: int | None = Field(default=None, ge=1)

    def penalty(self, model: LoadedModel) -> Penalty:
        """What is taken from the logits of `model`. Raises BadInput for words that its tokenizer does not know."""
        found = dict.fromkeys(self.ids)
        size = len(model.tokenizer)
        if outside := [token for token in self.ids if not 0 <= token < size]:
            raise BadInput(f"suppression: id {outside[0]} is not in the vocabulary of {model.id} (0 to {size - 1}).")
        for word in self.words:
            found |= dict.fromkeys(first_tokens(model, word))
        return Penalty(tuple(found), math.inf if self.strength is None else self.strength, self.window)

    def check(self, model: LoadedModel, settings: GenerationSettings) -> None:
        self.penalty(model)

    def candidates(
        self, model: LoadedModel, asked: Sequence[Asked], settings: GenerationSettings, batch_size: int
    ) -> list[list[Candidate]]:
        settings = replace(settings, penalty=self.penalty(model))
        rows = [Row(one.prompt_ids, one.plan, one.seed) for one in asked]
        written = generate(model, rows, settings, batch_size=batch_size)
        return [
            [Candidate(text, one.answered(text), None, len(text.token_ids))]
            for one, text in zip(asked, written, strict=True)
        ]

    def choose(self, candidates: Sequence[Candidate], asked: Asked) -> tuple[int, list[float | None]]:
        return 0, [None]


def first_tokens(model: LoadedModel, word: str, where: str = "suppression") -> list[int]:
    """First token of a word where it begins a text and where a blank stands before it. Raises BadInput for a word that the tokenizer does
    not know, saying `where` it was named."""
    from steering.compile.text import token_facts

    facts, found = token_facts(model), []
    facts.check_text(word, "")
    for form in (word, f" {word}"):
        ids = model.tokenizer(form, add_special_tokens=False)["input_ids"]
        named = [token for token in ids if facts.has_content(token)]
        found += named[:1]
    if not found:
        raise BadInput(f"{where}: {word!r} is only blanks and stops for {model.id}; name a word.")
    return list(dict.fromkeys(found))
