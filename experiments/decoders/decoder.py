"""What a decoder is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict

from steering.engine.sampling import GenerationSettings
from steering.model.models import LoadedModel

from .candidates import Asked, Candidate


class Decoder(Protocol):
    """A way to decode. Its fields are plain data: they are stored with the arm."""

    @property
    def work(self) -> dict[str, Any]:
        """What the candidates depend on: decoders of equal work share them."""

    def check(self, model: LoadedModel, settings: GenerationSettings) -> None:
        """Raises BadInput for what does not fit the model or the settings, before it runs."""

    def candidates(
        self, model: LoadedModel, asked: Sequence[Asked], settings: GenerationSettings, batch_size: int
    ) -> list[list[Candidate]]:
        """The candidates of every question."""

    def choose(self, candidates: Sequence[Candidate], asked: Asked) -> tuple[int, list[float | None]]:
        """The chosen candidate's number, and the score by which every candidate was judged."""

    def spent(self, candidates: Sequence[Candidate]) -> int:
        """Tokens that the choice needed: of all candidates, unless it looks at some of them only."""


class Fields(BaseModel):
    """The fields of a decoder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @property
    def work(self) -> dict[str, Any]:
        return {k: v for k, v in self.model_dump(mode="json").items() if k != "choose_by"} | {
            "kind": type(self).__name__
        }

    def check(self, model: LoadedModel, settings: GenerationSettings) -> None:
        """Nothing to refuse."""

    def spent(self, candidates: Sequence[Candidate]) -> int:
        return sum(one.spent for one in candidates)
