"""Selectors and writers of decision tokens: where something is done, set to a budget, and what is done there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pydantic import Field

from steering.extraction.lens import lens_logits
from steering.hybrid import Controller
from steering.model.models import LoadedModel

from ..hybrid.arms import Parts
from .bank_audit import EXTRA, changed_bank
from .card import Options
from .signals import Signals

SELECTORS = {
    "divergence": "divergence of the predictions", "differs": "another greedy token", "entropy": "entropy of the base",
    "readout": "readout of the base", "starts": "sentence starts", "random": "random", "early": "random, first fifth",
}  # fmt: skip
WRITERS = {
    "token": "the thinking model's token", "bank": "the bank's vectors", "one": "one vector", "mean": "mean effect on the logits",
    "words": "that effect on five words",
}  # fmt: skip
DEVELOPMENT = {"standard-test": "standard-dev", "hard-test": "hard-dev", "new-map-test": "standard-dev"}
EARLY = 0.2
WORDS = 5


class DecisionOptions(Options):
    budgets: tuple[float, ...] = (0.01, 0.03, 0.08, 0.20)
    """Shares of the tokens that are written by somebody else."""
    selectors: tuple[str, ...] = tuple(SELECTORS)
    """What chooses these tokens."""
    writers: tuple[str, ...] = tuple(WRITERS)
    """Who writes them."""
    random: int = Field(default=20, ge=1)
    """Banks of random vectors."""
    n_development: int = Field(default=48, ge=4)
    """Questions that thresholds are set on."""
    hybrid: dict[str, Any] = Field(default_factory=dict)
    """Fields of the hybrid's spec that the bank is made by."""
    read: dict[str, int] = Field(default_factory=dict)
    """Questions per split that vectors are read from."""
    development: dict[str, int] = Field(default_factory=dict)
    """Of another task: questions that the bank is made from, and that thresholds are set on, by split."""


@dataclass(frozen=True)
class Taking:
    """A selector at a budget: how a controller is told, and what it took on development texts."""

    when: str
    threshold: float
    share: float
    took: float


def taking(signals: Signals, selector: str, budget: float) -> Taking:
    """A selector set to take a budget of the development texts' tokens; a selector that never reaches it takes all that it can."""

    def drawn(when: str, held: np.ndarray, threshold: float = 0.5) -> Taking:
        rate = float(held.mean())
        share = min(1.0, budget / rate) if rate else 1.0
        return Taking(when, threshold, share, share * rate)

    if selector in ("divergence", "entropy", "readout"):
        values = {"divergence": signals.apart, "entropy": signals.entropy, "readout": signals.trigger}[selector]
        threshold = signals.threshold(values, budget)
        when = "trigger" if selector == "readout" else selector
        return Taking(when, threshold, 1.0, float((values > threshold).mean()))
    if selector == "differs":
        return drawn("disagreement", signals.differs)
    if selector == "starts":
        return drawn("sentence_starts", signals.starts)
    if selector == "early":
        window = max(1.0, round(EARLY * float(np.mean([len(text) for text in signals.texts]))))
        return drawn("early", signals.place < window, window)
    return drawn("anywhere", np.ones(signals.n))


def controller(
    base: LoadedModel,
    parts: Parts,
    own: Taking,
    writer: str,
    biases: Mapping[str, torch.Tensor],
    draw: int | None = None,
) -> Controller:
    """A selector with a writer; `biases [K, vocabulary]` are those of the writers that have one (`biases_of`), `draw` replaces the bank's
    vectors by random ones."""
    common: dict[str, Any] = {"when": own.when, "threshold": own.threshold, "share": own.share}
    if own.when == "trigger":
        common["trigger"] = parts.trigger
    if writer == "token":
        return Controller(**common, how="substitute")
    if writer == "one":
        return Controller(**common, which="only", bank=parts.one)
    if writer in biases:
        return Controller(
            **common, which="thinking", how="bias", bank=parts.bank, categories=parts.categories, bias=biases[writer]
        )
    bank = parts.bank if draw is None else parts.bank.with_random_vectors(draw)
    if writer in EXTRA:
        bank = changed_bank(base, parts.bank, writer, WORDS)
    return Controller(**common, which="thinking", bank=bank, categories=parts.categories)


def biases_of(base: LoadedModel, parts: Parts) -> dict[str, torch.Tensor]:
    """`[K, vocabulary]` by writer: the mean effect on the logits, and that effect on the five words per category that its vector promotes
    most by the logit lens, with nothing elsewhere."""
    kept = torch.zeros_like(parts.bias)
    for category, vector in enumerate(parts.bank.vectors):
        words = lens_logits(base, vector.float().cpu()).topk(WORDS).indices
        kept[category, words] = parts.bias[category, words]
    return {"mean": parts.bias, "words": kept}
