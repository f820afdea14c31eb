"""Whether a sweep's best cell is real: better than the best that random directions would have given.

A direction that does nothing by itself is, as far as anyone knows, a random one; and the best of many random edits is large, on the
problems that chose it and, because a direction keeps its effect, on new problems too. So `real` needs both:

1. **The choice.** The chosen cell's effect on development problems, ranked among the best effects of whole pseudo-sweeps, in each of which
   every vector is replaced by a random direction (direction k of every cell is pseudo-sweep k). Exact for any dependence between cells.
   Where pseudo-sweeps cannot be made (fewer than 19 directions beside a cell, a halving search, which they do not go through), the rank
   on test problems is corrected for the number of cells instead.
2. **New problems.** On problems that did not choose it: its rank among fresh random directions at its site; an interval over items and
   directions that lies above theirs; an interval above the unsteered arm, since controls that do damage make anything look good; and
   edits of equal measured size. Without test splits nothing is called real.

Where something is missing (rows, controls, a size that cannot be measured), nothing is called real and the reason is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from ..statistics import (
    LEVEL,
    AgainstDirections,
    against_directions,
    corrected_rank_p,
    directions_needed,
    paired_difference,
    rank_p,
)
from ..store.runs import Run
from .cells import Cell, random_name, read_card, read_cells
from .table import accuracies, directions_beside, item_rows, matched_sizes


@dataclass(frozen=True)
class Choice:
    """What the development runs say of the cell that they chose."""

    cell: str
    cells: int
    """Cells that the sweep chose among."""
    p: float | None
    """Rank among pseudo-sweeps; None where there are none."""
    pseudo_sweeps: int
    why: str
    """What it was compared with, or why it was not."""

    def to_dict(self) -> dict[str, object]:
        return asdict(self)


@dataclass(frozen=True)
class Verdict:
    """What may be said of a sweep's best cell."""

    real: bool | None
    """None where it cannot be told."""
    cell: str | None
    p: float | None
    """The larger of the two p-values, of the choice and on test problems."""
    choice: Choice | None
    directions: int
    """Random directions on test problems."""
    against: AgainstDirections | None
    sentence: str


def of_choice(runs: Sequence[Run], cell: str, cells: int, halving: bool = False) -> Choice:
    """The chosen cell among pseudo-sweeps, from the development runs (those with other generation settings are parts of one sweep)."""
    if halving:
        return Choice(cell, cells, None, 0, "pseudo-sweeps do not go through a halving search")
    own: dict[str, float] = {}
    drawn: list[list[float]] = []
    for run in runs:
        right = accuracies(item_rows(run)).dropna()
        base = right.get(run.manifest.baseline.name)
        for one in read_cells(run) if base is not None else ():
            seeds = _seeds(one, right.columns)
            if one.name not in right or (drawn and len(seeds) != len(drawn[0])):
                return Choice(cell, cells, None, 0, "the sweep is not complete, so that pseudo-sweeps would lack cells")
            own[one.name] = float((right[one.name] - base).mean())
            drawn.append([float((right[random_name(one, seed)] - base).mean()) for seed in seeds])
    count = len(drawn[0]) if drawn else 0
    if count < directions_needed(1) or cell not in own:
        few = (
            f"{count} random directions beside a cell make {count} pseudo-sweeps, and {directions_needed(1)} are needed"
        )
        return Choice(cell, cells, None, count, few)
    tops = np.array(drawn).max(axis=0)
    p = rank_p(own[cell], tops)
    return Choice(
        cell, cells, p, count,
        f"{100 * own[cell]:+.1f} points over unsteered on the problems that chose it, where the best cells of {count} sweeps of random "
        f"directions through the same grid have {100 * tops.min():+.1f} to {100 * tops.max():+.1f} (one-sided p = {p:.3g})",
    )  # fmt: skip


def of_development(choice: Choice) -> Verdict:
    """The verdict of development runs alone: the cell is described."""
    return Verdict(
        None, choice.cell, choice.p, choice, 0, None,
        f"{choice.cell} is described, not tested: it has not been run on problems that did not choose it. The choice: {choice.why}.",
    )  # fmt: skip


def of_test(run: Run) -> Verdict:
    """The verdict of the run that tests a sweep's winner; its card holds the choice."""
    (cell,), facts = read_cells(run), read_card(run).get("choice")
    choice = Choice(**facts) if facts else None
    if choice is None:
        return _untold(cell.name, None, "its card does not say among how many cells it was chosen")
    rows = item_rows(run)
    right = accuracies(rows)
    names, base = directions_beside(cell, right.columns), run.manifest.baseline.name
    planned = [arm.name for arm in run.manifest.arms if arm.name.startswith(f"{cell.name}-random-")]
    asked = sum(run.manifest.splits.values())
    if not planned:
        return _untold(cell.name, choice, "its test run has no random directions (controls.random_on_test)")
    whole = right[[base, cell.name, *names]].dropna() if {base, cell.name} <= set(right.columns) else pd.DataFrame()
    if run.manifest.status != "complete" or len(names) < len(planned) or len(whole) < asked:
        return _untold(
            cell.name, choice,
            f"its test run is not whole ({len(whole)} of {asked} problems, {len(names)} of {len(planned)} random directions)",
        )  # fmt: skip
    found = against_directions(whole[cell.name].to_numpy(), whole[names].to_numpy().T)
    gained = paired_difference(whole[base].to_numpy(), whole[cell.name].to_numpy())
    among = 1 if choice.p is not None else choice.cells
    p = corrected_rank_p(found.rank_p, among)
    least = corrected_rank_p(1 / (1 + found.directions), among)
    if least > LEVEL:
        return _untold(
            cell.name, choice,
            f"{choice.why}, and {found.directions} random directions can give a p of {least:.2g} at best after the choice among {among} "
            f"cells; {directions_needed(among)} would do",
            found,
        )  # fmt: skip
    sizes = matched_sizes(rows, cell.name, names, run.manifest)
    effect = "the choice" if choice.cells > 1 else "the effect on development problems"
    unchosen = choice.p is not None and choice.p > LEVEL
    reasons = [
        text
        for text, bad in (
            (f"{effect} is no better than random ones ({choice.why})", unchosen),
            (f"{found.as_good} random directions do as well (p = {p:.3g})", p > LEVEL),
            ("its interval over random directions does not lie above 0", found.interval.low <= 0),
            ("its interval over the unsteered arm does not lie above 0", gained.interval.low <= 0),
            (sizes.why, not sizes.matched),
        )
        if bad
    ]
    chosen = (
        f"; chosen: {choice.why}" if choice.p is not None else f"; corrected for {among} cells, because {choice.why}"
    )
    chosen = "" if unchosen else chosen  # said already
    alike = "of equal edit size " if sizes.matched else ""
    return Verdict(
        not reasons, cell.name, max(p, choice.p or 0.0), choice, found.directions, found,
        f"{cell.name} is {'real' if not reasons else 'not called real: ' + '; '.join(reasons)}. On {found.n} problems that did not choose "
        f"it: "
        f"{100 * gained.difference:+.1f} points over unsteered ({100 * gained.interval.low:+.1f} to {100 * gained.interval.high:+.1f}), "
        f"{100 * found.difference:+.1f} over {found.directions} random directions {alike}({100 * found.interval.low:+.1f} to "
        f"{100 * found.interval.high:+.1f}, over items and directions), {found.as_good} of which do at least as well (one-sided p = "
        f"{p:.3g}){chosen}.",
    )  # fmt: skip


def _seeds(cell: Cell, arms: pd.Index) -> list[int]:
    return sorted(int(arm.rpartition("-")[2]) for arm in directions_beside(cell, arms))


def _untold(cell: str, choice: Choice | None, why: str, found: AgainstDirections | None = None) -> Verdict:
    return Verdict(
        None, cell, None, choice, found.directions if found else 0, found, f"{cell} is described, not tested: {why}."
    )
