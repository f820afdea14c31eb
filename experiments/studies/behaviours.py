"""Do behaviour directions move their behaviour? Paired rates of a labelled behaviour, beside random directions of equal edit size.

1. The rate of a row is the number of labelled spans per computed line, so that longer texts do not count as more behaviour.
2. Differences are paired by item against the unsteered arm, with bootstrap intervals over items.
3. A direction has its rank among the random ones, on the side of its own effect; their distribution has no sign, so that one set of them
   serves the direction added and subtracted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from rich.table import Table

from ..statistics import Interval, paired_difference, rank_p
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
    """Every arm named `<behaviour>_plus`, `_minus` or `<behaviour>_plus-random-<number>` against the baseline arm."""
    effects = []
    by_label: dict[str, dict[str, dict[tuple[str, int], float]]] = {}
    for arm in run.manifest.arms:
        label = arm.name.split("_")[0]
        if arm.role == "baseline":
            continue
        rates = by_label[label] if label in by_label else by_label.setdefault(label, row_rates(run, label))
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


def random_differences(effects: list[BehaviourEffect], label: str) -> list[float]:
    """Differences of the random directions of a behaviour."""
    return [e.difference for e in effects if e.label == label and "-random-" in e.arm]


def rank_of(effect: BehaviourEffect, drawn: list[float]) -> float:
    """One-sided p of a direction's effect among random ones, on the side that it has."""
    sign = -1 if effect.difference < 0 else 1
    return rank_p(sign * effect.difference, [sign * value for value in drawn])


def behaviour_table(run: Run) -> Table:
    """The effects as a table: the directions with their ranks, and their random directions in one line."""
    table = Table(title="Behaviour directions along sampled traces: labelled spans per 100 computed lines")
    for name in ("direction", "unsteered", "steered", "difference", "95 % interval", "rank p", "n"):
        table.add_column(name, justify="left" if name == "direction" else "right")
    effects = behaviour_effects(run)
    for effect in (e for e in effects if "-random-" not in e.arm):
        drawn = random_differences(effects, effect.label)
        table.add_row(
            effect.arm.replace("_", " "),
            f"{effect.unsteered:.1f}",
            f"{effect.rate:.1f}",
            f"{effect.difference:+.1f}",
            f"{effect.interval.low:+.1f} to {effect.interval.high:+.1f}",
            f"{rank_of(effect, drawn):.3f}" if drawn else "no random direction",
            str(effect.n),
        )
    for label in dict.fromkeys(e.label for e in effects):
        drawn = random_differences(effects, label)
        if drawn:
            extremes = f"{min(drawn):+.1f} to {max(drawn):+.1f}"
            table.add_row(
                f"{len(drawn)} random directions: mean, extremes", "", "", f"{np.mean(drawn):+.1f}", extremes, "", ""
            )
    return table
