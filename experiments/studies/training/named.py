"""The training cards by name."""

from __future__ import annotations

from ..elicitation.card import Card
from . import (
    calibrated,
    corrupted,
    critique,
    exchange,
    exposure,
    fingerprint,
    forks,
    left_out,
    one_example,
    order,
    rationale,
    reference,
    reinforced,
    routing,
    sparsity,
    spurious,
)

CARDS: dict[str, Card] = {
    module.CARD.name: module.CARD
    for module in (
        reinforced,
        one_example,
        critique,
        forks,
        spurious,
        corrupted,
        left_out,
        exposure,
        routing,
        reference,
        order,
        calibrated,
        rationale,
        sparsity,
        exchange,
        fingerprint,
    )
}
