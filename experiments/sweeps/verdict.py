"""Whether a sweep's best cell is real: better than the best that random directions would have given.

1. A direction that does nothing by itself is, as far as anyone knows, a random one. The best of K random directions is large, on the
   problems that chose it and, because a direction keeps its effect, on new problems too. So two things are tested, and never one cell
   alone.
2. With a test run: the rank of the chosen cell, on problems that did not choose it, among fresh random directions of equal edit size at its
   own site, corrected for the K directions that the sweep chose among.
3. Without one, with 19 random directions or more beside every cell: the best cell's effect among the best effects of whole pseudo-sweeps,
   in each of which every vector is replaced by a random direction (direction k of every cell is pseudo-sweep k).
4. `real` needs a p of 0.05 or less there, an interval over items and directions that lies above 0, and edits of equal measured size. Where
   neither can be computed, nothing is called real and the reason is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..statistics import LEVEL, AgainstDirections, against_directions, corrected_rank_p, directions_needed, max_rank_p
from ..store.runs import Run
from .cells import Cell, random_name, read_card, read_cells
from .table import TOLERANCE, accuracies, directions_beside, item_rows, mean_edit


@dataclass(frozen=True)
class Verdict:
    """What may be said of a sweep's best cell."""

    real: bool | None
    """None where it cannot be told."""
    decided_by: str
    """`test problems`, `pseudo-sweeps` or `nothing`."""
    cell: str | None
    p: float | None
    chosen_among: int
    """Directions that the sweep chose among."""
    directions: int
    """Random directions, or pseudo-sweeps, that the cell was compared with."""
    against: AgainstDirections | None
    sentence: str


def of_test(run: Run) -> Verdict:
    """The verdict of the run that tests a sweep's winner."""
    (cell,), among = read_cells(run), int(read_card(run).get("chosen_among", 1))
    rows = item_rows(run)
    rows["edited"] = rows["edit_ratio"].map(sum)
    right = accuracies(rows)
    names = directions_beside(cell, right.columns)
    shared = right[[cell.name, *names]].dropna() if cell.name in right and names else pd.DataFrame()
    if shared.empty:
        return _untold(cell.name, among, "its test run holds no random directions (controls.random_on_test)")
    found = against_directions(shared[cell.name].to_numpy(), shared[names].to_numpy().T)
    p = corrected_rank_p(found.rank_p, among)
    own, theirs = mean_edit(rows[rows["arm"] == cell.name]), mean_edit(rows[rows["arm"].isin(names)])
    matched = abs(own - theirs) <= TOLERANCE * max(own, 1e-12)
    least = corrected_rank_p(1 / (1 + found.directions), among)
    if least > LEVEL:
        return _untold(
            cell.name, among,
            f"{found.directions} random directions can give a p of {least:.2g} at best after the choice among {among} directions; "
            f"{directions_needed(among)} would do",
            found,
        )  # fmt: skip
    real = bool(p <= LEVEL and found.interval.low > 0 and matched)
    why = ""
    if not matched:
        why = f" The edits differ in size ({own:.2f} against {theirs:.2f} of the activation's norm), so nothing is called real."
    chosen = "the one direction of the sweep" if among == 1 else f"the best of {among} directions"
    interval = f"{100 * found.interval.low:+.1f} to {100 * found.interval.high:+.1f}"
    return Verdict(
        real, "test problems", cell.name, p, among, found.directions, found,
        f"{cell.name} is {'real' if real else 'not told from a random direction'}: on {found.n} problems that did not choose it, "
        f"{100 * found.difference:+.1f} points over {found.directions} random directions of equal edit size ({interval}, over items and "
        f"directions), {found.as_good} of which do at least as well; p = {p:.3g} for {chosen}.{why}",
    )  # fmt: skip


def of_grid(runs: Sequence[Run]) -> Verdict:
    """The verdict of development runs alone, by pseudo-sweeps; runs with other generation settings are parts of one sweep."""
    among = int(read_card(runs[0]).get("chosen_among", 1)) if runs else 1
    own: list[float] = []
    drawn: list[list[float]] = []
    names: list[str] = []
    for run in runs:
        right = accuracies(item_rows(run)).dropna()
        base = right.get(run.manifest.baseline.name)
        for cell in read_cells(run) if base is not None else ():
            seeds = _seeds(cell, right.columns)
            if cell.name not in right or (drawn and len(seeds) != len(drawn[0])):
                return _untold(None, among, "the sweep is not complete, so that pseudo-sweeps would lack cells")
            names.append(cell.name)
            own.append(float((right[cell.name] - base).mean()))
            drawn.append([float((right[random_name(cell, seed)] - base).mean()) for seed in seeds])
    count = len(drawn[0]) if drawn else 0
    if count < directions_needed(1):
        return _untold(
            names[int(np.argmax(own))] if own else None, among,
            f"{count} random directions beside a cell make {count} pseudo-sweeps, with which p is {1 / (1 + count):.2g} at best; give it "
            f"test splits, or controls.random of {directions_needed(1)} or more",
        )  # fmt: skip
    null = np.array(drawn).T
    best, p = max_rank_p(own, null)
    real, tops = bool(p <= LEVEL and own[best] > 0), null.max(axis=1)
    return Verdict(
        real, "pseudo-sweeps", names[best], p, among, count, None,
        f"{names[best]} is {'real' if real else 'not told from random directions'}: {100 * own[best]:+.1f} points over unsteered on the "
        f"problems that chose it, where the best cells of {count} sweeps of random directions through the same grid have "
        f"{100 * tops.min():+.1f} to {100 * tops.max():+.1f} (p = {p:.3g}). How large it is, other problems must say.",
    )  # fmt: skip


def _seeds(cell: Cell, arms: pd.Index) -> list[int]:
    return sorted(int(arm.rpartition("-")[2]) for arm in directions_beside(cell, arms))


def _untold(cell: str | None, among: int, why: str, found: AgainstDirections | None = None) -> Verdict:
    best = f"The best cell, {cell}," if cell else "The best cell"
    return Verdict(
        None, "nothing", cell, None, among, found.directions if found else 0, found,
        f"{best} is described, not tested: {why}.",
    )  # fmt: skip
