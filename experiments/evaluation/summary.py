"""The summary of a run as a record: every arm by itself, against the baseline, beyond its controls, and on the gap to the reference.

1. An accuracy carries its n, interval, truncated and unscorable counts and tokens; unscorable is counted apart and is not right.
2. A comparison carries its interval, its test and its n; a steered arm's, the distribution of its controls.
3. Shares are in [0, 1] here; tables and sentences show per cent and points (`sentences`). `summarise` computes it.
"""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from ..statistics import Interval

COLUMNS = (
    *("arm", "split", "item", "seed", "gold", "correct", "scorable", "truncated", "trace_ok", "well_formed"),
    *("unclosed", "lenient", "spent", "finish", "token_ids", "edit_ratio", "edits_planned", "edits_fired", "labels"),
)
"""The columns that a summary is computed from."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Share(_Frozen):
    """A share of rows with its interval (Wilson; with several seeds per item, of the effective number of samples)."""

    value: float
    interval: Interval
    count: int
    n: int


class Behaviour(_Frozen):
    """How often a behaviour was labelled, and by which detectors."""

    spans: int
    per_100_tokens: float
    """Labels per 100 generated tokens."""
    low: float | None = None
    """Its 95 % interval over questions; None where there are too few, and in summaries from before there was one."""
    high: float | None = None
    share_of_rows: float
    """Share of rows with at least one."""
    detectors: list[str]


class Comparison(_Frozen):
    """An arm against the baseline, on the pairs that both hold."""

    difference: float
    interval: Interval
    method: str
    p: float
    test: str
    helped: int
    hurt: int
    n: int
    """Items compared."""
    paired_n: int
    """Pairs of (item, seed) compared."""
    missing: int
    """Pairs that one of the two arms holds and the other lacks."""
    token_difference: float
    """Mean difference in generated tokens per row."""
    detectable: float | None
    """Smallest difference that this n finds with 80 % power; None where even n pairs pointing one way are not
    significant."""


class Beyond(_Frozen):
    """A steered arm against the distribution of its controls (random directions of equal edit size, matched latents), each its own draw."""

    kind: str
    """`random directions`, `random vectors` or `matched latents`."""
    count: int
    n: int
    """Items that the arm and all of its controls (that have rows) hold."""
    absent: int
    """Controls without rows."""
    left_out: int
    """Items of the arm that a control lacks."""
    difference: float
    """Mean of the arm minus mean over all its controls."""
    interval: Interval
    """Over items and directions."""
    rank_p: float
    """One-sided: (1 + controls whose mean is at least the arm's)/(1 + count)."""
    as_good: int
    mean: float
    low: float
    """Smallest mean of a control."""
    high: float
    few: bool
    """Too few controls for the interval to be relied on."""
    edit: float | None
    """Mean ‖Δ‖/‖h‖ over the positions that the arm's plan covers."""
    control_edit: float | None
    matched: bool
    """Whether all edits are of the same measured size (`controls.sizes_match`)."""
    unmatched: str
    """What of the sizes is not equal, or was not measured."""

    @property
    def named(self) -> str:
        """How many controls of which kind: `20 random directions`."""
        one = self.kind if self.kind == "matched latents" else self.kind.removesuffix("s")
        return f"{self.count} {one if self.count == 1 or one.endswith('s') else one + 's'}"


class Gap(_Frozen):
    """Share of the gap from baseline to reference that the arm recovers, or the reason why it is not defined."""

    value: float | None
    interval: Interval | None
    reason: str | None
    n: int


class ArmSummary(_Frozen):
    """One arm on one split. Numbers are None where there is no row, or where the task has no such verifier."""

    name: str
    label: str
    role: str
    n: int
    """Rows."""
    items: int
    accuracy: Share | None
    trace_accuracy: Share | None
    well_formed_rate: float | None
    truncated: int
    truncated_rate: float | None
    unscorable: int
    unclosed: int
    """Rows that end inside their thinking segment: they have no answer, unless the grader is lenient."""
    lenient: int
    """Of those, rows whose answer inside the segment is right."""
    nonfinite: int = 0
    """Unscorable rows that ended because the model's numbers became NaN or infinite."""
    mean_tokens: float | None
    """Generated per row; where a decoder chose among several texts, all of them together."""
    median_tokens: float | None
    steered_fraction: float | None
    """Share of positions, prompt and generated, with an edit of non-zero size."""
    median_edit_ratio: float | None
    """Median of the change over the activation, in norms, over the edited positions."""
    edits_planned: int
    edits_fired: int
    behaviours: dict[str, Behaviour]
    versus_baseline: Comparison | None
    beyond: Beyond | None
    """Of steered arms that have controls of their own."""
    control_of: str | None
    """The steered arm that this is a control of."""
    gap: Gap | None


class SplitSummary(_Frozen):
    """All arms on one split, in the manifest's order. `items` is what the manifest asks for."""

    split: str
    items: int
    arms: list[ArmSummary]

    def arm(self, name: str) -> ArmSummary:
        """The arm of that name. Raises KeyError."""
        return {a.name: a for a in self.arms}[name]


class RunSummary(_Frozen):
    """All splits, in the manifest's order, and the level of every interval."""

    level: float
    statistics: Literal[2]
    """Version of the methods: a summary of another one is computed anew from the rows."""
    splits: list[SplitSummary]

    def split(self, name: str) -> SplitSummary:
        """The split of that name. Raises KeyError."""
        return {s.split: s for s in self.splits}[name]


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 6) + 0.0
    if isinstance(value, dict):
        return {key: _rounded(entry) for key, entry in value.items()}
    return [_rounded(entry) for entry in value] if isinstance(value, list) else value


def to_json(summary: RunSummary) -> str:
    """The summary as JSON text: sorted keys, floats to 6 places, and the bytes that `Run.write_summary` writes."""
    data = _rounded(summary.model_dump(mode="json"))
    return json.dumps(data, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def from_json(data: dict[str, Any]) -> RunSummary:
    """Inverse of `to_json` after `json.loads`, as `Run.summary` returns it."""
    return RunSummary.model_validate(data)
