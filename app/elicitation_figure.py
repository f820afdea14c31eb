"""Accuracy of elicitors against all tokens generated: one figure for the questions of one split.

1. Points on fewer of these questions than the most are faint: they are compared with none, and stand on no front.
2. The front are arms that are right somewhere and that no other beats; they are named where there is room (`label_places`), all others by
   the hover. Marks that lie on each other are named once.
3. Labels are inert, and a sentence says what the figure shows.
"""

from __future__ import annotations

import math

import plotly.graph_objects as go

from app.escaping import for_plotly, one_line
from app.label_places import Mark, placed
from app.roles import look
from experiments.studies.elicitation.findings import Point

RANGE = (-3.0, 109.0)
"""Of the figure's per cent."""


def distinct(points: list[Point]) -> list[Point]:
    """Points without those that several cards share: one arm of one run's questions is drawn once."""
    found: dict[tuple[str, str, int, float, float], Point] = {}
    for point in points:
        found.setdefault((point.label, point.role, point.n, point.accuracy, point.tokens), point)
    return list(found.values())


def by_split(points: list[Point]) -> dict[str, list[Point]]:
    """Points by the split whose questions they stand on, that of most points first."""
    found: dict[str, list[Point]] = {}
    for point in points:
        found.setdefault(point.split, []).append(point)
    return dict(sorted(found.items(), key=lambda pair: -len(pair[1])))


def front_of(points: list[Point]) -> list[Point]:
    """The arms that are right somewhere and that no other arm beats on as many questions, the most that are asked."""
    whole = [p for p in points if p.n == max(q.n for q in points)]
    return [p for p in whole if p.accuracy and not any(_beats(q, p) for q in whole)]


def pareto(points: list[Point]) -> tuple[go.Figure, str]:
    """Accuracy against tokens of points on one split's questions, and the figure in words."""
    figure, drawn = go.Figure(), distinct(points)
    front, most = front_of(drawn), max(p.n for p in drawn)
    spots: dict[tuple[float, float], list[Point]] = {}
    for p in front:
        spots.setdefault((p.tokens, p.accuracy), []).append(p)
    named = {id(own[0]): f"{one_line(own[0].label, 34)}{_same(len(own) - 1)}" for own in spots.values()}
    axis = [math.log10(max(p.tokens, 0.5)) for p in drawn]
    pad = max(0.15, 0.08 * (max(axis) - min(axis)))
    left, wide = min(axis) - pad, max(axis) - min(axis) + 2 * pad
    marks = [
        Mark((x - left) / wide, _height(p.accuracy), _height(p.low), _height(p.high), named.get(id(p), ""))
        for x, p in zip(axis, drawn, strict=True)
    ]
    places = {id(p): place for p, place in zip(drawn, placed(marks), strict=True)}
    for role in dict.fromkeys(point.role for point in drawn):
        own, appearance = [point for point in drawn if point.role == role], look(role)
        for faint in (True, False):
            some = [point for point in own if (point.n < most) is faint]
            if not some:
                continue
            figure.add_trace(
                go.Scatter(
                    x=[max(p.tokens, 0.5) for p in some], y=[100 * p.accuracy for p in some], mode="markers+text", name=role,
                    legendgroup=role, showlegend=not faint or all(p.n < most for p in own), opacity=0.35 if faint else 1.0,
                    marker={"color": appearance.colour, "symbol": appearance.symbol, "size": 11},
                    error_y={
                        "type": "data", "symmetric": False, "array": [100 * (p.high - p.accuracy) for p in some],
                        "arrayminus": [100 * (p.accuracy - p.low) for p in some], "color": appearance.colour, "thickness": 1.2,
                    },
                    text=[for_plotly(named[id(p)], 60) if places[id(p)] else "" for p in some],
                    textposition=[places[id(p)] or "top center" for p in some], textfont={"size": 10},
                    hovertext=[
                        f"{for_plotly(p.label)}<br>{100 * p.accuracy:.1f} % ({100 * p.low:.1f} to {100 * p.high:.1f}), "
                        f"{p.tokens:.0f} tokens, n = {p.n}"
                        for p in some
                    ],
                    hovertemplate="%{hovertext}<extra></extra>",
                )
            )  # fmt: skip
    figure.update_xaxes(title="tokens generated per question, all texts (log)", type="log", range=[left, left + wide])
    figure.update_yaxes(title="right, %", range=list(RANGE))
    figure.update_layout(
        height=470, margin={"l": 10, "r": 10, "t": 10, "b": 40}, legend={"orientation": "h", "y": 1.08}
    )
    return figure, _in_words(drawn, front, most)


def _same(more: int) -> str:
    return f" (and {more} the same)" if more else ""


def _height(share: float) -> float:
    """A share of right answers as one of the figure's height."""
    return (100 * share - RANGE[0]) / (RANGE[1] - RANGE[0])


def _in_words(drawn: list[Point], front: list[Point], most: int) -> str:
    """What a figure shows, for readers who cannot see it."""
    few = sorted({p.n for p in drawn if p.n < most})
    arms = ", ".join(
        f"{one_line(p.label, 50)} ({100 * p.accuracy:.0f} %, {p.tokens:.0f} tokens)"
        for p in sorted(front, key=lambda p: p.tokens)
    )
    said = f"{len(drawn)} arms on the first {most} questions of {one_line(drawn[0].split, 40)}"
    if few:
        said += f", some (faint) on the first {', '.join(map(str, few))} of them alone, which are compared with none of the others"
    if not front:
        return f"{said}. No arm is right anywhere, so there is no front of accuracy and tokens."
    return f"{said}. In this sample no other arm on {most} questions is at least as accurate with at most as many tokens as: {arms}."


def _beats(one: Point, other: Point) -> bool:
    """Whether one arm is no less accurate with no more tokens, and better in one of the two."""
    return (
        one.accuracy >= other.accuracy
        and one.tokens <= other.tokens
        and (one.accuracy, one.tokens) != (other.accuracy, other.tokens)
    )
