"""How an arm looks, wherever it is drawn: one colour, one marker and one glyph per role.

1. Roles differ in colour and in symbol, so that neither colour vision nor a grey print decides what can be read.
2. The colours keep a contrast of at least 3:1 on the light and on the dark background.
3. A role that is not in the table is drawn in grey with a hollow circle; it is never an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Look:
    """The appearance of a role and what the role means."""

    colour: str
    symbol: str
    """The Plotly symbol."""
    marker: str
    """The Matplotlib marker."""
    glyph: str
    tone: Literal["gray", "blue", "orange", "green", "violet"]
    """The nearest colour that Streamlit's Markdown has."""
    meaning: str

    @property
    def badge(self) -> str:
        """The coloured glyph, as Markdown."""
        return f":{self.tone}[{self.glyph}]"


LOOKS: dict[str, Look] = {
    "baseline": Look("#66788A", "circle", "o", "●", "gray", "the base model, unsteered"),
    "prompt": Look("#1F83C4", "square", "s", "■", "blue", "the base model, asked in another way and unsteered"),
    "steered": Look("#D9730D", "diamond", "D", "◆", "orange", "the base model with the plan's edits"),
    "control": Look(
        "#0E8F6E",
        "x",
        "X",
        "✖",
        "green",
        "edits that should not help: random directions, matched other latents, the wrong sign, or a reading without an edit",
    ),
    "reference": Look("#9A5FD0", "star", "*", "★", "violet", "the thinking model: the top of the gap"),
}
UNKNOWN = Look("#808080", "circle-open", "o", "○", "gray", "a role that this program does not know")


def look(role: str) -> Look:
    """The appearance of `role`."""
    return LOOKS.get(role, UNKNOWN)
