"""Plotly figures of a sweep: the grid of cells, and dose against response.

1. A cell is a rectangle in a diverging colour around 0 (a sequential one for quantities without a sign); where its interval holds 0 it is
   faint, and where nothing was run it is blank.
2. A transparent mark lies on every cell, because a heatmap of its own reports no click; its `customdata` is the cell's name.
3. The band of the random directions stands behind the curve that it belongs to.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from app.escaping import for_plotly
from app.roles import look
from experiments.statistics import wilson


@dataclass(frozen=True)
class Measure:
    """A quantity that cells are coloured by."""

    label: str
    column: str
    low: str | None
    high: str | None
    scale: float
    unit: str

    @property
    def signed(self) -> bool:
        """Whether it is a difference, with an interval."""
        return self.low is not None


MEASURES = {
    "score": Measure(
        "against random directions", "over_control", "over_control_low", "over_control_high", 100, "points"
    ),
    "difference": Measure("against unsteered", "difference", "low", "high", 100, "points"),
    "accuracy": Measure("right answers", "accuracy", None, None, 100, "%"),
    "tokens": Measure("tokens per answer", "tokens", None, None, 1, "tokens"),
    "truncated": Measure("cut at the limit", "truncated", None, None, 100, "%"),
    "edit": Measure("size of the edit", "edit", None, None, 1, "‖Δ‖/‖h‖"),
}
UP, DOWN, PLAIN = (217, 115, 13), (31, 131, 196), (102, 120, 138)
"""Colours of more, of less, and of quantities without a sign."""
FAINT = 0.22
CELL = 54
"""Height of a cell, in pixels."""


def say(value: Any) -> str:
    """A setting's value as a label: files without folder and ending."""
    text = str(value).rsplit("/", 1)[-1].removesuffix(".safetensors")
    return for_plotly(text, 28)


def grid_figure(
    cells: pd.DataFrame, rows: str, columns: str, measure: Measure, chosen: str | None
) -> tuple[go.Figure, str]:
    """The cells by two settings, `rows` downwards and `columns` across; `chosen` is outlined. Also a sentence that says what it shows."""
    down, across = list(dict.fromkeys(cells[rows])), list(dict.fromkeys(cells[columns]))
    values = measure.scale * cells[measure.column].astype(float)
    top = max((abs(v) for v in values if not math.isnan(v)), default=0.0) or 1.0
    figure = go.Figure()
    marks: dict[str, list[Any]] = {"x": [], "y": [], "text": [], "name": [], "hover": [], "ink": []}
    for (_, cell), value in zip(cells.iterrows(), values, strict=True):
        x, y = across.index(cell[columns]), down.index(cell[rows])
        red, green, blue = (UP if value >= 0 else DOWN) if measure.signed else PLAIN
        unsure = measure.signed and not _clear(cell, measure)
        strength = 0.0 if math.isnan(value) else (0.12 + 0.78 * abs(value) / top) * (FAINT / 0.9 if unsure else 1.0)
        outlined = cell["cell"] == chosen
        figure.add_shape(
            type="rect", x0=x - 0.48, x1=x + 0.48, y0=y - 0.46, y1=y + 0.46, layer="below",
            fillcolor=f"rgba({red},{green},{blue},{strength:.3f})",
            line={"width": 3 if outlined else 1, "color": "#1668A8" if outlined else "rgba(128,128,128,0.35)"},
        )  # fmt: skip
        marks["x"].append(x)
        marks["y"].append(y)
        marks["text"].append(_text(value, measure))
        marks["ink"].append("#1B2530" if strength > 0.3 else "#7D8894")  # the second is legible on light and dark pages
        marks["name"].append(cell["cell"])
        marks["hover"].append(_hover(cell, value, measure, rows, columns))
    figure.add_trace(
        go.Scatter(
            x=marks["x"], y=marks["y"], mode="text", text=marks["text"], textfont={"color": marks["ink"], "size": 13}, hoverinfo="skip",
            showlegend=False,
        )
    )  # fmt: skip
    figure.add_trace(
        go.Scatter(
            x=marks["x"], y=marks["y"], mode="markers", customdata=marks["name"], hovertext=marks["hover"],
            hovertemplate="%{hovertext}<extra></extra>", marker={"symbol": "square", "size": CELL - 8, "opacity": 0.01},
            showlegend=False, selected={"marker": {"opacity": 0.01}}, unselected={"marker": {"opacity": 0.01}},
        )
    )  # fmt: skip
    for update, names, title in ((figure.update_xaxes, across, columns), (figure.update_yaxes, down, rows)):
        update(
            tickmode="array", tickvals=list(range(len(names))), ticktext=[say(n) for n in names], title=for_plotly(title),
            showgrid=False, zeroline=False, automargin=True,
        )  # fmt: skip
    figure.update_xaxes(range=[-0.55, len(across) - 0.45])
    figure.update_yaxes(range=[len(down) - 0.45, -0.55])
    figure.update_layout(height=CELL * len(down) + 116, margin={"l": 10, "r": 10, "t": 34, "b": 40}, dragmode=False)
    known = values.dropna()
    if known.empty:
        return figure, "No cell has this quantity."
    best = cells.loc[known.idxmax()]
    faint = sum(measure.signed and not _clear(cell, measure) for _, cell in cells.iterrows())
    aside = f" Of {len(cells)} cells, {faint} are faint: their interval holds 0." if measure.signed else ""
    where = f"{rows} {say(best[rows])}, {columns} {say(best[columns])}"
    return figure, f"{measure.label}, {measure.unit}: largest {_text(known.max(), measure)} at {where}.{aside}"


def _clear(cell: pd.Series, measure: Measure) -> bool:
    """Whether the interval of a difference lies on one side of 0."""
    low, high = cell.get(measure.low), cell.get(measure.high)
    return low == low and high == high and (low > 0 or high < 0)


def _text(value: float, measure: Measure) -> str:
    if math.isnan(value):
        return ""
    if round(value) == 0 and measure.column != "edit":
        return "0"
    return f"{value:+.0f}" if measure.signed else f"{value:.2f}" if measure.column == "edit" else f"{value:.0f}"


def _hover(cell: pd.Series, value: float, measure: Measure, rows: str, columns: str) -> str:
    lines = [f"{for_plotly(rows)} {say(cell[rows])}, {for_plotly(columns)} {say(cell[columns])}"]
    interval = ""
    if measure.signed and cell[measure.low] == cell[measure.low]:
        interval = f" ({measure.scale * cell[measure.low]:+.1f} to {measure.scale * cell[measure.high]:+.1f})"
    lines.append(f"{measure.label}: {_text(value, measure) or 'not there'} {measure.unit}{interval}")
    lines.append(f"{100 * cell['accuracy']:.1f} % right, n = {cell['n']}")
    if cell.get("directions", 0) > 0:
        lines.append(f"{cell['as_good']:.0f} of {cell['directions']:.0f} random directions do as well")
    return "<br>".join(lines)


def dose_figure(cells: pd.DataFrame, curve: str, dose: str) -> tuple[go.Figure, str]:
    """Accuracy against dose, one curve per value of `curve`, each before the accuracy of its own random directions."""
    figure, names = go.Figure(), list(dict.fromkeys(cells[curve]))
    palette = ("#D9730D", "#1F83C4", "#9A5FD0", "#0E8F6E", "#B8860B", "#C2477F", "#66788A")
    dashes = ("solid", "dash", "dot", "dashdot", "longdash")
    for number, name in enumerate(names):
        part = cells[cells[curve] == name].sort_values(dose)
        colour, dash = palette[number % len(palette)], dashes[number % len(dashes)]
        if "control" in part:
            figure.add_trace(
                go.Scatter(
                    x=[*part[dose], *part[dose][::-1]], y=[*(100 * part["control_high"]), *(100 * part["control_low"])[::-1]],
                    mode="lines", line={"width": 0}, fill="toself", fillcolor=colour, opacity=0.12, hoverinfo="skip", showlegend=False,
                )
            )  # fmt: skip
            figure.add_trace(
                go.Scatter(
                    x=part[dose], y=100 * part["control"], mode="lines", line={"color": colour, "width": 1, "dash": "dot"}, opacity=0.55,
                    name=f"random, {for_plotly(curve)} {say(name)}", hovertemplate="random: %{y:.1f} %<extra></extra>",
                )
            )  # fmt: skip
        shares = [wilson(round(a * n), n) for a, n in zip(part["accuracy"], part["n"], strict=True)]
        above = [100 * (share.high - a) for share, a in zip(shares, part["accuracy"], strict=True)]
        below = [100 * (a - share.low) for share, a in zip(shares, part["accuracy"], strict=True)]
        figure.add_trace(
            go.Scatter(
                error_y={"array": above, "arrayminus": below, "width": 3, "thickness": 1, "color": colour},
                x=part[dose], y=100 * part["accuracy"], mode="lines+markers", line={"color": colour, "dash": dash, "width": 2.5},
                name=f"{for_plotly(curve)} {say(name)}", customdata=part[["n", "cell"]].to_numpy(),
                hovertemplate="dose %{x}: %{y:.1f} % right, n = %{customdata[0]}<extra></extra>",
            )
        )  # fmt: skip
    base = 100 * float(cells["unsteered"].iloc[0])
    figure.add_hline(
        y=base,
        line={"color": look("baseline").colour, "dash": "dash", "width": 1},
        annotation_text=f"unsteered {base:.1f} %",
    )
    figure.update_xaxes(title=for_plotly(dose))
    figure.update_yaxes(title="right answers, %", rangemode="tozero")
    figure.update_layout(height=380, margin={"l": 10, "r": 10, "t": 20, "b": 40}, legend={"orientation": "v"})
    return (
        figure,
        f"Accuracy against {dose}, one curve per {curve}, bars: 95 % (Wilson); dotted: the mean of its random directions, shaded from "
        f"their smallest to their largest; dashed line: unsteered, {base:.1f} %.",
    )


def numeric(values: Sequence[Any]) -> bool:
    """Whether a setting can be an axis of numbers."""
    return all(isinstance(value, int | float) for value in values)
