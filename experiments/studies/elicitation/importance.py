"""How much a sentence of a trace matters, by every measure that the card `sentences` reads.

KLs are of the answer's distribution without the sentence from the one with it; those that are sampled are without what chance puts between
two histograms. A measure that there is not is NaN.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...statistics import histogram_kl, kl
from .attended import Attended
from .steps import Trace

MEASURES = ("forced", "resampling", "counterfactual", "suppression", "receiver")
FEW = 4
"""Resamples that say something else, below which a sentence has no counterfactual importance."""


@dataclass(frozen=True)
class Importance:
    """One sentence of one trace: KLs in nats, standard errors of the two that are sampled, the p of `resampling`, how many of the
    resamples say something else (`others`), and the two measures of attention, NaN where there is none."""

    item: str
    share: float
    """Where in the trace: 0 its first sentence, 1 its last."""
    kind: str
    choice: bool
    forced: float
    resampling: float
    resampling_se: float
    p: float
    counterfactual: float
    counterfactual_se: float | None
    others: int
    suppression: float = float("nan")
    receiver: float = float("nan")


def with_attention(every: list[Importance], found: Attended, number: int) -> list[Importance]:
    """The sentences of the trace of that number, with the measures of attention."""
    return [
        replace(one, suppression=found.suppression[number][place], receiver=found.receiver[number][place])
        for place, one in enumerate(every)
    ]


def forced_importance(spread: np.ndarray) -> list[float]:
    """KL(before || after) of every sentence, from the answer's distributions `[sentences + 1, answers]`."""
    return [float(value) for value in kl(spread[:-1], spread[1:])]


def measured(trace: Trace, drawn: dict[str, list[list[Any]]], forced: list[float]) -> list[Importance]:
    """The importances of a trace's sentences from the continuations of its prefixes (`steps.resampled`)."""
    named = [[trace.category(answer) for answer in own] for own in drawn["answers"]]
    names = sorted({name for own in named for name in own} | set(trace.candidates))
    counts = [[own.count(name) for name in names] for own in named]
    found = []
    for place, step in enumerate(trace.steps):
        whole = histogram_kl(counts[place], counts[place + 1], seed=place)
        other = [name for name, differs in zip(named[place], drawn["differs"][place], strict=True) if differs]
        value, se = 0.0, None
        if len(other) >= FEW:
            part = histogram_kl([other.count(name) for name in names], counts[place + 1], seed=place)
            value, se = part.value, part.se
        found.append(
            Importance(
                trace.item.id, place / max(1, len(trace.steps) - 1), step.kind, step.choice, forced[place], whole.value, whole.se, whole.p,
                value, se, len(other),
            )
        )  # fmt: skip
    return found
