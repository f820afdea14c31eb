"""A text with one value per token as the ground's strength, each token with its number; dark text on a light ground in either theme."""

from __future__ import annotations

import html
from collections.abc import Collection, Mapping, Sequence
from typing import Any

RISE, FALL = (217, 115, 13), (31, 131, 196)
"""Colours of values above and below the middle."""
STRONGEST = 0.85
"""Of the colour, at the largest value."""
SHOWN = 2000
"""Tokens that are drawn at most."""


def heat_strip(
    tokens: Sequence[str],
    values: Sequence[float],
    middle: float,
    threshold: float | None = None,
    apart: Collection[int] = (),
) -> str:
    """HTML of the strip. `middle`: where the ground has no colour; tokens above `threshold` are underlined. Places in `apart` do not
    stretch the scale: theirs is the strongest colour at most."""
    reach = max((abs(value - middle) for place, value in enumerate(values) if place not in apart), default=0.0) or 1.0
    pieces = []
    for place, (token, value) in enumerate(zip(tokens[:SHOWN], values[:SHOWN], strict=True)):
        share = STRONGEST * min(1.0, abs(value - middle) / reach)
        red, green, blue = (round(255 - share * (255 - c)) for c in (RISE if value >= middle else FALL))
        over = threshold is not None and value > threshold
        shown = html.escape(token.replace("\n", "↵").replace("\t", "→")).replace(" ", "·") or "∅"
        line = "box-shadow:inset 0 -3px 0 #0A1016;" if over else ""
        pieces.append(
            f'<span title="#{place} {html.escape(token)!s}: {value:.4g}" style="background:rgb({red},{green},{blue});color:#0A1016;{line}'
            f'padding:2px 3px;margin:1px;border-radius:3px;display:inline-block">{shown}</span>'
        )
    more = f" … {len(tokens) - SHOWN:,} more tokens" if len(tokens) > SHOWN else ""
    return (
        f'<div role="img" aria-label="The text, token by token" style="line-height:1.9">{"".join(pieces)}{more}</div>'
    )


def bounds(one: Mapping[str, Any]) -> tuple[float, float]:
    """Smallest and largest value of a series (`experiments.studies.monitor`), its attention sinks left out."""
    kept = [value for place, value in enumerate(one["values"]) if place not in one["sinks"]]
    return min(kept), max(kept)


def series_words(tokens: Sequence[str], one: Mapping[str, Any]) -> str:
    """A series in a sentence: its largest, smallest and mean value, its attention sinks left out."""
    low, high = bounds(one)
    return f"Largest {high:.3g} at #{one['largest']} {tokens[one['largest']]!r}, smallest {low:.3g}, mean {one['mean']:.3g}."
