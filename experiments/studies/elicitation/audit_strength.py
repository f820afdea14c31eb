"""How strong a vector is, and the bias that is as strong: divergences from the unsteered model along the texts that the vector writes.

KL(biased || plain) of a bias of b nats on tokens of probability p is b p e^b/Z - log Z with Z = 1 + p (e^b - 1), so that b is found without
running the model again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from scipy.optimize import brentq

from steering.compile.coverage import continued
from steering.engine.forced import ForcedText, forced_divergence
from steering.engine.generation import Row
from steering.engine.predicted import logprobs_along
from steering.plan.plan import Plan

from ...statistics import Floats
from ...store.runs import Run
from .audit_subjects import Subject
from .workroom import Workroom

STRONGEST = 50.0
"""Nats from which on a bias writes its tokens always."""


def bias_divergence(logprobs: Floats, nats: float) -> Floats:
    """KL(biased || plain) in nats of a bias on tokens whose log-probability together is `logprobs`, elementwise."""
    mass = np.minimum(np.asarray(logprobs, dtype=float), -1e-12)
    rest = np.log(-np.expm1(mass))
    total = np.logaddexp(rest, mass + nats)
    return np.asarray(np.maximum(0.0, nats * np.exp(mass + nats - total) - total), dtype=float)


def matched_nats(logprobs: Floats, divergence: float) -> tuple[float, bool]:
    """The bias, in nats, whose mean divergence is `divergence`, and whether there is one: a vector that pushes another token than these
    lies further from the plain model than any bias on them."""
    if divergence <= 0:
        return 0.0, True

    def over(nats: float) -> float:
        return float(bias_divergence(logprobs, nats).mean()) - divergence

    if over(STRONGEST) <= 0:
        return STRONGEST, False
    return float(brentq(over, 0.0, STRONGEST, xtol=1e-10)), True


def pooled(values: Sequence[Sequence[float]], covered: Sequence[Sequence[int]]) -> tuple[Floats, Floats]:
    """Values at the covered predictions of all texts, and at those after the first covered one that are not covered."""
    inside = [value for own, at in zip(values, covered, strict=True) for value in (own[i] for i in at)]
    behind = [
        own[i] for own, at in zip(values, covered, strict=True) if at for i in range(min(at), len(own)) if i not in set(at)
    ]  # fmt: skip
    return np.asarray(inside, dtype=float), np.asarray(behind, dtype=float)


@dataclass(frozen=True)
class Read:
    """A vector's texts, and how far the plan moves the predictions along them, in nats."""

    texts: list[tuple[tuple[int, ...], tuple[int, ...]]]
    covered: list[list[int]]
    """Predictions that the span covers, by number of the generated token."""
    inside: Floats = field(default_factory=lambda: np.zeros(0))
    behind: Floats = field(default_factory=lambda: np.zeros(0))
    """Of predictions after the first covered one that are not covered."""


def read_of(room: Workroom, subject: Subject, found: Run, split: str, plan: Plan) -> Read:
    rows = found.table(columns=["split", "order", "prompt_ids", "token_ids", "finish"], arms=[subject.key]).to_pylist()
    rows = sorted(
        (row for row in rows if row["split"] == split and row["token_ids"] and row["finish"] != "nonfinite"),
        key=lambda row: row["order"],
    )
    texts = [(tuple(row["prompt_ids"]), tuple(row["token_ids"])) for row in rows]
    covered = [_covered(room, subject, prompt, tokens) for prompt, tokens in texts]
    divergences = [
        reading.divergence
        for reading in forced_divergence(room.base, [ForcedText(prompt, tokens, plan) for prompt, tokens in texts])
    ]
    return Read(texts, covered, *pooled(divergences, covered))


def _covered(room: Workroom, subject: Subject, prompt: Sequence[int], tokens: Sequence[int]) -> list[int]:
    """Numbers of the generated tokens that are predicted from positions that the span covers."""
    at = continued(room.base, subject.span, prompt, tokens[:-1])
    return [place - len(prompt) + 1 for place in at if place >= len(prompt) - 1]


def first_written(room: Workroom, subject: Subject, found: Run, split: str) -> dict[str, str]:
    """Per arm, the tokens that are written most often at the first position that the span covers: `'let' 46, 'answer' 14`."""
    rows = found.table(columns=["arm", "split", "prompt_ids", "token_ids", "tokens"]).to_pylist()
    counts: dict[str, Counter[str]] = {}
    for row in rows:
        at = _covered(room, subject, row["prompt_ids"], row["token_ids"]) if row["token_ids"] else []
        if row["split"] == split and at:
            counts.setdefault(row["arm"], Counter())[row["tokens"][min(at)]] += 1
    return {
        arm: ", ".join(f"{token.strip()!r} {count}" for token, count in own.most_common(2))
        for arm, own in counts.items()
    }


def together(room: Workroom, read: Read, ids: tuple[int, ...]) -> Floats:
    """Log-probability of all ids together in the unsteered predictions that are covered."""
    rows = [Row(prompt, begun=tokens) for prompt, tokens in read.texts]
    along = [torch.logsumexp(own, -1).tolist() for own in logprobs_along(room.base, rows, ids)]
    return pooled(along, read.covered)[0]


def notes_of(
    room: Workroom, subject: Subject, read: Read, graded: Read, nats: dict[Any, tuple[float, bool]], matched: dict[str, Any],
    about: dict[str, str],
) -> list[str]:  # fmt: skip
    """How strong vector and biases are, on development questions and on those graded."""
    if not len(graded.inside):
        return ["The span covers no prediction of the texts that are graded."]
    notes = [
        f"KL to the unsteered model at the {len(graded.inside)} covered predictions of the vector's texts: the vector "
        f"{graded.inside.mean():.3f} nats (development: {read.inside.mean():.3f})."
    ]
    for arm, ids in matched.items():
        strength, reached = nats[ids]
        here = float(bias_divergence(together(room, graded, ids), strength).mean())
        there = float(bias_divergence(together(room, read, ids), strength).mean())
        notes.append(
            f"{about[arm]}: KL {here:.3f} (development: {there:.3f})"
            + (
                "."
                if reached
                else "; no bias on these tokens is as strong as the vector, and this one writes them always."
            )
        )
    if len(graded.behind):
        notes.append(
            f"At the {len(graded.behind)} predictions behind, which no bias touches, the vector still moves the model by "
            f"{graded.behind.mean():.2g} nats on average."
        )
    return notes
