"""The training cards by name."""

from __future__ import annotations

from ..elicitation.card import Card
from . import fingerprint, reinforced, sparsity, spurious

CARDS: dict[str, Card] = {module.CARD.name: module.CARD for module in (reinforced, sparsity, fingerprint, spurious)}
