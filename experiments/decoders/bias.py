"""Words made likelier at the positions of a span, and nowhere else: what a vector does if it only writes a token.

Of a word that is several tokens the first is biased, with and without a blank before it.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field, field_validator

from steering.engine.bias import Bias
from steering.engine.generation import Row, generate
from steering.engine.sampling import GenerationSettings
from steering.model.models import LoadedModel
from steering.plan.span import Span

from .candidates import Asked, Candidate
from .decoder import Fields
from .suppression import first_tokens


class WordBias(Fields):
    """`nats` are added to the logits of words and ids in predictions made from the positions of `span`."""

    words: tuple[str, ...] = ()
    ids: tuple[int, ...] = ()
    """Token ids beside those of the words."""
    nats: float = Field(allow_inf_nan=False)
    span: str = "last_prompt"

    @field_validator("span")
    @classmethod
    def _a_span(cls, value: str) -> str:
        return str(Span.parse(value))

    def bias(self, model: LoadedModel) -> Bias:
        """What is added to the logits of `model`. Raises BadInput for words and ids that its tokenizer does not know."""
        found = dict.fromkeys(self.ids)
        for word in self.words:
            found |= dict.fromkeys(first_tokens(model, word, "word-bias"))
        made = Bias(tuple(found), self.nats, Span.parse(self.span))
        made.check(len(model.tokenizer), "word-bias: ")
        return made

    def check(self, model: LoadedModel, settings: GenerationSettings) -> None:
        self.bias(model)

    def candidates(
        self, model: LoadedModel, asked: Sequence[Asked], settings: GenerationSettings, batch_size: int
    ) -> list[list[Candidate]]:
        bias = self.bias(model)
        rows = [Row(one.prompt_ids, one.plan, one.seed, bias=bias) for one in asked]
        written = generate(model, rows, settings, batch_size=batch_size)
        return [
            [Candidate(text, one.answered(text), None, len(text.token_ids))]
            for one, text in zip(asked, written, strict=True)
        ]

    def choose(self, candidates: Sequence[Candidate], asked: Asked) -> tuple[int, list[float | None]]:
        return 0, [None]
