"""Budget forcing (2501.19393): where a text would end, a word is put there instead of the end token, and the model goes on.

The first end is the model's own; `times` of them are replaced. A text that is cut at the limit is left as it is; the score of a
candidate is how often a word was put into it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pydantic import Field

from steering.engine.generation import Generation, Row, generate
from steering.engine.sampling import GenerationSettings
from steering.model.models import LoadedModel

from .candidates import Asked, Candidate
from .decoder import Fields
from .paths import cue_ids, with_numbers


class BudgetForcing(Fields):
    """`word` in the place of the first `times` end tokens; as text, with its leading blank where the tokenizer has one."""

    times: int = Field(default=1, ge=1)
    word: str = "Wait"

    def check(self, model: LoadedModel, settings: GenerationSettings) -> None:
        cue_ids(model, self.word)

    def candidates(
        self, model: LoadedModel, asked: Sequence[Asked], settings: GenerationSettings, batch_size: int
    ) -> list[list[Candidate]]:
        word = cue_ids(model, self.word)
        found: list[Generation] = generate(
            model, [Row(one.prompt_ids, one.plan, one.seed) for one in asked], settings, batch_size=batch_size
        )
        put = [0] * len(found)
        for _ in range(self.times):
            going = [
                n
                for n, text in enumerate(found)
                if text.finish == "eos" and len(text.token_ids) - 1 + len(word) < settings.max_new_tokens
            ]
            rows = [
                Row(asked[n].prompt_ids, asked[n].plan, asked[n].seed, begun=(*found[n].token_ids[:-1], *word))
                for n in going
            ]
            longer = generate(model, rows, replace(settings), batch_size=batch_size) if rows else []
            for n, text in zip(going, longer, strict=True):
                found[n] = with_numbers(text, found[n])
                put[n] += 1
        return [
            [Candidate(text, one.answered(text), float(count), len(text.token_ids))]
            for one, text, count in zip(asked, found, put, strict=True)
        ]

    def choose(self, candidates: Sequence[Candidate], asked: Asked) -> tuple[int, list[float | None]]:
        return 0, [candidates[0].score]
