"""Several samples of one question, and one of them chosen: self-consistency (2203.11171) and best-of-n.

`majority` takes the answer that most samples give (the first to be given wins a tie) and shows its likeliest text; `logprob` and
`normalised` take the likeliest text, as a whole and per token; `first` is one sample, the control.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from pydantic import Field

from steering.engine.generation import Row, generate
from steering.engine.sampling import GenerationSettings
from steering.model.models import LoadedModel

from .candidates import Asked, Candidate, best, own_seed, votes
from .decoder import Fields


class Samples(Fields):
    """`n` samples at `temperature`."""

    n: int = Field(default=10, ge=1)
    temperature: float = Field(default=1.0, gt=0)
    top_p: float | None = Field(default=None, gt=0, le=1)
    choose_by: Literal["majority", "logprob", "normalised", "first"] = "majority"

    def candidates(
        self, model: LoadedModel, asked: Sequence[Asked], settings: GenerationSettings, batch_size: int
    ) -> list[list[Candidate]]:
        drawn = replace(settings, temperature=self.temperature, top_p=self.top_p, top_k=None, min_p=None)
        rows = [Row(one.prompt_ids, one.plan, own_seed(one.seed, n)) for one in asked for n in range(self.n)]
        written = iter(generate(model, rows, drawn, batch_size=batch_size))
        found = []
        for one in asked:
            texts = [next(written) for _ in range(self.n)]
            found.append([Candidate(text, one.answered(text), None, len(text.token_ids)) for text in texts])
        return found

    def spent(self, candidates: Sequence[Candidate]) -> int:
        return candidates[0].spent if self.choose_by == "first" else super().spent(candidates)

    def choose(self, candidates: Sequence[Candidate], asked: Asked) -> tuple[int, list[float | None]]:
        likely: list[float | None] = [
            one.per_token if self.choose_by == "normalised" else one.logprob for one in candidates
        ]
        if self.choose_by == "first":
            return 0, likely
        if self.choose_by == "majority" and (groups := votes(candidates, asked.same)):
            counts = {n: float(len(group)) for group in groups for n in group}
            most = max(groups, key=lambda group: (len(group), -group[0]))
            return best(most, likely), [counts.get(n, 0.0) for n in range(len(candidates))]
        return best(range(len(candidates)), likely), likely
