"""What is kept of every row while it is generated, and what is given back: generations and their receipts.

1. A receipt counts what the plan covers (from the plan and the tokens, on the host) and what the hooks edited (from the hooks, on the
   device). The two are independent, and a difference is an error.
2. A row whose next token cannot be predicted, because a logit is NaN or infinite, ends there with a finish of its own (`nonfinite`).
3. Numbers per token are those of the model as run, before temperature and the like.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ..compile.compilation import RowPlan
from ..errors import NeverFired
from ..plan.dose import OVERSIZED, oversized_sentence
from ..plan.plan import Plan
from .bias import Bias, BiasedRow

ALTERNATIVES = 5
"""Likeliest tokens kept per generated position."""
Finish = Literal["eos", "length", "stop", "cancelled", "nonfinite"]
"""`nonfinite`: the model's numbers became NaN or infinite; such a row is never graded."""


@dataclass(frozen=True)
class Row:
    """One sequence to generate. `prompt_ids` as fed (BOS included); `seed` matters only when sampling."""

    prompt_ids: tuple[int, ...]
    plan: Plan = field(default_factory=Plan)
    seed: int = 0
    begun: tuple[int, ...] = ()
    """First tokens of the response, which the row goes on from: generated ones for spans, for `max_new_tokens` and for the draws, so that a
    row which goes on from the beginning of its own text writes the rest of it."""
    bias: Bias | None = None
    """Added to the logits of some tokens, at the positions of a span."""

    @property
    def read_ids(self) -> tuple[int, ...]:
        """What is read before the first token is drawn: the prompt, and what is begun."""
        return (*self.prompt_ids, *self.begun) if self.begun else self.prompt_ids


@dataclass(frozen=True)
class Receipt:
    """What was really edited in one row."""

    planned: int
    """Edits (site and position) that the plan covers among the positions fed to the model."""
    fired: int
    """Edits that the hooks made."""
    ratio: tuple[float, ...]
    """‖delta‖/‖h‖ per position over prompt and generated tokens, the largest over sites."""
    gated: bool = False
    """Whether a gate could close edits: then `fired` may be smaller than `planned`."""
    gate_values: tuple[tuple[float, ...], ...] = ()
    """Per gate of the plan (in plan order), the value read at each position; NaN where it was not read."""
    origins: tuple[str, ...] = ()
    """A sentence per vector of the plan that comes from another model, or does not say from which."""

    @property
    def positions(self) -> tuple[int, ...]:
        """Positions with an edit of non-zero size."""
        return tuple(i for i, size in enumerate(self.ratio) if size > 0)

    @property
    def largest(self) -> float:
        """The largest ‖delta‖/‖h‖; 0 where nothing was edited."""
        return max(self.ratio, default=0.0)

    @property
    def oversized(self) -> bool:
        """Whether some edit exceeds `OVERSIZED` times the activation that it was made on."""
        return self.largest > OVERSIZED

    @property
    def warnings(self) -> tuple[str, ...]:
        """What to know before the text is read, a sentence each: vectors of another model, edits beyond the activation, or of nothing."""
        size = oversized_sentence(self.largest)
        if self.fired and not self.largest:
            size = f"The plan changed nothing: each of its {self.fired} edits has length 0."
        return (*self.origins, *([size] if size else []))


@dataclass(frozen=True)
class NonFinite:
    """Where the first NaN or infinity of a row stands."""

    position: int
    """Over prompt and generated tokens."""
    site: str
    """The lowest site whose activation is not finite there; `logits` where every site is finite."""

    def __str__(self) -> str:
        where = "the logits are" if self.site == "logits" else f"the activation at {self.site} is"
        return f"{where} not finite at position {self.position}"


@dataclass(frozen=True)
class Generation:
    """One finished row. Lists hold one entry per generated token (the end token included), in nats under the model as run; those of numbers
    are empty where only tokens were asked for, and NaN (ids: 0) at tokens that the row had begun with."""

    prompt_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    finish: Finish
    logprob: tuple[float, ...]
    entropy: tuple[float, ...]
    top_ids: tuple[int, ...]
    """`ALTERNATIVES` likeliest ids per token, flattened."""
    top_logprob: tuple[float, ...]
    receipt: Receipt
    nonfinite: NonFinite | None = None
    """Where the row broke, of a row that ended so. The token that would have been drawn there is not part of it."""
    biased: int = 0
    """Predictions of this row, those of begun tokens left out, that its bias was added to."""


@dataclass(frozen=True)
class Step:
    """One token of each running row (none of a row that has just broken). `numbers [rows, 2 + 2k]` (none when only tokens are kept) and
    `edit_ratio [rows]` are float32."""

    rows: tuple[int, ...]
    token_ids: tuple[int, ...]
    numbers: np.ndarray
    edit_ratio: np.ndarray
    """‖delta‖/‖h‖ at the position that this token was predicted from; 0 when only tokens are kept."""
    gate_values: tuple[tuple[float, ...], ...] = ()
    """Per row, what each gate of its plan (in plan order) read at that position; NaN where it read nothing."""

    @property
    def logprob(self) -> np.ndarray:
        return self.numbers[:, 0]

    @property
    def entropy(self) -> np.ndarray:
        return self.numbers[:, 1]

    @property
    def top_logprob(self) -> np.ndarray:
        return self.numbers[:, 2 : 2 + (self.numbers.shape[1] - 2) // 2]

    @property
    def top_ids(self) -> np.ndarray:
        return self.numbers[:, 2 + (self.numbers.shape[1] - 2) // 2 :].astype(int)


@dataclass(frozen=True)
class Finished:
    """A row that has ended (or was cancelled), by its place in the rows asked for."""

    row: int
    generation: Generation


def scores(logits: Tensor, chosen: Tensor) -> Tensor:
    """`[rows, 2 + 2 * ALTERNATIVES]` float32: log-probability of `chosen`, entropy, likeliest log-probabilities, their ids."""
    logprobs = logits.log_softmax(-1)
    entropy = -(logprobs.exp() * logprobs.clamp_min(-1e4)).sum(-1, keepdim=True)
    top = logprobs.topk(min(ALTERNATIVES, logprobs.shape[-1]), dim=-1)
    return torch.cat([logprobs.gather(-1, chosen[:, None]), entropy, top.values, top.indices.float()], dim=-1)


@dataclass
class Progress:
    """A row being generated."""

    index: int
    """Place in the rows asked for."""
    row: Row
    plan: RowPlan | None
    """None for an unsteered row."""
    tokens: list[int] = field(default_factory=list)
    numbers: list[np.ndarray] = field(default_factory=list)
    finish: Finish | None = None
    nonfinite: NonFinite | None = None
    bias: BiasedRow | None = None
    """None for a row without a bias."""

    @property
    def length(self) -> int:
        return len(self.row.prompt_ids) + len(self.tokens)

    @property
    def fed(self) -> int:
        """Tokens that the model has read: all but the newest, and in a row that broke that one too."""
        return self.length if self.finish == "nonfinite" else self.length - 1

    def generation(self, ratio: Sequence[float], fired: int, gates: Sequence[Sequence[float]]) -> Generation:
        """The row as it is now. `ratio` and each list of `gates` cover the positions fed."""
        fed, unread = self.fed, self.length - self.fed
        planned = 0 if self.plan is None else int(self.plan.active[:, :fed].sum())
        sizes = (*(size if math.isfinite(size) else 0.0 for size in ratio), *[0.0] * unread)
        read = tuple((*gate, *[float("nan")] * unread) for gate in gates)
        origins = () if self.plan is None else self.plan.compiled.origins[self.row.plan]
        receipt = Receipt(planned, fired, sizes, bool(gates), read, origins)
        table = np.stack(self.numbers) if self.numbers and len(self.numbers[0]) else np.zeros((0, 2))
        if self.row.begun and len(table):
            table = np.concatenate([_unknown(len(self.row.begun), table.shape[1]), table])
        wide = (table.shape[1] - 2) // 2
        return Generation(
            self.row.prompt_ids,
            tuple(self.tokens),
            self.finish or "cancelled",
            tuple(table[:, 0].tolist()),
            tuple(table[:, 1].tolist()),
            tuple(int(i) for i in table[:, 2 + wide :].reshape(-1)),
            tuple(table[:, 2 : 2 + wide].reshape(-1).tolist()),
            receipt,
            self.nonfinite,
            0 if self.bias is None else self.bias.count(len(self.row.read_ids), self.length),
        )


def _unknown(tokens: int, columns: int) -> np.ndarray:
    """Numbers of tokens that were given, `[tokens, columns]`: NaN, and 0 for ids."""
    table = np.full((tokens, columns), np.nan)
    table[:, 2 + (columns - 2) // 2 :] = 0
    return table


def demand_as_planned(index: int, generation: Generation) -> None:
    """Raises NeverFired when the hooks did not make exactly the edits that the plan covers (at most those, behind a gate)."""
    receipt = generation.receipt
    if receipt.fired > receipt.planned or (receipt.fired < receipt.planned and not receipt.gated):
        raise NeverFired(
            f"Row {index}: the plan covers {receipt.planned} edits but {receipt.fired} were made; the text is not steered as asked.",
            [generation],
        )


def demand_fired(rows: Sequence[Row], generations: Sequence[Generation | None]) -> None:
    """Raises NeverFired when a plan fired in none of the finished rows that carry it."""
    fired: dict[Plan, tuple[int, int]] = {}
    for row, generation in zip(rows, generations, strict=True):
        if row.plan and generation is not None and generation.finish not in ("cancelled", "nonfinite"):
            planned, done = fired.get(row.plan, (0, 0))
            fired[row.plan] = planned + generation.receipt.planned, done + generation.receipt.fired
    silent = [(plan, planned) for plan, (planned, done) in fired.items() if done == 0]
    if not silent:
        _demand_biased(rows, generations)
        return
    plan, planned = silent[0]
    spans = ", ".join(str(i.span) for i in plan.interventions)
    if planned:
        gates = ", ".join(str(i.gate) for i in plan.interventions if i.gate is not None)
        raise NeverFired(
            f"A plan with span {spans} never fired: its gate {gates} stayed shut at all {planned} positions that it covers. "
            f"The texts are unsteered; the gate values are in the receipts, choose a threshold that they reach.",
            list(generations),
        )
    own = [g for row, g in zip(rows, generations, strict=True) if row.plan == plan and g is not None]
    read = sum(len(g.prompt_ids) + len(g.token_ids) - 1 for g in own)
    if any(i.span.dynamic for i in plan.interventions):
        why = f"what the span follows did not come up in the {read} tokens that were read in the {len(own)} rows that carry it"
        advice = "look at a text for how it is really written, or choose another span"
    else:
        why = "every row that carries it ended before the span began"
        advice = "choose a span that starts earlier, such as last_prompt"
    raise NeverFired(
        f"A plan with span {spans} never fired: {why}. The texts are unsteered; {advice}.", list(generations)
    )


def _demand_biased(rows: Sequence[Row], generations: Sequence[Generation | None]) -> None:
    """Raises NeverFired when a bias was added in none of the finished rows that carry it."""
    added: dict[Bias, int] = {}
    for row, generation in zip(rows, generations, strict=True):
        if row.bias is not None and generation is not None and generation.finish not in ("cancelled", "nonfinite"):
            added[row.bias] = added.get(row.bias, 0) + generation.biased
    for bias, count in added.items():
        if not count:
            raise NeverFired(
                f"A bias with span {bias.span} was never added: no token was predicted from a position that the span covers. The texts "
                f"are the model's own; choose a span that starts earlier, such as last_prompt.",
                list(generations),
            )
