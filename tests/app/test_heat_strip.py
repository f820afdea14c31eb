"""The strip of a text's values: what stands apart does not wash out the rest."""

from __future__ import annotations

import re

from app.heat_strip import bounds, heat_strip, series_words
from experiments.studies.monitor import Monitored, Watched


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


def test_the_page_says_what_the_command_says() -> None:
    one = Watched("v", "projection", "blocks.1.hook_resid_post", (3000.0, 10.0, -5.0), sinks=(0,))
    series = Monitored("m", (1, 2, 3), ("a", "b", "c"), (one,), ()).to_dict()["series"][0]
    assert bounds(series) == (-5.0, 10.0)
    assert series_words(("a", "b", "c"), series) == "Largest 10 at #1 'b', smallest -5, mean 2.5."
