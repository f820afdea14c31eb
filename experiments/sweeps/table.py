"""The table of a sweep: every cell against the unsteered arm and against its own random directions, corrected for their number.

1. Differences are paired by item, splits pooled; a cell against its controls is the paired difference to the controls' mean on an item.
2. p-values of the cells are one family (Holm 1979). `real` says that the corrected p is below 0.05 *and* the interval of the difference to
   the cell's own random directions lies above 0.
3. The score that cells are chosen by is the difference to the random directions (to the unsteered arm where there are none).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ..statistics import holm, paired_difference
from ..store.runs import Run
from .cells import GENERATION, Cell

LEVEL = 0.05


def sweep_table(run: Run, cells: list[Cell]) -> pd.DataFrame:
    """One line per cell that has rows: `cell`, its settings, `n`, `accuracy`, `unsteered`, `difference` with `low`, `high`, `p`, `p_holm`,
    `control`, `over_control` with `_low`, `_high`, `tokens`, `truncated`, `edit`, `score`, `real`. Shares in [0, 1]."""
    rows = run.table(
        columns=["arm", "split", "item", "seed", "correct", "truncated", "token_ids", "edit_ratio"]
    ).to_pandas()
    rows["unit"] = rows["split"] + "/" + rows["item"]
    rows["length"] = rows["token_ids"].map(len)
    right = rows.pivot_table(index="unit", columns="arm", values="correct", aggfunc="mean").astype(float)
    unsteered = run.manifest.baseline.name
    groups = {arm: group for arm, group in rows.groupby("arm")}
    lines = []
    for cell in cells:
        controls = [arm for arm in right.columns if arm.startswith(f"{cell.name}-random-")]
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
            "edit": _edit(part),
        }
        if controls:
            other = shared[controls].mean(axis=1).to_numpy()
            beyond = paired_difference(other, own)
            line |= {
                "control": other.mean(),
                "over_control": beyond.difference,
                "over_control_low": beyond.interval.low,
                "over_control_high": beyond.interval.high,
            }
        line["score"] = line.get("over_control", line["difference"])
        lines.append(line)
    table = pd.DataFrame(lines)
    if table.empty:
        return table
    table["p_holm"] = holm(table["p"].tolist())
    low = table["over_control_low"] if "over_control_low" in table else table["low"]
    table["real"] = (table["p_holm"] < LEVEL) & (table["difference"] > 0) & (low > 0)
    return table


def _edit(rows: pd.DataFrame) -> float:
    """Median ‖delta‖ / ‖h‖ over edited positions; NaN where nothing was edited."""
    sizes = np.concatenate([np.asarray(r, float) for r in rows["edit_ratio"]])
    return float(np.median(sizes[sizes > 0])) if (sizes > 0).any() else float("nan")
