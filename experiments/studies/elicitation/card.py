"""What a card is, and what it finds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from .asked import Elicit
    from .workroom import Workroom

Preset = Literal["quick", "full"]


class Options(BaseModel):
    """Sizes of a card. Cards have fields of their own beside it."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    n: int = Field(default=200, ge=1)
    """Questions per setting."""


class Point(BaseModel):
    """One arm in one setting: accuracy against all tokens generated. Shares and differences in [0, 1]."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    setting: str
    arm: str
    label: str
    role: str
    n: int
    """Questions."""
    accuracy: float
    low: float
    high: float
    tokens: float
    """Generated per question, those of texts that were not chosen included."""
    truncated: int
    unscorable: int
    difference: float | None = None
    """Against the setting's baseline, paired."""
    difference_low: float | None = None
    difference_high: float | None = None
    p: float | None = None
    control: str | None = None
    """The arm that stands beside this one as its control."""
    over_control: float | None = None
    """Against that control, paired."""
    over_control_low: float | None = None
    over_control_high: float | None = None
    run: str
    """The run that holds its rows."""
    split: str


class Table(BaseModel):
    """A table of a card: heads, lines of text or numbers, and what is to be known to read it."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    title: str
    heads: tuple[str, ...]
    lines: tuple[tuple[str | int | float | None, ...], ...]
    notes: tuple[str, ...] = ()


class Findings(BaseModel):
    """What a card found, as it is stored."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    card: str
    systems: tuple[str, ...]
    papers: tuple[str, ...]
    pair: tuple[str, str | None]
    task: str
    preset: str
    options: dict[str, Any]
    points: tuple[Point, ...]
    tables: tuple[Table, ...]
    said: tuple[str, ...]
    """Sentences: what the numbers show, and what they do not."""
    runs: tuple[str, ...]


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
