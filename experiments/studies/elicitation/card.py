"""What a card is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from steering.model.sites import Site
from steering.vector.vectors import SteeringVector

from .findings import Point, Table

if TYPE_CHECKING:
    from .asked import Elicit
    from .workroom import Workroom

Preset = Literal["quick", "full"]


class Options(BaseModel):
    """Sizes of a card. Cards have fields of their own beside it."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)
    n: int = Field(default=200, ge=1)
    """Questions per setting."""

    @property
    def vector_files(self) -> tuple[str, ...]:
        """Files of the vectors that are added to the base's activations."""
        return ()

    @property
    def further_models(self) -> tuple[str, ...]:
        """Models beside the pair; findings are those of their weights."""
        return ()

    @property
    def vector_site(self) -> str | None:
        """Where they are added; None where that is their own site."""
        return None

    def added(self) -> list[tuple[str, SteeringVector]]:
        """What is added to the base's activations, each with what names it. Raises BadInput for a file that is no vector."""
        read = [(path, SteeringVector.load(path)) for path in self.vector_files]
        site = self.vector_site
        return read if site is None else [(path, replace(one, site=Site.parse(site))) for path, one in read]


@dataclass(frozen=True)
class Card:
    """An elicitor, or a test of elicitation, with its controls."""

    name: str
    title: str
    systems: tuple[str, ...]
    """Numbers of the systems of the literature that it runs."""
    papers: tuple[str, ...]
    """arXiv ids."""
    measures: str
    """What is measured, in a sentence."""
    control: str
    quick: Options
    full: Options
    run: Callable[[Workroom, Any], tuple[list[Point], list[Table], list[str]]]
    refuse: Callable[[Elicit, Any], None] = lambda asked, options: None
    """Raises BadInput for a task or a pair that the card cannot answer for, before a model is loaded."""
    version: int = 1
    """Raised when the card computes something else: stored findings of another version are made anew."""
