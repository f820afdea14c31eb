"""What a vector, plan or probe was seen to do: `evidence.json` of its repository.

It is always there. Without effects it says that nothing is shown, and a later push replaces what an earlier one held. Shares lie in
[0, 1], intervals are of the level that is written beside them.
"""

from __future__ import annotations

from typing import Self

from pydantic import Field, field_validator, model_validator

from ...errors import BadInput
from .contents import EVIDENCE, Frozen, parsed, read_json

SLACK = 1e-9
"""By how much rounding may put an estimate outside of its interval."""


class Difference(Frozen):
    """A paired difference of shares, with its interval."""

    value: float = Field(ge=-1, le=1)
    low: float = Field(ge=-1, le=1)
    high: float = Field(ge=-1, le=1)
    p: float | None = Field(default=None, ge=0, le=1)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.low - SLACK <= self.value <= self.high + SLACK:
            raise ValueError(
                f"low, value and high must come in this order, not {self.low:g}, {self.value:g} and {self.high:g}"
            )
        return self


class RandomControls(Frozen):
    """The distribution of an arm's random controls."""

    kind: str
    """`random directions`, for example."""
    count: int = Field(ge=1)
    as_good: int = Field(ge=0)
    """Controls that do at least as well."""
    rank_p: float = Field(gt=0, le=1)
    """One-sided: (1 + as good)/(1 + count)."""
    matched: bool | None = None
    """Whether their edits are of the arm's measured size; None where that is not known."""
    difference: Difference | None = None
    """The arm minus the mean of the controls, with its interval over questions and controls."""
    lowest: float | None = Field(default=None, ge=0, le=1)
    """Accuracy of the control that does worst, over the questions that arm and controls share."""
    highest: float | None = Field(default=None, ge=0, le=1)
    """And of the one that does best."""
    few: bool | None = None
    """Whether they are too few for that interval to be relied on; None where that is not known."""

    @model_validator(mode="after")
    def _no_more_than_there_are(self) -> Self:
        if self.as_good > self.count:
            raise ValueError(f"{self.as_good} of {self.count} controls cannot be as good")
        return self


class WrongSign(Frozen):
    """The arm that subtracts what this one adds."""

    arm: str
    n: int = Field(ge=1)
    difference: Difference | None = None


class Effect(Frozen):
    """What one arm of a run that used the vector did on one split."""

    run: str = ""
    split: str
    arm: str
    role: str = "steered"
    plan: str = ""
    """What was done, in a line."""
    model: str = ""
    task: str = ""
    """The questions, and what is held against the answers where that is to be chosen."""
    new_tokens: int | None = None
    """At most, per text."""
    temperature: float | None = Field(default=None, ge=0)
    """At which texts were drawn; 0 is greedy, None where it is not known."""
    top_k: int | None = None
    top_p: float | None = None
    n: int = Field(ge=1)
    """Rows."""
    level: float = Field(default=0.95, gt=0, lt=1)
    """Of every interval; 0.95 is 95 %."""
    accuracy: float
    low: float
    high: float
    baseline: float | None = Field(default=None, ge=0, le=1)
    """Accuracy of the baseline."""
    difference: Difference | None = None
    """Arm minus baseline, paired by question."""
    controls: RandomControls | None = None
    wrong_sign: WrongSign | None = None
    tokens: float | None = Field(default=None, ge=0)
    """Mean generated tokens per row."""
    token_difference: float | None = None
    """Against the baseline, mean per row."""
    truncated: int | None = Field(default=None, ge=0)
    unscorable: int | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _no_more_than_rows(self) -> Self:
        if more := [name for name in ("truncated", "unscorable") if (getattr(self, name) or 0) > self.n]:
            raise ValueError(f"{more[0]} is {getattr(self, more[0])}, of {self.n} rows")
        return self


class Evidence(Frozen):
    """`evidence.json`: what is known of what the vector does. It is as its author gives it; nobody checks it."""

    vector: str = ""
    """Digest of the vector that it is of."""
    effects: tuple[Effect, ...] = ()
    word_audit: tuple[str, ...] = ()
    """Whether the vector is more than a word, in sentences."""
    side_effects: tuple[str, ...] = ()
    """What else changes, in sentences."""
    quality: tuple[str, ...] = ()
    """How well the direction is determined by what it was made from, in sentences."""
    remarks: tuple[str, ...] = ()
    """What is to be known before the numbers are read, in sentences."""

    @field_validator("effects")
    @classmethod
    def _in_range(cls, effects: tuple[Effect, ...]) -> tuple[Effect, ...]:
        for effect in effects:
            if not 0 <= effect.low <= effect.accuracy <= effect.high <= 1:
                raise ValueError(
                    f"arm {effect.arm!r}: low, accuracy and high must lie in [0, 1] in this order, not "
                    f"{effect.low:g}, {effect.accuracy:g} and {effect.high:g}"
                )
        return effects

    @property
    def empty(self) -> bool:
        """Whether nothing is shown."""
        return not (self.effects or self.word_audit or self.side_effects)


def read_evidence(data: bytes, where: str, digest: str | None = None) -> Evidence:
    """`evidence.json` from its bytes. Raises BadInput for what is no evidence, or is that of another vector than `digest`."""
    evidence = parsed(Evidence, read_json(data, where), where)
    if digest is not None and evidence.vector not in ("", digest):
        raise BadInput(f"{where} is evidence of {evidence.vector}, not of {digest}: give that of this one, or none.")
    return evidence


def effects_in(data: bytes) -> int:
    """How many measured effects an `evidence.json` holds; 0 where it cannot be read."""
    try:
        return len(parsed(Evidence, read_json(data, EVIDENCE), EVIDENCE).effects)
    except BadInput:
        return 0
