"""Text of models and of manifests, made inert for the places that interpret markup.

1. `for_markdown` returns Markdown that renders as the given text: no emphasis, link, directive, formula or HTML
   survives.
2. `for_plotly` returns a label that Plotly draws as the given text: its pseudo-HTML (`<b>`, `<br>`, `<a>`) stays
   visible.
3. Both show a line break as `↵`, because a label is one line, and cut what is longer than `limit` characters, with
   `…`.
"""

from __future__ import annotations

import html
import re

_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")
_BREAKS = re.compile(r"\r\n|[\r\n\u2028\u2029]")


def one_line(text: object, limit: int = 200) -> str:
    """`text` on one line, at most `limit` characters."""
    line = _BREAKS.sub("↵", str(text))
    return line if len(line) <= limit else line[: limit - 1] + "…"


def for_markdown(text: object, limit: int = 200) -> str:
    """`text` as inert Markdown: every ASCII punctuation mark is escaped."""
    return _PUNCTUATION.sub(r"\\\1", one_line(text, limit))


def for_plotly(text: object, limit: int = 60) -> str:
    """`text` as an inert Plotly label."""
    return html.escape(one_line(text, limit), quote=False)
