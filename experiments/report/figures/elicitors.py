"""Do elicitors move the model the same way, and does any of them create anything? The fingerprint card's findings as one figure.

1. Left: cosines of mean shifts across halves of the questions, the split-half ceiling on the diagonal, random vectors below. Only what the
   card's table holds is drawn.
2. Right: questions that an elicitor solves at all, with verified traces where the task has them, minus those that the base solves when it
   is asked again, in points with 95 %.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from ...studies.elicitation.findings import Findings, Table
from ..evidence import Unavailable
from .canvas import DOWN, FIXED_DARK, GRID, INK, MUTED, UP, Drawing, bare, cut, new_figure, styled

COSINES = ": cosines of mean shifts at "
SOLVED = ": what each can solve at all, "
RANDOM = "random vector"
_RANGE = re.compile(r"([+-][\d.]+) \(([+-][\d.]+) to ([+-][\d.]+)")


def elicitor_figure(findings: Findings) -> Drawing:
    """Of the last texts that shifts were read on, at the layer where random vectors' cosines lie nearest to 0: near the end of a model any
    shift points much the same way. Raises Unavailable for another card's findings, and where the supports were left out."""
    if findings.card != "fingerprint":
        raise Unavailable(f"the figure is of the card fingerprint, not of {findings.card}")
    cosines = [table for table in findings.tables if COSINES in table.title]
    solved = [table for table in findings.tables if SOLVED in table.title]
    if not cosines or not solved:
        raise Unavailable("these findings hold no cosines, or no supports; run the card with support above 0")
    whose = cosines[-1].title.rpartition(", on ")[2]
    matrix = min((table for table in cosines if table.title.endswith(whose)), key=_chance)
    sets = solved[-1]
    read = [str(line[0]) for line in matrix.lines if line[0] in matrix.heads]
    beyond = {str(line[0]): _read(line[-1]) for line in sets.lines}
    unread = [
        label for label, values in beyond.items() if values and label not in read and not label.startswith(RANDOM)
    ]
    labels = [*read, *unread]
    chance = next((line for line in matrix.lines if "random vectors" in str(line[0])), None)
    random = [values for label, values in beyond.items() if label.startswith(RANDOM) and values]
    frame = _frame(matrix, labels, beyond)
    with styled():
        height = 0.34 * (len(labels) + (chance is not None)) + 1.9
        figure, (left, right) = new_figure(
            "Do elicitors move the model the same way, and does any create anything?",
            12.0, height, 1, 2, gridspec_kw={"width_ratios": [2.1, 1]}, sharey=True,
        )  # fmt: skip
        _matrix(left, matrix, read, unread, chance)
        _beyond(right, labels, beyond, random)
        where = matrix.title.split(COSINES, 1)[1]
        left.set_title(f"Cosines of mean shifts at {where}")
        kind = sets.title.split(SOLVED, 1)[1].split(", ")[0]
        right.set_title("Solved at all, minus the base asked again")
        grey = f"; grey: {len(random)} random vectors" if random else ""
        right.set_xlabel(f"points (95 %); {kind}{grey}")
    words = (
        "Left: cosine of the mean shifts of two elicitors on the same forced texts, across halves of the questions; the diagonal is the "
        "split-half ceiling, which two equal elicitors reach, the last row the mean of random vectors. Right: how many more questions an "
        "elicitor solves in as many samples than the base's own second draw. What it does not show: other models, other layers, other "
        "seeds, and solutions beyond that many samples."
    )
    return Drawing("elicitors", "Elicitors", words, frame, figure, {}, "")


def _read(cell: object) -> tuple[float, float, float] | None:
    found = _RANGE.match(str(cell)) if cell is not None else None
    return (float(found[1]), float(found[2]), float(found[3])) if found else None


def _chance(matrix: Table) -> float:
    """Mean distance from 0 of what random vectors make of the cosines; 1 where there are none."""
    line = next((line for line in matrix.lines if "random vectors" in str(line[0])), None)
    cells = [] if line is None else [abs(float(str(cell).split(" ", 1)[0])) for cell in line[1:]]
    return sum(cells) / len(cells) if cells else 1.0


def _frame(matrix: Table, labels: Sequence[str], beyond: dict[str, tuple[float, float, float] | None]) -> pd.DataFrame:
    own = {str(line[0]): line[1:] for line in matrix.lines}
    rows = []
    for label in [*labels, *(label for label in own if label not in labels)]:
        row: dict[str, Any] = {"elicitor": label} | dict(zip(matrix.heads[1:], own.get(label, ()), strict=False))
        rows.append(row | dict(zip(("solved", "low", "high"), beyond.get(label) or (None, None, None), strict=True)))
    return pd.DataFrame(rows)


def _matrix(
    axes: Axes, matrix: Table, labels: Sequence[str], unread: Sequence[str], chance: Sequence[Any] | None
) -> None:
    rows = [(number, line, False) for number, line in enumerate(line for line in matrix.lines if line[0] in labels)]
    below = len(labels) + len(unread)
    if chance is not None:
        rows.append((below, tuple(chance), True))
    for number in range(len(labels), below):
        axes.text(-0.4, number, "no shift at this layer", va="center", fontsize=7.5, color=MUTED)
    for row, line, drawn in rows:
        for column, cell in enumerate(line[1:]):
            value = float(str(cell).split(" ", 1)[0])
            ceiling = row == column and not drawn
            shade = min(1.0, abs(value))
            axes.add_patch(
                Rectangle(
                    (column - 0.5, row - 0.5), 1, 1, facecolor=UP if value > 0 else DOWN, alpha=0.85 * shade, edgecolor="none", zorder=1,
                    gid=f"cosine-{row}-{column}",
                )
            )  # fmt: skip
            axes.add_patch(
                Rectangle(
                    (column - 0.5, row - 0.5), 1, 1, facecolor="none", edgecolor=INK if ceiling else GRID,
                    linewidth=1.4 if ceiling else 0.6, zorder=3 if ceiling else 2,
                )
            )  # fmt: skip
            axes.text(
                column, row, f"{value:+.2f}".replace("+0.", "+.").replace("-0.", "\u2212."), ha="center", va="center",
                fontsize=7.5, color=FIXED_DARK if shade > 0.5 else INK, zorder=4,
            )  # fmt: skip
    names = [*labels, *unread, *(["random vectors, mean"] if chance is not None else [])]
    axes.set_xlim(-0.55, len(labels) - 0.45)
    axes.set_ylim(len(names) - 0.45, -0.55)
    axes.set_xticks(
        range(len(labels)), [cut(label, 30) for label in labels], rotation=40, ha="right", rotation_mode="anchor"
    )
    axes.set_yticks(range(len(names)), [cut(name, 44) for name in names])
    bare(axes)


def _beyond(
    axes: Axes,
    labels: Sequence[str],
    beyond: dict[str, tuple[float, float, float] | None],
    random: Sequence[tuple[float, float, float]],
) -> None:
    axes.axvline(0, color=MUTED, linewidth=0.9, zorder=1)
    if random:
        low, high = min(one[0] for one in random), max(one[0] for one in random)
        pad = max(0.4, 0.02 * (high - low))
        axes.axvspan(low - pad, high + pad, color=GRID, zorder=0)
    for row, label in enumerate(labels):
        values = beyond.get(label)
        if values is None:
            axes.text(0, row, "not sampled", color=MUTED, fontsize=7.5, va="center")
            continue
        value, low, high = values
        colour = UP if low > 0 else DOWN if high < 0 else MUTED
        axes.plot([low, high], [row, row], color=colour, linewidth=1.6, zorder=2)
        axes.plot([value], [row], marker="o", markersize=5.5, color=colour, zorder=3, gid=f"solved-{row}")
    axes.grid(axis="x", zorder=0)
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0, labelleft=False)
    for side in ("left", "top", "right"):
        axes.spines[side].set_visible(False)
