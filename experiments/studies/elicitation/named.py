"""The cards by name."""

from __future__ import annotations

from steering.errors import unknown

from . import (
    audit,
    boundary,
    ceiling,
    coherence,
    compression,
    confidence,
    contamination,
    decisions,
    faithfulness,
    information_gain,
    paths,
    reflection,
    sampling,
    sentences,
    shift,
    switching,
    symbols,
)
from .card import Card

CARDS: dict[str, Card] = {
    module.CARD.name: module.CARD
    for module in (
        paths,
        sampling,
        switching,
        compression,
        reflection,
        boundary,
        decisions,
        audit,
        confidence,
        sentences,
        faithfulness,
        information_gain,
        contamination,
        symbols,
        shift,
        coherence,
        ceiling,
    )
}


def card_named(name: str) -> Card:
    """The card of that name. Raises BadInput."""
    if name not in CARDS:
        raise unknown("card", name, CARDS)
    return CARDS[name]
