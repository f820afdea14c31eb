"""The summary of a run: every arm by itself, against the baseline, and on the gap to the reference.

1. Computed from rows alone: equal rows give equal summaries, and equal bytes from `to_json`.
2. An accuracy carries its n, interval, truncated and unscorable counts and tokens; unscorable is counted apart and
   is not right.
3. Arms are compared pair by pair, by (item, seed). Pairs that one side lacks are left out and counted; arms without a
   common item, or with different questions under one item id, are refused.
4. A comparison carries its interval, its test and its n. Where the interval holds 0, the sentence says that nothing was
   detected and how large a difference would be found.
5. Shares are in [0, 1] here; tables and sentences show per cent and points.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from .statistics import (
    Interval,
    gap_recovered,
    minimum_detectable_difference,
    paired_difference,
    wilson,
    wilson_clustered,
)
from .store import Arm, Manifest

COLUMNS = (
    *("arm", "split", "item", "seed", "gold", "correct", "scorable", "truncated", "trace_ok", "well_formed"),
    *("unclosed", "lenient", "token_ids", "edit_ratio", "edits_planned", "edits_fired", "labels"),
)
"""The columns that a summary is computed from."""
FEW = 30
"""Below this many items a comparison is called exploratory."""
POWER = 0.8

Pair = tuple[str, int]
"""(item, seed)"""


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
    unclosed: int = 0
    """Rows that end inside their thinking segment: they have no answer, unless the grader is lenient."""
    lenient: int = 0
    """Of those, rows whose answer inside the segment is right."""
    mean_tokens: float | None
    median_tokens: float | None
    steered_fraction: float | None
    """Share of positions, prompt and generated, with an edit of non-zero size."""
    median_edit_ratio: float | None
    """Median of the change over the activation, in norms, over the edited positions."""
    edits_planned: int
    edits_fired: int
    behaviours: dict[str, Behaviour]
    versus_baseline: Comparison | None
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
    splits: list[SplitSummary]

    def split(self, name: str) -> SplitSummary:
        """The split of that name. Raises KeyError."""
        return {s.split: s for s in self.splits}[name]


class _Rows:
    """One arm on one split, by pair."""

    def __init__(self, table: pa.Table, arm: Arm):
        self.arm, self.table = arm, table
        self.pairs: list[Pair] = list(zip(table["item"].to_pylist(), table["seed"].to_pylist(), strict=True))
        twice = [pair for pair, count in Counter(self.pairs).items() if count > 1]
        if twice:
            raise ValueError(f"Arm {arm.name!r} holds item {twice[0][0]!r} with seed {twice[0][1]} more than once.")
        self.gold: dict[str, str] = dict(zip(table["item"].to_pylist(), table["gold"].to_pylist(), strict=True))
        self.correct = dict(zip(self.pairs, map(float, table["correct"].to_pylist()), strict=True))
        self.tokens = dict(zip(self.pairs, pc.list_value_length(table["token_ids"]).to_pylist(), strict=True))


def summarise(table: pa.Table, manifest: Manifest, level: float = 0.95) -> RunSummary:
    """The summary of the rows of a run, a table with `COLUMNS` (see `Run.table`).

    Raises ValueError for a column that is missing, for arms that do not hold the same items, and for a pair held twice.
    """
    lacking = [name for name in COLUMNS if name not in table.column_names]
    if lacking:
        raise ValueError(f"The table lacks the column {', '.join(lacking)}; read it with Run.table(columns=COLUMNS).")
    splits = []
    for split, items in manifest.splits.items():
        part = table.filter(pc.equal(table["split"], split))
        rows = {arm.name: _Rows(part.filter(pc.equal(part["arm"], arm.name)), arm) for arm in manifest.arms}
        baseline = rows[manifest.baseline.name]
        reference = rows[manifest.reference.name] if manifest.reference else None
        for other in rows.values():
            _check_same_items(split, baseline, other)
        labels = sorted(pc.unique(pc.struct_field(pc.list_flatten(part["labels"]), "label")).to_pylist())
        arms = [_arm(each, baseline, reference, labels, level) for each in rows.values()]
        splits.append(SplitSummary(split=split, items=items, arms=arms))
    return RunSummary(level=level, splits=splits)


def _check_same_items(split: str, baseline: _Rows, other: _Rows) -> None:
    if not (baseline.gold and other.gold):
        return
    common = baseline.gold.keys() & other.gold.keys()
    names = f"Arms {baseline.arm.name!r} and {other.arm.name!r} of split {split!r}"
    if not common:
        sizes = f"{len(baseline.gold)} and {len(other.gold)}"
        raise ValueError(f"{names} hold no item in common (of {sizes}): they cannot be paired. Run both on the same.")
    for item in sorted(common):
        if baseline.gold[item] != other.gold[item]:
            raise ValueError(
                f"{names} hold different questions under item {item!r}: the answers are {baseline.gold[item]!r} and "
                f"{other.gold[item]!r}. Give every question its own item id."
            )


def _share(rows: _Rows, column: str, level: float) -> Share | None:
    """Share of rows where a boolean column holds, among those where it is not null."""
    held: dict[str, list[bool]] = {}
    for (item, _), value in zip(rows.pairs, rows.table[column].to_pylist(), strict=True):
        if value is not None:
            held.setdefault(item, []).append(value)
    if not held:
        return None
    successes, counts = [sum(v) for v in held.values()], [len(v) for v in held.values()]
    k, n = sum(successes), sum(counts)
    interval = wilson(k, n, level) if n == len(held) else wilson_clustered(successes, counts, level)
    return Share(value=k / n, interval=interval, count=k, n=n)


def _arm(rows: _Rows, baseline: _Rows, reference: _Rows | None, labels: list[str], level: float) -> ArmSummary:
    table, n = rows.table, len(rows.pairs)
    tokens = np.array(list(rows.tokens.values()), dtype=float)
    ratios = pc.list_flatten(table["edit_ratio"]).to_numpy()
    edited = ratios[ratios > 0]
    formed = _share(rows, "well_formed", level)
    truncated = int(pc.sum(table["truncated"], min_count=0).as_py())
    treated = rows is not baseline and n > 0 and len(baseline.pairs) > 0
    return ArmSummary(
        name=rows.arm.name,
        label=rows.arm.label,
        role=rows.arm.role,
        n=n,
        items=len(rows.gold),
        accuracy=_share(rows, "correct", level),
        trace_accuracy=_share(rows, "trace_ok", level),
        well_formed_rate=formed.value if formed else None,
        truncated=truncated,
        truncated_rate=truncated / n if n else None,
        unscorable=n - int(pc.sum(table["scorable"], min_count=0).as_py()),
        unclosed=_true(table, "unclosed"),
        lenient=_true(table, "lenient"),
        mean_tokens=float(tokens.mean()) if n else None,
        median_tokens=float(np.median(tokens)) if n else None,
        steered_fraction=len(edited) / len(ratios) if len(ratios) else None,
        median_edit_ratio=float(np.median(edited)) if len(edited) else None,
        edits_planned=int(pc.sum(table["edits_planned"], min_count=0).as_py()),
        edits_fired=int(pc.sum(table["edits_fired"], min_count=0).as_py()),
        behaviours=_behaviours(rows, labels, float(tokens.sum())),
        versus_baseline=_compare(rows, baseline, level) if treated else None,
        gap=_gap(rows, baseline, reference, level) if treated and reference and rows is not reference else None,
    )


def _true(table: pa.Table, column: str) -> int:
    """Rows where a boolean column holds; null does not."""
    return int(pc.sum(table[column], min_count=0).as_py())


def _behaviours(rows: _Rows, labels: list[str], tokens: float) -> dict[str, Behaviour]:
    """Every label that any arm of the split has; zero where this arm has none."""
    if not rows.pairs:
        return {}
    held = rows.table["labels"].to_pylist()
    spans = Counter(span["label"] for row in held for span in row)
    with_one = Counter(label for row in held for label in {span["label"] for span in row})
    detectors: dict[str, set[str]] = {}
    for span in (span for row in held for span in row):
        detectors.setdefault(span["label"], set()).add(span["detector"])
    return {
        label: Behaviour(
            spans=spans[label],
            per_100_tokens=100 * spans[label] / tokens if tokens else 0.0,
            share_of_rows=with_one[label] / len(held),
            detectors=sorted(detectors.get(label, ())),
        )
        for label in labels
    }


def _grid(values: dict[Pair, float], pairs: list[Pair]) -> np.ndarray:
    """Values of the pairs as `[items, seeds]`, items and seeds sorted; NaN where there is no such pair."""
    items, seeds = sorted({item for item, _ in pairs}), sorted({seed for _, seed in pairs})
    row, column = {item: i for i, item in enumerate(items)}, {seed: j for j, seed in enumerate(seeds)}
    grid = np.full((len(items), len(seeds)), np.nan)
    for pair in pairs:
        grid[row[pair[0]], column[pair[1]]] = values[pair]
    return grid


def _compare(rows: _Rows, baseline: _Rows, level: float) -> Comparison | None:
    pairs = [pair for pair in baseline.pairs if pair in rows.correct]
    if not pairs:
        return None
    a, b = _grid(baseline.correct, pairs), _grid(rows.correct, pairs)
    found = paired_difference(a, b, level=level)
    return Comparison(
        difference=found.difference,
        interval=found.interval,
        method=found.method,
        p=found.p,
        test=found.test,
        helped=found.helped,
        hurt=found.hurt,
        n=found.n,
        paired_n=len(pairs),
        missing=len(set(baseline.pairs) ^ set(rows.pairs)),
        token_difference=float(np.mean([rows.tokens[pair] - baseline.tokens[pair] for pair in pairs])),
        detectable=minimum_detectable_difference(found.n, found.mean_square, POWER, 1 - level),
    )


def _gap(rows: _Rows, baseline: _Rows, reference: _Rows, level: float) -> Gap:
    pairs = [pair for pair in baseline.pairs if pair in rows.correct and pair in reference.correct]
    if not pairs:
        return Gap(value=None, interval=None, reason="baseline, arm and reference hold no pair in common", n=0)
    found = gap_recovered(*(_grid(r.correct, pairs) for r in (baseline, rows, reference)), level=level)
    return Gap(value=found.value, interval=found.interval, reason=found.reason, n=found.n)


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


def _points(value: float) -> str:
    return f"{round(100 * value, 1) + 0.0:+.1f}"


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}" if value < 0.1 else f"p = {value:.2f}"


def _items(found: Comparison) -> str:
    return f"n = {found.n}" if found.paired_n == found.n else f"n = {found.n} items, {found.paired_n} pairs"


def sentence(arm: ArmSummary) -> str:
    """What the arm shows, in English. The baseline, and an arm without pairs, is described by itself."""
    if arm.accuracy is None:
        return f"{arm.label}: no rows yet."
    if arm.versus_baseline is None:
        share = arm.accuracy
        return (
            f"{100 * share.value:.1f} % right ({100 * share.interval.level:g} % CI {100 * share.interval.low:.1f} to "
            f"{100 * share.interval.high:.1f}), n = {share.n}; {arm.truncated} truncated, {arm.unscorable} unscorable; "
            f"{arm.mean_tokens:.0f} tokens on average."
            + (f" {unclosed_said(arm).capitalize()}." if arm.unclosed else "")
        )
    found = arm.versus_baseline
    interval = f"{100 * found.interval.level:g} % CI {_points(found.interval.low)} to {_points(found.interval.high)}"
    counts = f"{found.helped} helped, {found.hurt} hurt, {_items(found)}, {_p(found.p)}"
    tokens = f"tokens {round(found.token_difference):+d}."
    if 0 in found.interval or found.p >= 1 - found.interval.level:
        if found.detectable is None:
            power = "this n is too small to find any difference"
        else:
            points = f"{100 * found.detectable:.0f}" if found.detectable >= 0.0995 else f"{100 * found.detectable:.1f}"
            power = f"with this n, differences of about {points} points would be found with {100 * POWER:g} % power"
        text = f"No detectable difference ({_points(found.difference)} points, {interval}, {counts}); {power}; {tokens}"
    else:
        text = f"{_points(found.difference)} points ({interval}), {counts}; {tokens}"
    if found.missing:
        text += f" {found.missing} pairs are missing on one side and left out."
    if found.n < FEW:
        text += f" Exploratory: fewer than {FEW} items."
    return text


def render_table(summary: RunSummary, split: str) -> Table:
    """One split as a table for the terminal, readable from 80 columns on; what is undefined, left out or not yet
    there is said below it. Raises KeyError for a split that the summary does not have."""
    part = summary.split(split)
    table = Table(title=Text(f"{part.split}: {part.items} items"), title_justify="left", caption_justify="left")
    table.box, table.padding, table.show_edge = SIMPLE_HEAD, 0, False
    table.add_column("arm", min_width=10)
    for name in ("n", "right\n%", "trace\n%", "cut/no\nanswer", "tokens", "vs baseline\npoints"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("helped\n/hurt", "gap re-\ncovered %"):
        table.add_column(name, justify="right", no_wrap=True)
    notes = [f"Intervals: {100 * summary.level:g} %."]
    for arm in part.arms:
        found, gap = arm.versus_baseline, arm.gap
        table.add_row(
            Text(arm.label),
            str(arm.n),
            _cell(arm.accuracy.value, arm.accuracy.interval, ".0f") if arm.accuracy else "-",
            f"{100 * arm.trace_accuracy.value:.1f}" if arm.trace_accuracy else "-",
            f"{arm.truncated}/{arm.unscorable}",
            "-" if arm.mean_tokens is None else f"{arm.mean_tokens:.0f}",
            _cell(found.difference, found.interval, "+.1f") if found else "-",
            f"{found.helped}/{found.hurt}\n{_p(found.p).replace(' ', '')}" if found else "-",
            _gap_cell(gap) if gap else "-",
        )
        notes += _notes(arm, part.items)
    if any(a.versus_baseline and a.versus_baseline.n < FEW for a in part.arms):
        notes.append(f"Exploratory: fewer than {FEW} items.")
    table.caption = Text("\n".join(notes))
    return table


def _cell(value: float, interval: Interval, form: str) -> str:
    """A share or difference in per cent, its interval on a second line; `form` is the format of the bounds."""
    low, high = (format(round(100 * bound, 1) + 0.0, form) for bound in (interval.low, interval.high))
    return f"{format(round(100 * value, 1) + 0.0, '+.1f' if '+' in form else '.1f')}\n{low} to {high}"


def _gap_cell(gap: Gap) -> str:
    return "not\ndefined" if gap.value is None or gap.interval is None else _cell(gap.value, gap.interval, ".0f")


def unclosed_said(arm: ArmSummary) -> str:
    """How many rows end inside their thinking segment, and what reading them leniently gives."""
    rows = "1 row ends" if arm.unclosed == 1 else f"{arm.unclosed} rows end"
    return f"{rows} inside the thinking segment; {arm.lenient} of them hold the right answer there"


def _notes(arm: ArmSummary, items: int) -> list[str]:
    found, gap, notes = arm.versus_baseline, arm.gap, []
    if arm.unclosed:
        notes.append(f"{arm.label}: {unclosed_said(arm)}.")
    if arm.items < items:
        notes.append(f"{arm.label}: {arm.items} of {items} items so far.")
    if found and found.missing:
        notes.append(f"{arm.label}: {found.paired_n} pairs compared, {found.missing} missing on one side.")
    if gap and gap.reason:
        notes.append(f"{arm.label}: the gap recovered is not defined: {gap.reason}.")
    return notes
