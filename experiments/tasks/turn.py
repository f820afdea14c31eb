"""Turns of a conversation as plain data, checked without a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from steering.errors import BadInput

Role = Literal["system", "user", "assistant"]


class Turn(BaseModel):
    """One turn. An assistant's turn at the end is the beginning of the response."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    role: Role
    content: str = Field(min_length=1, max_length=200_000)


def check_turns(turns: Sequence[Turn]) -> None:
    """Raises BadInput for turns that no chat template takes."""
    if any(not turn.content.strip() for turn in turns):
        raise BadInput("A turn says nothing; write its text, or take it out.")
    if any(turn.role == "system" for turn in turns[1:]):
        raise BadInput("A conversation has one system prompt, and it comes first.")
    if not any(turn.role == "user" for turn in turns):
        raise BadInput("A conversation needs a user's turn.")
