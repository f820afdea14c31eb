"""Plotly figures of one split: accuracy of the arms, paired differences, behaviour rates.

1. Roles differ by colour and by symbol; a second arm of a role gets the open form of the symbol.
2. Every interval that is drawn is the summary's; n stands in the label of each arm, and fewer than 30 items are
   marked.
3. Labels are inert: text of a manifest cannot become markup in a figure.
4. Each figure comes with a sentence that says what it shows, for readers who cannot see it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from app.escaping import for_plotly, one_line
from app.roles import look
from experiments.evaluation.crowds import with_crowds
from experiments.evaluation.sentences import FEW
from experiments.evaluation.summary import ArmSummary

ROW = 34
"""Height of one arm, in pixels."""


def symbols(arms: Sequence[ArmSummary]) -> dict[str, str]:
    """Plotly symbol per arm name: that of its role, in its open form from the second arm of the role on."""
    seen: Counter[str] = Counter()
    found = {}
    for arm in arms:
        base = look(arm.role).symbol
        found[arm.name] = base if not seen[arm.role] or base.endswith("-open") else f"{base}-open"
        seen[arm.role] += 1
    return found


def tick(arm: ArmSummary, n: int) -> str:
    """The axis label of an arm: what it is called, its n, and whether that is too few."""
    few = ", exploratory" if n < FEW else ""
    return f"{for_plotly(arm.label, 40)}  (n = {n}{few})"


def _interval_figure(
    arms: Sequence[ArmSummary],
    every: Sequence[ArmSummary],
    values: Sequence[tuple[float, float, float, int, str]],
    axis: str,
) -> go.Figure:
    """One row per arm, best read from the top; `values` are value, low, high (in per cent), n and hover text."""
    figure, marks = go.Figure(), symbols(every)
    for place, (arm, (value, low, high, n, hover)) in enumerate(zip(arms, values, strict=True)):
        appearance = look(arm.role)
        figure.add_trace(
            go.Scatter(
                x=[value],
                y=[place],
                mode="markers",
                marker={
                    "color": appearance.colour,
                    "symbol": marks[arm.name],
                    "size": 12,
                    "line": {"width": 2, "color": appearance.colour},
                },
                error_x={
                    "type": "data",
                    "symmetric": False,
                    "array": [high - value],
                    "arrayminus": [value - low],
                    "thickness": 2,
                    "width": 6,
                    "color": appearance.colour,
                },
                opacity=0.6 if n < FEW else 1.0,
                showlegend=False,
                hovertemplate="%{text}<extra></extra>",
                text=[hover],
            )
        )
    figure.update_yaxes(
        tickmode="array",
        tickvals=list(range(len(arms))),
        ticktext=[tick(arm, n) for arm, (_, _, _, n, _) in zip(arms, values, strict=True)],
        range=[len(arms) - 0.5, -0.5],
        automargin=True,
        showgrid=False,
        zeroline=False,
    )
    figure.update_xaxes(title=axis, zeroline=False, ticksuffix="")
    figure.update_layout(
        height=ROW * len(arms) + 70,
        margin={"l": 10, "r": 20, "t": 10, "b": 40},
        hoverlabel={"align": "left"},
    )
    return figure


def accuracy_figure(arms: Sequence[ArmSummary]) -> tuple[go.Figure, str]:
    """Share of right answers of every arm that has rows, with its interval; many controls of an arm as one line with their extremes."""
    arms = with_crowds(arms)
    kept = [(arm, arm.accuracy) for arm in arms if arm.accuracy is not None]
    values, words = [], []
    for arm, share in kept:
        value, low, high = 100 * share.value, 100 * share.interval.low, 100 * share.interval.high
        hover = (
            f"{for_plotly(arm.label)}<br>{value:.1f} % right, interval {low:.1f} to {high:.1f}"
            f"<br>{share.count} of {share.n} rows; {arm.truncated} cut, {arm.unscorable} unscorable"
        )
        values.append((value, low, high, arm.items, hover))
        words.append(f"{one_line(arm.label, 40)} {value:.1f} % ({low:.1f} to {high:.1f})")
    figure = _interval_figure([arm for arm, _ in kept], arms, values, "right answers, % (interval: Wilson)")
    figure.update_xaxes(range=[-2, 102])
    return figure, "Accuracy with intervals: " + "; ".join(words) + "."


def difference_figure(arms: Sequence[ArmSummary]) -> tuple[go.Figure, str]:
    """Paired difference of every arm against the baseline, with its interval and a line at zero; many controls as one line."""
    arms = with_crowds(arms)
    kept = [(arm, arm.versus_baseline) for arm in arms if arm.versus_baseline is not None]
    values, words = [], []
    for arm, found in kept:
        value, low, high = 100 * found.difference, 100 * found.interval.low, 100 * found.interval.high
        tested = f"p = {found.p:.3g}" if found.p == found.p else "from the smallest to the largest"
        hover = (
            f"{for_plotly(arm.label)}<br>{value:+.1f} points, interval {low:+.1f} to {high:+.1f}"
            f"<br>{found.helped} helped, {found.hurt} hurt, n = {found.n}, {tested}"
        )
        values.append((value, low, high, found.n, hover))
        words.append(f"{one_line(arm.label, 40)} {value:+.1f} points ({low:+.1f} to {high:+.1f})")
    figure = _interval_figure([arm for arm, _ in kept], arms, values, "difference to the baseline, points (paired)")
    figure.add_vline(x=0, line={"color": "#808080", "width": 1, "dash": "dash"})
    return figure, "Paired differences to the baseline: " + "; ".join(words) + "."


def behaviour_figure(arms: Sequence[ArmSummary]) -> tuple[go.Figure, str]:
    """Labelled behaviours per 100 generated tokens, one row per behaviour, one mark per arm, set apart."""
    kept = [arm for arm in arms if arm.n and not (arm.control_of and len(arms) > 12)]
    labels = sorted({label for arm in kept for label in arm.behaviours})
    figure, marks = go.Figure(), symbols(arms)
    top = max((found.high or found.per_100_tokens for arm in kept for found in arm.behaviours.values()), default=0.0)
    for index, arm in enumerate(kept):
        aside = 0.1 * (index - (len(kept) - 1) / 2)
        appearance = look(arm.role)
        rates = [arm.behaviours[label].per_100_tokens if label in arm.behaviours else 0.0 for label in labels]
        figure.add_trace(
            go.Scatter(
                x=rates,
                error_x=_bars(arm, labels, rates, appearance.colour),
                y=[place + aside for place in range(len(labels))],
                mode="markers",
                cliponaxis=False,
                marker={
                    "color": appearance.colour,
                    "symbol": marks[arm.name],
                    "size": 11,
                    "line": {"width": 2, "color": appearance.colour},
                },
                name=for_plotly(arm.label, 40),
                text=[f"{for_plotly(arm.label)}<br>{for_plotly(label)}" for label in labels],
                hovertemplate="%{text}: %{x:.2f} per 100 tokens<extra></extra>",
            )
        )
    figure.update_yaxes(
        tickmode="array",
        tickvals=list(range(len(labels))),
        ticktext=[for_plotly(label, 40) for label in labels],
        range=[len(labels) - 0.5, -0.5],
        automargin=True,
        zeroline=False,
    )
    figure.update_xaxes(title="per 100 generated tokens", range=[0, 1.05 * top or 1], zeroline=False)
    figure.update_layout(
        height=max(2 * ROW * len(labels) + 90, 220),
        margin={"l": 10, "r": 20, "t": 10, "b": 40},
        legend={"orientation": "v", "x": 1.02, "y": 1},
    )
    words = "; ".join(f"{one_line(label, 40)}: " + ", ".join(_rate(arm, label) for arm in kept) for label in labels)
    return figure, f"Behaviours per 100 generated tokens: {words}."


def _bars(arm: ArmSummary, labels: Sequence[str], rates: Sequence[float], colour: str) -> dict[str, Any]:
    """The 95 % intervals of the rates, where a summary has them."""
    found = [arm.behaviours.get(label) for label in labels]
    high = [0.0 if one is None or one.high is None else one.high - rate for one, rate in zip(found, rates, strict=True)]
    low = [0.0 if one is None or one.low is None else rate - one.low for one, rate in zip(found, rates, strict=True)]
    return {"array": high, "arrayminus": low, "width": 3, "thickness": 1.5, "color": colour}


def _rate(arm: ArmSummary, label: str) -> str:
    found = arm.behaviours.get(label)
    return f"{one_line(arm.label, 40)} {found.per_100_tokens if found else 0.0:.2f}"
