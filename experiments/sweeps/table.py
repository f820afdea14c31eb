"""The table of a sweep: every cell described against the unsteered arm and against the distribution of its own random directions.

1. Differences are paired by item, splits pooled. Beside a cell's difference to the mean of its random directions, over items and
   directions, stand its rank among them and where theirs lie. The edits of both are measured, and a cell is `matched` when their mean
   sizes agree within a tenth.
2. Cells are described, not tested: the largest of many looks better than it is. Whether the chosen one is real is `verdict`'s to say.
3. The score that cells are chosen by is the difference to the random directions or to the unsteered arm, whichever is smaller: controls
   that do damage win nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ..evaluation.controls import Sizes, mean_size, sizes_match
from ..statistics import against_directions, paired_difference
from ..store.runs import Manifest, Run
from .cells import GENERATION, Cell

COLUMNS = ["arm", "split", "item", "seed", "correct", "truncated", "token_ids", "edit_ratio", "edits_planned"]


def item_rows(run: Run) -> pd.DataFrame:
    """The rows that a table is made of, with `unit`, the split and item that pair arms."""
    rows = run.table(columns=COLUMNS).to_pandas()
    rows["unit"] = rows["split"] + "/" + rows["item"]
    return rows


def accuracies(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean of `correct` per unit and arm, `[units, arms]`."""
    return rows.pivot_table(index="unit", columns="arm", values="correct", aggfunc="mean").astype(float)


def directions_beside(cell: Cell, arms: pd.Index) -> list[str]:
    """The arms of a cell's random directions."""
    return [arm for arm in arms if arm.startswith(f"{cell.name}-random-")]


def sweep_table(run: Run, cells: list[Cell]) -> pd.DataFrame:
    """One line per cell that has rows: `cell`, its settings, `n`, `accuracy`, `unsteered`, `difference` with `low`, `high`, `p` (alone);
    where it has random directions their number `directions`, mean `control`, extremes `control_low`, `control_high`, `over_control` with
    `_low`, `_high`, `rank_p`, `as_good`, `control_edit`, `matched`; `tokens`, `truncated`, `edit` (mean ‖Δ‖/‖h‖ of the edits), `score`.
    Shares in [0, 1]."""
    rows = item_rows(run)
    rows["length"] = rows["token_ids"].map(len)
    right = accuracies(rows)
    unsteered = run.manifest.baseline.name
    groups = {arm: group for arm, group in rows.groupby("arm")}
    lines = []
    for cell in cells:
        controls = directions_beside(cell, right.columns)
        if cell.name not in groups or unsteered not in groups:
            continue
        shared = right[[unsteered, cell.name, *controls]].dropna()  # of a run in progress: items that all have answered
        if shared.empty:
            continue
        base, own, part = shared[unsteered].to_numpy(), shared[cell.name].to_numpy(), groups[cell.name]
        found = paired_difference(base, own)
        line: dict[str, Any] = {
            "cell": cell.name,
            **{key.removeprefix(GENERATION): value for key, value in cell.settings.items()},
            "n": len(own),
            "accuracy": own.mean(),
            "unsteered": base.mean(),
            "difference": found.difference,
            "low": found.interval.low,
            "high": found.interval.high,
            "p": found.p,
            "tokens": part["length"].mean(),
            "truncated": part["truncated"].mean(),
            "edit": edit_of(rows, cell.name, run.manifest),
        }
        if controls:
            beyond = against_directions(own, shared[controls].to_numpy().T)
            sizes = matched_sizes(rows, cell.name, controls, run.manifest)
            line |= {
                "directions": beyond.directions,
                "control": float(np.mean(beyond.means)),
                "control_low": beyond.means[0],
                "control_high": beyond.means[-1],
                "over_control": beyond.difference,
                "over_control_low": beyond.interval.low,
                "over_control_high": beyond.interval.high,
                "rank_p": beyond.rank_p,
                "as_good": beyond.as_good,
                "control_edit": sizes.theirs,
                "matched": sizes.matched,
            }
        line["score"] = min(line["difference"], line.get("over_control", line["difference"]))
        lines.append(line)
    return pd.DataFrame(lines)


def edit_of(rows: pd.DataFrame, arm: str, manifest: Manifest) -> float:
    """Mean ‖Δ‖/‖h‖ over the positions that an arm's plan covers; NaN where it covers none."""
    own = rows[rows["arm"] == arm]
    plan = next((a.plan for a in manifest.arms if a.name == arm), None)
    size = mean_size(float(own["edit_ratio"].map(sum).sum()), int(own["edits_planned"].sum()), plan)
    return float("nan") if size is None else size


def matched_sizes(rows: pd.DataFrame, arm: str, controls: list[str], manifest: Manifest) -> Sizes:
    """Whether an arm's edits and those of each of its controls are of equal measured size."""
    plan = next((a.plan for a in manifest.arms if a.name == arm), None)
    theirs = [edit_of(rows, name, manifest) for name in controls]
    return sizes_match(edit_of(rows, arm, manifest), theirs, plan)
