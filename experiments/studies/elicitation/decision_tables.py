"""Tables and sentences of decision tokens: accuracy by selector, writer and budget, and every writer against the token.

1. A cell is a selector, a writer and a budget; cells of one rule share an arm, and comparisons of the same two arms count once.
2. A comparison is paired: same questions, same selector, same budget.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ...statistics import PairedDifference, rank_p
from ...store.runs import Run
from .asked import Setting
from .findings import Point, Table
from .points import arms_difference, between
from .selecting import SELECTORS, WRITERS, DecisionOptions, Taking

Cell = tuple[str, str, float]
"""Selector, writer, budget."""


@dataclass(frozen=True)
class Grid:
    """A run, the arm of each cell, and what each selector took at each budget."""

    run: Run
    setting: Setting
    cells: Mapping[Cell, str]
    takings: Mapping[tuple[str, float], Taking]

    @cached_property
    def minus_token(self) -> dict[str, dict[tuple[str, float], PairedDifference]]:
        """Each writer minus the thinking model's token, by selector and budget; nothing without a token among the writers."""
        writers = list(dict.fromkeys(writer for _, writer, _ in self.cells))
        if "token" not in writers:
            return {}
        made: dict[tuple[str, str], PairedDifference] = {}
        found: dict[str, dict[tuple[str, float], PairedDifference]] = {w: {} for w in writers if w != "token"}
        for writer, own in found.items():
            for selector, budget in self.takings:
                arms = self.cells[selector, "token", budget], self.cells[selector, writer, budget]
                if arms not in made:
                    made[arms] = arms_difference(self.run, self.setting.split, *arms)
                own[selector, budget] = made[arms]
        return found


def grid_table(grid: Grid, points: list[Point], options: DecisionOptions) -> Table:
    named, reached = {point.arm: point for point in points}, _reached(grid)
    lines: list[tuple[Any, ...]] = []
    for (selector, budget), own in grid.takings.items():
        texts = []
        for writer in options.writers:
            arm = grid.cells[selector, writer, budget]
            point = named[arm]
            interval = f"{100 * point.low:.0f}-{100 * point.high:.0f}"
            texts.append(f"{100 * point.accuracy:.1f} ({interval}), {100 * reached.get(arm, 0):.1f} %")
        lines.append((SELECTORS[selector], f"{100 * budget:g}", f"{100 * own.took:.1f}", *texts))
    return Table(
        title=f"{grid.setting.name}: right % (95 %) and share of tokens reached",
        heads=("selector", "budget %", "took on development %", *(WRITERS[writer] for writer in options.writers)),
        lines=tuple(lines),
        notes=(f"n {named['base'].n}; base {100 * named['base'].accuracy:.1f} %.",),
    )


def _reached(grid: Grid) -> dict[str, float]:
    """Share of an arm's tokens that its gate opened at."""
    rows = grid.run.table(columns=["arm", "split", "token_ids", "choices"]).to_pandas()
    rows = rows[(rows["split"] == grid.setting.split) & rows["choices"].notna()]
    gated = rows["choices"].map(len).groupby(rows["arm"]).sum()
    written = rows["token_ids"].map(len).groupby(rows["arm"]).sum()
    return {str(arm): float(gated[arm] / written[arm]) for arm in gated.index}


def against_token(grid: Grid) -> Table:
    """Every writer minus the token, same selector and budget."""
    lines, found = [], grid.minus_token
    for key in grid.takings if found else ():
        here = {writer: own[key] for writer, own in found.items()}
        texts = [f"{100 * d.difference:+.1f} ({between(d.interval.low, d.interval.high)})" for d in here.values()]
        alone = (here["bank"].helped, here["bank"].hurt) if "bank" in here else (None, None)
        lines.append((SELECTORS[key[0]], f"{100 * key[1]:g}", *texts, *alone, next(iter(here.values())).n))
    heads = (*(f"{WRITERS[writer]}, points (95 %)" for writer in found), "bank alone right", "token alone right", "n")
    return Table(
        title=f"{grid.setting.name}: each writer minus the thinking model's token, same selector and budget",
        heads=("selector", "budget %", *heads),
        lines=tuple(lines),
    )


def told(grid: Grid, points: list[Point], options: DecisionOptions) -> list[str]:
    """How often each writer beats the token, and how the bank stands among random ones."""
    named = {point.arm: point for point in points}
    said = [_counted(grid, writer, found) for writer, found in grid.minus_token.items()]
    name = grid.cells.get(("divergence", "bank", max(options.budgets)))
    drawn = [point.accuracy for point in points if point.arm.startswith("draw-")]
    if name is not None and drawn:
        own = named[name]
        said.append(
            f"{grid.setting.name}: the bank's vectors at the {100 * max(options.budgets):g} % of largest divergence are right in "
            f"{100 * own.accuracy:.1f} %, {len(drawn)} banks of random vectors of equal norms in {100 * np.mean(drawn):.1f} "
            f"({100 * min(drawn):.1f} to {100 * max(drawn):.1f}), one-sided rank p {rank_p(own.accuracy, drawn):.3f} for more; n {own.n}."
        )
    return said


def _counted(grid: Grid, writer: str, found: Mapping[tuple[str, float], PairedDifference]) -> str:
    """In how many comparisons a writer is worth more than the token, or less; those of the same two arms count once."""
    pairs = list({id(one): (key, one) for key, one in found.items()}.values())
    more = [(key, one) for key, one in pairs if one.interval.low > 0]
    less = sum(one.interval.high < 0 for _, one in pairs)
    most = max(one.interval.high for _, one in pairs)
    what = WRITERS[writer]
    verdict = "in none less"
    if more:
        places = ", ".join(f"{SELECTORS[selector]} {100 * budget:g} %" for (selector, budget), _ in more)
        verdict = f"in {len(more)} less ({places}), one of many such comparisons being so by chance"
    return (
        f"{grid.setting.name}: {what} against the token at equal selector and budget, {len(pairs)} comparisons: in {less} the token is "
        f"worth more, {verdict}; the intervals leave {what} an advantage of at most {100 * most:+.1f} points."
    )
