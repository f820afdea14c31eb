"""The layer-by-dose heatmap of a sweep (`heatmap`).

1. The score of a cell is its paired difference to its own random directions, or to the unsteered arm where it has none.
2. A cell is faded exactly where the 95 % interval of its score holds 0; a cell that was not run is blank.
3. Colour is orange or blue over the page's own background, the stronger the larger: 0 is the background in light and in dark.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Patch, Rectangle

from ..evidence import Evidence, Unavailable
from .canvas import (
    DOWN,
    FIXED_DARK,
    GRID,
    INK,
    MUTED,
    UP,
    Drawing,
    bare,
    cut,
    new_figure,
    p_words,
    points,
    styled,
)

DOSES = ("dose", "alpha", "strength", "coefficient", "amount", "scale")
LAYERS = ("layer", "layers", "site", "sites")


def axis_names(table: pd.DataFrame, settings: Sequence[str]) -> tuple[str | None, str | None, list[str]]:
    """Which setting goes up (the layer), which goes along (the dose), and which make panels of their own."""
    dose = next((s for name in DOSES for s in settings if s.lower() == name), None)
    layer = next((s for name in LAYERS for s in settings if s.lower() == name), None)
    numeric = [s for s in settings if s != layer and pd.api.types.is_numeric_dtype(table[s])]
    dose = dose or (numeric[-1] if numeric else None)
    rest = [s for s in settings if s not in (dose, layer)]
    layer = layer or (rest.pop(0) if rest else None)
    if dose is None and rest:
        dose = rest.pop(0)
    return layer, dose, [s for s in rest if table[s].nunique() > 1]


def heatmap(evidence: Evidence) -> Drawing:
    """Layer by dose of a sweep's development run. Raises Unavailable for other runs."""
    if evidence.kind != "sweep, development":
        raise Unavailable(
            "a sweep's test run holds the chosen cell alone; the heatmap is in the report of its development run"
            if evidence.kind == "sweep, test" else "the run is no sweep"
        )  # fmt: skip
    table, settings = evidence.cells, evidence.settings
    up, along, facets = axis_names(table, settings)
    groups = (
        [(_facet(facets, key), part) for key, part in table.groupby(facets, sort=False)] if facets else [("", table)]
    )
    rows = _ordered(table[up]) if up else [""]
    columns = _ordered(table[along]) if along else [""]
    top = max(float(table["score"].abs().max()), 1e-9)
    wide = max(1, min(len(groups), int(10 // (0.62 * len(columns) + 1.0))))
    tall = -(-len(groups) // wide)
    beside = "over_control" in table
    against = "each cell's own random directions" if beside else "the unsteered arm"
    title = f"{up or 'cell'} by {along or 'cell'}: points to {against}"
    tips: dict[str, str] = {}
    with styled():
        width = max(5.8, wide * (0.62 * len(columns) + 0.9) + 0.5)
        figure, panels = new_figure(title, width, tall * (0.42 * len(rows) + 0.75) + 0.75, tall, wide)
        for panel in panels[len(groups) :]:
            panel.remove()
        for number, (axes, (name, part)) in enumerate(zip(panels, groups, strict=False)):
            for row in range(len(rows)):
                for column in range(len(columns)):
                    axes.add_patch(
                        Rectangle(
                            (column - 0.5, row - 0.5), 1, 1, facecolor="none", edgecolor=GRID, linewidth=0.6, zorder=1
                        )
                    )
            for line in part.to_dict("records"):
                column = columns.index(line[along]) if along else 0
                row = rows.index(line[up]) if up else 0
                gid = f"{number}-{line['cell']}"
                _cell(axes, column, row, line, top, gid)
                tips[f"cell-{gid}"] = _cell_tip(line, settings, against)
            axes.set_xlim(-0.55, len(columns) - 0.45)
            axes.set_ylim(len(rows) - 0.45, -0.55)
            axes.set_xticks(range(len(columns)), [_short(value) for value in columns])
            axes.set_yticks(range(len(rows)), [_short(value) for value in rows])
            if along:
                axes.set_xlabel(cut(along))
            if up and number % wide == 0:
                axes.set_ylabel(cut(up))
            axes.set_title(name)
            bare(axes)
        made = [
            Patch(facecolor=UP, label=f"better (full colour: {100 * top:.0f} points)"), Patch(facecolor=DOWN, label="worse"),
            Patch(facecolor=UP, alpha=0.22, label="faded, in brackets: interval holds 0"),
            Patch(facecolor="none", edgecolor=INK, linewidth=2, label="best cell"),
            Patch(facecolor="none", edgecolor=GRID, label="not run"),
        ]  # fmt: skip
        figure.legend(handles=made, loc="outside lower center", ncols=3, columnspacing=1.3, handletextpad=0.5)
    n, best = int(table["n"].iloc[0]), table[table["chosen"]].iloc[0]
    size = f"{points(best['score'])} ({points(best['score_low'])} to {points(best['score_high'])})"
    words = (
        f"Right answers minus those of {against} on the same {n} development items, in points. Best of {len(table)} cells: "
        f"{settings_words(best.to_dict(), settings)}, {size}; {_as_good(best)}. "
        "The best of many looks better than it is: its size is for a test run."
    )
    return Drawing("heatmap", title, words, table, figure, tips)


def _cell(axes: Axes, column: int, row: int, line: dict[str, Any], top: float, gid: str) -> None:
    score, faded = line["score"], bool(line["holds_zero"])
    strength = 0.16 + 0.79 * min(1.0, abs(score) / top)
    alpha = 0.3 * strength if faded else strength
    colour = UP if score >= 0 else DOWN
    box = Rectangle((column - 0.47, row - 0.46), 0.94, 0.92, facecolor=colour, alpha=alpha, edgecolor="none", zorder=2)
    box.set_gid(f"cell-{gid}")
    axes.add_patch(box)
    ink = MUTED if faded else INK if alpha < 0.8 else FIXED_DARK if score >= 0 else "#fffffe"
    text = f"({points(score, 0)})" if faded else points(score, 0)
    axes.text(
        column,
        row,
        text,
        ha="center",
        va="center",
        color=ink,
        fontsize=8.5,
        zorder=4,
        weight="normal" if faded else "bold",
    )
    if line["chosen"]:
        axes.add_patch(
            Rectangle((column - 0.48, row - 0.47), 0.96, 0.94, facecolor="none", edgecolor=INK, linewidth=2.2, zorder=5)
        )


def _cell_tip(line: dict[str, Any], settings: Sequence[str], against: str) -> str:
    zero = "; the interval holds 0" if line["holds_zero"] else ""
    return (
        f"{line['cell']}: {settings_words(line, settings)}\n"
        f"{points(line['score'])} points to {against} ({points(line['score_low'])} to {points(line['score_high'])}){zero}\n"
        f"{points(line['difference'])} to unsteered ({points(line['low'])} to {points(line['high'])}); {_as_good(line)}\n"
        f"{100 * line['accuracy']:.1f} % right, n = {line['n']}; {line['tokens']:.0f} tokens, {100 * line['truncated']:.0f} % cut"
    )


def _as_good(line: Any) -> str:
    """How a cell stands among its own random directions."""
    if line.get("directions") is None or line["directions"] != line["directions"]:
        return "none beside it"
    return (
        f"{int(line['as_good'])} of {int(line['directions'])} random directions do as well ({p_words(line['rank_p'])})"
    )


def settings_words(line: dict[str, Any], settings: Sequence[str]) -> str:
    """`layer 2, dose 0.5`."""
    return ", ".join(f"{key} {_short(line[key])}" for key in settings)


def _facet(names: Sequence[str], key: Any) -> str:
    values = key if isinstance(key, tuple) else (key,)
    return cut(", ".join(f"{name} {_short(value)}" for name, value in zip(names, values, strict=True)))


def _short(value: Any) -> str:
    if isinstance(value, float | np.floating):
        return f"{value:g}"
    text = Path(value).stem if isinstance(value, str) and value.endswith(".safetensors") else str(value)
    found = re.fullmatch(r"blocks\.(\d+)\.hook_resid_post", text)
    return found[1] if found else cut(text, 18)


def _ordered(values: pd.Series) -> list[Any]:
    """Numbers by size, names in order of appearance."""
    found = list(dict.fromkeys(values))
    return sorted(found) if all(isinstance(v, int | float | np.number) for v in found) else found
