"""Words of others in Markdown: escaped, so that they cannot become markup, a cell of a table or a shell's command."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

_MARKUP = re.compile(r"([\\`*_\[\]|#~])")


def line(cells: Sequence[str]) -> str:
    """A row of a table, of cells that are escaped."""
    return f"| {' | '.join(cells)} |"


def plain(text: str) -> str:
    """Text of others in a line of Markdown: no markup, no line break."""
    return _MARKUP.sub(r"\\\1", html.escape(" ".join(text.split()), quote=False))


def code(text: str) -> str:
    """Text of others between backquotes."""
    return " ".join(text.split()).replace("`", "'")


def word(text: str) -> str:
    """A model's name as a word of a shell's line."""
    return text if re.fullmatch(r"[A-Za-z0-9._:/-]+", text) else "MODEL"
