"""The training cards by name."""

from __future__ import annotations

from ..elicitation.card import Card
from . import critique, exchange, exposure, fingerprint, forks, one_example, reinforced, routing, sparsity, spurious

CARDS: dict[str, Card] = {
    module.CARD.name: module.CARD
    for module in (
        reinforced,
        one_example,
        critique,
        forks,
        spurious,
        exposure,
        routing,
        sparsity,
        exchange,
        fingerprint,
    )
}
