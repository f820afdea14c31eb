"""The rows of a hybrid: what is asked for, what is kept while one is written, and what is given back.

1. Every gated token is a `Choice`; the receipt counts the shifts that were decided (on the host) and those that the hook made.
2. Numbers per token are of the base as run: shifted where it was shifted.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..engine.record import Finish, Generation, NonFinite, Receipt
from .controller import Controller


@dataclass(frozen=True)
class HybridRow:
    """One text to be written: the prompt as the base is fed it, as the thinking model is fed it (the same by default), and the rule."""

    prompt_ids: tuple[int, ...]
    controller: Controller
    thinking_ids: tuple[int, ...] | None = None
    seed: int = 0
    """Of the draws of `share` and of random categories."""

    @property
    def theirs(self) -> tuple[int, ...]:
        """The prompt as the thinking model is fed it."""
        return self.prompt_ids if self.thinking_ids is None else self.thinking_ids


@dataclass(frozen=True)
class Choice:
    """One gated token: its place in the generated tokens, and what was done."""

    token: int
    category: int
    """-1 where none was read (`substitute`)."""
    alpha: float
    """Coefficient of the shift; NaN where there is none."""
    agreed: bool | None
    """Whether the models' unsteered greedy tokens were the same; None without a thinking model."""
    matched: bool | None
    """Whether the emitted token is the thinking model's greedy one; None without a thinking model."""


@dataclass(frozen=True)
class HybridGeneration(Generation):
    """A generation with its gated tokens."""

    choices: tuple[Choice, ...] = ()


@dataclass(frozen=True)
class Wish:
    """What an open gate decided, and what is kept for the record."""

    category: int
    alpha: float
    thought: int | None
    """The thinking model's greedy token. Nothing reads it before the token is chosen."""
    agreed: bool | None


@dataclass
class Writing:
    """A row being written."""

    index: int
    """Place in the rows asked for."""
    asked: HybridRow
    tokens: list[int] = field(default_factory=list)
    numbers: list[np.ndarray] = field(default_factory=list)
    ratio: list[float] = field(default_factory=list)
    """Per generated token, ‖delta‖ / ‖h‖ of the edit that it was predicted from."""
    choices: list[Choice] = field(default_factory=list)
    planned: int = 0
    fired: int = 0
    finish: Finish | None = None
    broken: float = 0.0
    """Of a row whose logits became NaN or infinite: size of the edit that they come from."""
    wish: Wish | None = None
    """Set while the newest token is to be read again, shifted."""
    starts_sentence: bool = True
    """Whether the next token begins a sentence."""

    def record(self, category: int, alpha: float, agreed: bool | None, matched: bool | None) -> None:
        """Note the choice of the token about to be written."""
        self.choices.append(Choice(len(self.tokens), category, alpha, agreed, matched))

    def generation(self) -> HybridGeneration:
        """The row as it is now."""
        prompt = self.asked.prompt_ids
        table = np.stack(self.numbers) if self.numbers else np.zeros((0, 2), np.float32)
        wide = (table.shape[1] - 2) // 2
        # an edit made at a position is the one that the token after it was predicted from
        last = self.broken if np.isfinite(self.broken) else 0.0
        ratio = (*(0.0,) * (len(prompt) - 1), *self.ratio, last)
        broke = self.finish == "nonfinite"
        return HybridGeneration(
            prompt,
            tuple(self.tokens),
            self.finish or "cancelled",
            tuple(table[:, 0].tolist()),
            tuple(table[:, 1].tolist()),
            tuple(int(i) for i in table[:, 2 + wide :].reshape(-1)),
            tuple(table[:, 2 : 2 + wide].reshape(-1).tolist()),
            Receipt(self.planned, self.fired, ratio),
            NonFinite(len(prompt) + len(self.tokens) - 1, "logits") if broke else None,
            choices=tuple(choice for choice in self.choices if choice.token < len(self.tokens)),
        )
