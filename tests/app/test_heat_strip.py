"""The strip of a text's values: what stands apart does not wash out the rest."""

from __future__ import annotations

import re

from app.heat_strip import heat_strip


def grounds(html: str) -> list[str]:
    return re.findall(r"background:(rgb\([\d,]+\))", html)


def test_a_sink_does_not_stretch_the_scale() -> None:
    tokens = ["a", "b", "c"]
    alone = grounds(heat_strip(tokens[1:], [10.0, -5.0], 0.0))
    washed = grounds(heat_strip(tokens, [3000.0, 10.0, -5.0], 0.0))
    apart = heat_strip(tokens, [3000.0, 10.0, -5.0], 0.0, apart=(0,))
    assert grounds(apart)[1:] == alone != washed[1:]
    assert grounds(apart)[0] == alone[0], "the strongest colour, and no more"
    assert "3000" in apart, "its value is there"
