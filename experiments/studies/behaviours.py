"""Do behaviour directions move their behaviour? Paired rates of a labelled behaviour, with its random-direction control.

1. The rate of a row is the number of labelled spans per computed line, so that longer texts do not count as more behaviour.
2. Differences are paired by item against the unsteered arm, with bootstrap intervals over items.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from rich.table import Table

from ..statistics import Interval, paired_difference
from ..store.runs import Run


@dataclass(frozen=True)
class BehaviourEffect:
    """One arm's rate of a behaviour and its difference to the unsteered arm, in spans per 100 computed lines."""

    arm: str
    label: str
    rate: float
    unsteered: float
    difference: float
    interval: Interval
    n: int


def row_rates(run: Run, label: str) -> dict[str, dict[tuple[str, int], float]]:
    """Spans of `label` per 100 computed lines, by arm and (item, seed)."""
    rates: dict[str, dict[tuple[str, int], float]] = {}
    for row in run.table(columns=["arm", "item", "seed", "labels"]).to_pylist():
        found = [span["label"] for span in row["labels"]]
        lines = found.count("computing")
        rates.setdefault(row["arm"], {})[row["item"], row["seed"]] = 100 * found.count(label) / lines if lines else 0.0
    return rates


def behaviour_effects(run: Run) -> list[BehaviourEffect]:
    """Every arm named `<behaviour>_plus`, `_minus`, `_plus_random` or `_minus_random` against the baseline arm."""
    effects = []
    for arm in run.manifest.arms:
        label = arm.name.split("_")[0]
        if arm.role == "baseline":
            continue
        rates = row_rates(run, label)
        base, steered = rates[run.manifest.baseline.name], rates[arm.name]
        pairs = sorted(base.keys() & steered.keys())
        before, after = np.array([base[p] for p in pairs]), np.array([steered[p] for p in pairs])
        found = paired_difference(before, after)
        effects.append(
            BehaviourEffect(
                arm.name, label, float(after.mean()), float(before.mean()), found.difference, found.interval, len(pairs)
            )
        )
    return effects


def behaviour_table(run: Run) -> Table:
    """The effects as a table."""
    table = Table(title="Behaviour directions along sampled traces: labelled spans per 100 computed lines")
    for name in ("direction", "unsteered", "steered", "difference", "95 % interval", "n"):
        table.add_column(name, justify="left" if name == "direction" else "right")
    for effect in behaviour_effects(run):
        table.add_row(
            effect.arm.replace("_", " "),
            f"{effect.unsteered:.1f}",
            f"{effect.rate:.1f}",
            f"{effect.difference:+.1f}",
            f"{effect.interval.low:+.1f} to {effect.interval.high:+.1f}",
            str(effect.n),
        )
    return table
