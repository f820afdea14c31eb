"""How an arm looks, wherever it is drawn: one colour, one Plotly symbol and one glyph per role.

1. Roles differ in colour and in symbol, so that neither colour vision nor a grey print decides what can be read.
2. The colours keep a contrast of at least 3:1 on the light and on the dark background.
3. A role that is not in the table is drawn in grey with a hollow circle; it is never an error.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Look:
    """The appearance of a role and what the role means."""

    colour: str
    symbol: str
    glyph: str
    meaning: str


LOOKS: dict[str, Look] = {
    "baseline": Look("#66788A", "circle", "●", "the base model, unsteered"),
    "prompt": Look("#1F83C4", "square", "■", "the base model, asked in another way and unsteered"),
    "steered": Look("#D9730D", "diamond", "◆", "the base model with the plan's edits"),
    "control": Look("#0E8F6E", "x", "✖", "edits that should not help, such as a random direction of equal norm"),
    "reference": Look("#9A5FD0", "star", "★", "the thinking model: the top of the gap"),
}
UNKNOWN = Look("#808080", "circle-open", "○", "a role this app does not know")


def look(role: str) -> Look:
    """The appearance of `role`."""
    return LOOKS.get(role, UNKNOWN)
