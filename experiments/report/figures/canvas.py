"""What the figures are drawn on: style, the `Drawing`, its files, and its form inside a page.

1. Text is drawn as paths, so a file looks the same everywhere; its words are in the data beside it and in `words`.
2. Files have no date and no random identifiers: equal figures, equal bytes.
3. Inside a page the ink takes the page's colours, so one drawing serves light and dark, and identifiers are the drawing's own.
4. Marks carry their numbers as SVG titles.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, MUTED, GRID, PAPER = "#1b1f24", "#5b6570", "#d8dde3", "#ffffff"
FIXED_DARK = "#1b1f25"
"""Dark text on a saturated colour, in both colour schemes."""
VARIABLES = {INK: "var(--ink)", MUTED: "var(--muted)", GRID: "var(--line)", PAPER: "var(--paper)"}
UP, DOWN = "#D9730D", "#2B6CB0"
"""Better and worse than what an arm is compared with."""
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans", "font.size": 9, "text.parse_math": False, "axes.unicode_minus": True,
    "svg.fonttype": "path", "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": MUTED, "xtick.color": MUTED,
    "ytick.color": MUTED, "xtick.labelcolor": INK, "ytick.labelcolor": INK, "axes.spines.top": False,
    "axes.spines.right": False, "axes.linewidth": 0.8, "grid.color": GRID, "grid.linewidth": 0.7, "hatch.linewidth": 0.6,
    "legend.frameon": False, "legend.fontsize": 8, "axes.titlesize": 9, "axes.titleweight": "bold", "axes.titlelocation": "left",
    "figure.facecolor": PAPER, "axes.facecolor": PAPER, "savefig.facecolor": PAPER, "path.simplify": False, "path.snap": False,
}  # fmt: skip


@contextmanager
def styled(name: str = "steer") -> Iterator[None]:
    """Matplotlib's settings for these figures, and only here."""
    with mpl.rc_context({**STYLE, "svg.hashsalt": name}):
        yield


@dataclass(frozen=True, eq=False)
class Drawing:
    """One figure. `name` is the stem of its files; `frame` the data shown; `words` what it shows, `said` its numbers for readers who do
    not see it; `tips` the numbers of a mark by the mark's identifier in the figure."""

    name: str
    title: str
    words: str
    frame: pd.DataFrame
    figure: Figure
    tips: Mapping[str, str] = field(default_factory=dict)
    said: str = ""

    @cached_property
    def svg(self) -> str:
        """The figure as a file that stands alone, light background."""
        sink = io.BytesIO()
        with styled(self.name):
            none = dict.fromkeys(("Date", "Creator", "Format", "Type"))
            self.figure.savefig(sink, format="svg", metadata=none, bbox_inches="tight", pad_inches=0.08)
        text = re.sub(r"<!--.*?-->\n?", "", sink.getvalue().decode(), flags=re.DOTALL)
        text = re.sub(r"\s*<metadata>.*?</metadata>", "", text, flags=re.DOTALL)

        def titled(match: re.Match[str]) -> str:
            tip = self.tips.get(html.unescape(match[1]))
            return match[0] + (f"<title>{html.escape(_plain(tip))}</title>" if tip else "")

        return re.sub(r'<g id="([^"]*)">', titled, text)

    def png(self, dpi: int = 160) -> bytes:
        """The figure as pixels, light background."""
        sink = io.BytesIO()
        with styled(self.name):
            self.figure.savefig(
                sink, format="png", dpi=dpi, metadata={"Software": None}, bbox_inches="tight", pad_inches=0.08
            )
        return sink.getvalue()

    def inline(self) -> str:
        """The figure as an `svg` element of a page that defines the colours `--ink`, `--muted`, `--line` and `--paper`."""
        text = self.svg
        text = text[text.index("<svg") :].replace("xlink:href", "href")
        text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text)
        text = re.sub(r' (id|href)="(#?)([^"]*)"', lambda m: f' {m[1]}="{m[2]}{self.name}-{m[3]}"', text)
        text = text.replace("url(#", f"url(#{self.name}-")
        for colour, variable in VARIABLES.items():
            text = text.replace(colour, variable)
        width = re.search(r'width="([\d.]+)pt"', text)
        size = f"{float(width[1]) * 4 / 3:.0f}px" if width else "100%"
        label = html.escape(_plain(f"{self.title}. {self.words} {self.said}".strip()))
        head = f'<svg role="img" aria-label="{label}" style="width:min(100%,{size});height:auto"'
        text = re.sub(r'<svg (?:width|height)="[^"]*"', "<svg", text, count=1)
        text = re.sub(r'(<svg[^>]*?) (?:width|height)="[^"]*"', r"\1", text, count=1)
        return text.replace("<svg", head, 1)

    def _repr_svg_(self) -> str:
        return self.svg


def _plain(text: str) -> str:
    """Without characters that XML cannot hold."""
    return re.sub(r"[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "�", text)


def cut(text: object, limit: int = 46) -> str:
    """A label on one line, at most `limit` characters, without what a font cannot draw."""
    line = re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", "↵", str(text))
    return line if len(line) <= limit else line[: limit - 1] + "…"


def points(value: float, digits: int = 1) -> str:
    """A share as signed points of per cent."""
    return f"{round(100 * value, digits) + 0.0:+.{digits}f}"


def p_words(p: float) -> str:
    """A p-value; nothing where none was computed."""
    if p != p:
        return "no test"
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def bare(axes: Axes) -> None:
    """No ticks and no frame."""
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)


def new_figure(
    title: str, width: float, height: float, rows: int = 1, columns: int = 1, **more: object
) -> tuple[Figure, Sequence[Axes]]:
    """A titled figure of that size in inches with its panels, row by row; unused panels can be removed with `Axes.remove`."""
    figure = Figure(figsize=(width, height + 0.3), layout="constrained")
    figure.suptitle(cut(title, 80), x=0.01, ha="left", fontsize=10.5, fontweight="bold")
    panels = figure.subplots(rows, columns, squeeze=False, **more)  # type: ignore[call-overload]
    return figure, list(panels.flat)
