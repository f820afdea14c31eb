"""How far texts that another program wrote are the engine's, and how near the engine's choice was where they part."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..engine.record import Generation
from ..errors import BadInput
from .nnsight_remote import RemoteRow


@dataclass(frozen=True)
class Agreement:
    """How far texts of the other program are the engine's."""

    rows: int
    equal: int
    """Rows whose tokens are the same to the end."""
    shared: float
    """Share of the engine's tokens before the first difference, over all rows."""
    widest: float
    """Where rows part: how many nats the engine's token was ahead of the other program's in the engine's eyes, the largest over rows; NaN
    where every row is equal, infinite where it was not among the engine's five likeliest."""

    @property
    def sentence(self) -> str:
        """For the reader."""
        said = f"{self.equal} of {self.rows} texts are the engine's, and {100 * self.shared:.0f} % of the tokens before they part"
        if self.equal == self.rows:
            return said + "."
        if math.isinf(self.widest):
            return said + "; at least once the other program's token is not among the engine's five likeliest."
        return said + f"; where they part the engine's token is at most {self.widest:.2g} nats ahead."


def agreement(engine: Sequence[Generation], served: Sequence[RemoteRow]) -> Agreement:
    """Compare rows of the engine (`detail="scores"`) with the same rows of another program. Raises BadInput where their prompts differ."""
    if [g.prompt_ids for g in engine] != [row.prompt_ids for row in served] or not engine:
        raise BadInput("Compare the same rows: the prompts of the two sides differ, or there are none.")
    gaps, kept, total, equal = [], 0, 0, 0
    for one, other in zip(engine, served, strict=True):
        first = next((i for i, (a, b) in enumerate(zip(one.token_ids, other.token_ids, strict=False)) if a != b), None)
        total += len(one.token_ids)
        if first is None:
            kept += min(len(one.token_ids), len(other.token_ids))
            equal += len(one.token_ids) == len(other.token_ids)
            continue
        kept += first
        gaps.append(_gap(one, first, other.token_ids[first]))
    return Agreement(len(engine), equal, kept / max(1, total), max(gaps, default=math.nan))


def _gap(one: Generation, place: int, token: int) -> float:
    width = len(one.top_ids) // max(1, len(one.token_ids))
    likely: dict[int, Any] = dict(
        zip(
            one.top_ids[place * width : (place + 1) * width],
            one.top_logprob[place * width : (place + 1) * width],
            strict=True,
        )
    )
    return float(one.logprob[place] - likely[token]) if token in likely else math.inf
