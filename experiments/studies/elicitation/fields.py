"""The fields of a card: what can be set, what the presets have, and what each means."""

from __future__ import annotations

import json

from .card import Card, Options
from .findings import Table
from .refused import FOUND

HEADS = ("field", "quick", "full", "what it is")


def fields_table(card: Card) -> Table:
    """A line per field that `--set` takes, its value in either preset as it is written there."""
    return Table(
        title=f"Fields of {card.name}",
        heads=HEADS,
        lines=tuple(
            (name, _written(card.quick, name), _written(card.full, name), _meaning(card.quick, name))
            for name in type(card.quick).model_fields
            if name not in FOUND
        ),
    )


def _written(options: Options, name: str) -> str:
    value = options.model_dump(mode="json")[name]
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _meaning(options: Options, name: str) -> str:
    """The first paragraph of what is said of a field where it is defined."""
    said = type(options).model_fields[name].description or ""
    return " ".join(said.split("\n\n")[0].split()).replace("``", "`")
