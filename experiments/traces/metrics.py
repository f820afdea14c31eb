"""Per-token numbers that tint a trace.

1. `values` has one entry per position of prompt and generated tokens; None where the metric says nothing about a
   position. Log-probability and entropy are the model's for generated tokens only; edit size covers the prompt too.
   KL is that of a forced reading of the row's own text (`forced_kl`), where one is stored; the row then has a list `kl`.
2. A scale is shared by all lanes that are shown together, starts at zero and is clipped at the 99th percentile, and
   its legend says so; one outlier does not wash out the rest.
3. A missing, short or non-finite list gives None, never an error and never a zero.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Metric:
    """What a tint shows. `column` is the stored column; the tint grows with `sign` times its value."""

    label: str
    column: str | None
    sign: int
    unit: str
    meaning: str


METRICS: dict[str, Metric] = {
    "logprob": Metric("log-probability", "logprob", -1, "nats", "stronger: the model found this token less likely"),
    "entropy": Metric("entropy", "entropy", 1, "nats", "stronger: the model was less certain of the next token"),
    "edit": Metric("edit size", "edit_ratio", 1, "‖Δ‖/‖h‖", "stronger: the edit was larger next to the activation"),
    "kl": Metric(
        "KL along the steered trace",
        "kl",
        1,
        "nats",
        "stronger: with the plan, the same text read token by token is predicted more differently",
    ),
    "none": Metric("no tint", None, 1, "", ""),
}


def number(value: object) -> float | None:
    """`value` as a finite float, else None."""
    if isinstance(value, int | float) and math.isfinite(value):
        return float(value)
    return None


def at(values: Sequence[Any] | None, index: int) -> float | None:
    """`values[index]` as a finite float; None outside the list."""
    return number(values[index]) if values is not None and 0 <= index < len(values) else None


def values(row: Mapping[str, Any], metric: str) -> list[float | None]:
    """The metric at every position of prompt and generated tokens."""
    prompt, generated = len(row["prompt_ids"]), len(row["token_ids"])
    column = METRICS[metric].column
    if column is None:
        return [None] * (prompt + generated)
    stored = row.get(column)
    if column == "edit_ratio":
        return [at(stored, index) for index in range(prompt + generated)]
    return [None] * prompt + [at(stored, index) for index in range(generated)]


@dataclass(frozen=True)
class Scale:
    """The common scale of the lanes: tint 0 at zero, tint 1 at `top` (in the metric's own direction) and beyond."""

    metric: str
    top: float

    def tint(self, value: float | None) -> float | None:
        """Strength of the tint between 0 and 1, or None where there is no value."""
        if value is None or self.metric == "none":
            return None
        return 0.0 if self.top <= 0 else min(max(METRICS[self.metric].sign * value / self.top, 0.0), 1.0)

    def legend(self) -> dict[str, str]:
        """The words of the scale's legend."""
        metric = METRICS[self.metric]
        low, top = 0.0, metric.sign * self.top
        clip = "; clipped at the 99th percentile" if self.top > 0 else "; zero at every position"
        return {
            "label": metric.label,
            "low": f"{low:g}",
            "high": f"{top:.3g} {metric.unit}" if self.top > 0 else f"0 {metric.unit}",
            "meaning": metric.meaning + clip,
        }


def common_scale(rows: Sequence[Mapping[str, Any]], metric: str) -> Scale:
    """One scale for all `rows`. Its percentile is among the values above zero: one edit in a long text still shows."""
    sign = METRICS[metric].sign
    every = (sign * value for row in rows for value in values(row, metric) if value is not None)
    found = sorted(value for value in every if value > 0)
    return Scale(metric, found[math.ceil(0.99 * len(found)) - 1] if found else 0.0)
