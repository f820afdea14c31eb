"""The JavaScript and CSS of the trace view: one source for the app, notebooks and exported pages.

The parts are concatenated in the order of `PARTS`; they define `mountTrace(host, data, report)`.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

PARTS = ("tokens.js", "maps.js", "search.js", "panel.js", "stage.js", "keys.js", "trace.js")


def _part(name: str) -> str:
    return files("experiments.traces").joinpath("web").joinpath(name).read_text("utf-8")


@cache
def script() -> str:
    """The JavaScript, as statements without imports or exports."""
    return "\n".join(map(_part, PARTS))


@cache
def style() -> str:
    """The CSS, for a shadow root whose content is `<div class="trace">`."""
    return _part("trace.css")


@cache
def page_style() -> str:
    """The CSS of an exported page around the view."""
    return _part("page.css")
