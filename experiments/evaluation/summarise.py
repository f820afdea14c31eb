"""The summary of a run computed from its rows.

1. Equal rows give equal summaries, and equal bytes from `summary.to_json`.
2. Arms are compared pair by pair, by (item, seed). Pairs that one side lacks are left out and counted; arms without a
   common item, or with different questions under one item id, are refused.
3. A steered arm stands beside the distribution of its controls (`controls`), and the measured sizes of both edits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..statistics import (
    Interval,
    against_directions,
    gap_recovered,
    minimum_detectable_difference,
    paired_difference,
    rate_clustered,
    wilson,
    wilson_clustered,
)
from ..store.runs import Arm, Manifest, Run, StoreError
from .controls import Controls, matched_controls, mean_size, sizes_match
from .summary import COLUMNS, ArmSummary, Behaviour, Beyond, Comparison, Gap, RunSummary, Share, SplitSummary, from_json

POWER = 0.8

Pair = tuple[str, int]
"""(item, seed)"""


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
        written = pc.list_value_length(table["token_ids"])
        self.written = int(pc.sum(written, min_count=0).as_py())
        """Tokens of the texts that are kept."""
        self.tokens = dict(zip(self.pairs, pc.coalesce(table["spent"], written).to_pylist(), strict=True))
        """Tokens generated, those of texts that a decoder did not choose included."""


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
        controls = matched_controls(manifest)
        labels = sorted(pc.unique(pc.struct_field(pc.list_flatten(part["labels"]), "label")).to_pylist())
        arms = [_arm(each, rows, baseline, reference, controls, labels, level) for each in rows.values()]
        splits.append(SplitSummary(split=split, items=items, arms=arms))
    return RunSummary(level=level, statistics=2, splits=splits)


def stored_summary(run: Run) -> RunSummary | None:
    """The summary stored with a complete run, where it is by this version's methods; None otherwise."""
    try:
        data = run.summary() if run.manifest.status == "complete" else None
        return None if data is None else from_json(data)
    except (StoreError, ValueError):
        return None


def summary_of(run: Run) -> RunSummary:
    """The stored summary where it is current, else one computed from the rows."""
    return stored_summary(run) or summarise(run.table(COLUMNS), run.manifest)


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


def _arm(
    rows: _Rows,
    every: Mapping[str, _Rows],
    baseline: _Rows,
    reference: _Rows | None,
    controls: Mapping[str, Controls],
    labels: list[str],
    level: float,
) -> ArmSummary:
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
        nonfinite=int(pc.sum(pc.equal(table["finish"], "nonfinite"), min_count=0).as_py()),
        mean_tokens=float(tokens.mean()) if n else None,
        median_tokens=float(np.median(tokens)) if n else None,
        steered_fraction=len(edited) / len(ratios) if len(ratios) else None,
        median_edit_ratio=float(np.median(edited)) if len(edited) else None,
        edits_planned=int(pc.sum(table["edits_planned"], min_count=0).as_py()),
        edits_fired=int(pc.sum(table["edits_fired"], min_count=0).as_py()),
        behaviours=_behaviours(rows, labels, float(rows.written), level),
        versus_baseline=_compare(rows, baseline, level) if treated else None,
        control_of=next((arm for arm, own in controls.items() if rows.arm.name in own.arms), None),
        beyond=_beyond(rows, every, controls[rows.arm.name], level) if rows.arm.name in controls else None,
        gap=_gap(rows, baseline, reference, level) if treated and reference and rows is not reference else None,
    )


def _true(table: pa.Table, column: str) -> int:
    """Rows where a boolean column holds; null does not."""
    return int(pc.sum(table[column], min_count=0).as_py())


def _by_item(rows: _Rows, values: Sequence[float]) -> dict[str, float]:
    """Sums over the seeds of each item."""
    found: dict[str, float] = {}
    for (item, _), value in zip(rows.pairs, values, strict=True):
        found[item] = found.get(item, 0.0) + value
    return found


def _behaviours(rows: _Rows, labels: list[str], tokens: float, level: float) -> dict[str, Behaviour]:
    """Every label that any arm of the split has; zero where this arm has none."""
    if not rows.pairs:
        return {}
    held = rows.table["labels"].to_pylist()
    spans = Counter(span["label"] for row in held for span in row)
    with_one = Counter(label for row in held for label in {span["label"] for span in row})
    detectors: dict[str, set[str]] = {}
    for span in (span for row in held for span in row):
        detectors.setdefault(span["label"], set()).add(span["detector"])
    lengths = _by_item(rows, pc.list_value_length(rows.table["token_ids"]).to_pylist())
    intervals: dict[str, Interval | None] = dict.fromkeys(labels)
    if all(length > 0 for length in lengths.values()):
        for label in labels:
            counts = _by_item(rows, [float(sum(s["label"] == label for s in row)) for row in held])
            intervals[label] = rate_clustered(list(counts.values()), list(lengths.values()), level)[1]
    return {
        label: Behaviour(
            low=None if (found := intervals[label]) is None else 100 * found.low,
            high=None if found is None else 100 * found.high,
            spans=spans[label],
            per_100_tokens=100 * spans[label] / tokens if tokens else 0.0,
            share_of_rows=with_one[label] / len(held),
            detectors=sorted(detectors.get(label, ())),
        )
        for label in labels
    }


def pair_grid(values: dict[Pair, float], pairs: list[Pair]) -> np.ndarray:
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
    a, b = pair_grid(baseline.correct, pairs), pair_grid(rows.correct, pairs)
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


def _beyond(rows: _Rows, every: Mapping[str, _Rows], controls: Controls, level: float) -> Beyond | None:
    """The arm against its controls, over the pairs that all of those hold which have any rows; None where there is no such pair."""
    others = [every[name] for name in controls.arms if every[name].pairs]
    if not others:
        return None
    pairs = [pair for pair in rows.pairs if all(pair in other.correct for other in others)]
    if not pairs:
        return None
    found = against_directions(
        pair_grid(rows.correct, pairs),
        np.stack([pair_grid(other.correct, pairs) for other in others]),
        level=level,
    )
    sizes = sizes_match(_edit_size(rows), [_edit_size(other) for other in others], rows.arm.plan)
    return Beyond(
        kind=controls.kind,
        count=found.directions,
        n=found.n,
        difference=found.difference,
        interval=found.interval,
        rank_p=found.rank_p,
        as_good=found.as_good,
        mean=float(np.mean(found.means)),
        low=found.means[0],
        high=found.means[-1],
        few=found.few,
        absent=len(controls.arms) - len(others),
        left_out=len(rows.gold) - found.n,
        edit=sizes.own,
        control_edit=sizes.theirs,
        matched=sizes.matched,
        unmatched=sizes.why,
    )


def _edit_size(rows: _Rows) -> float | None:
    """Mean ‖Δ‖/‖h‖ over the positions that the plan covers; None where it covers none."""
    planned = int(pc.sum(rows.table["edits_planned"], min_count=0).as_py())
    total = float(pc.sum(pc.list_flatten(rows.table["edit_ratio"]), min_count=0).as_py())
    return mean_size(total, planned, rows.arm.plan)


def _gap(rows: _Rows, baseline: _Rows, reference: _Rows, level: float) -> Gap:
    pairs = [pair for pair in baseline.pairs if pair in rows.correct and pair in reference.correct]
    if not pairs:
        return Gap(value=None, interval=None, reason="baseline, arm and reference hold no pair in common", n=0)
    found = gap_recovered(*(pair_grid(r.correct, pairs) for r in (baseline, rows, reference)), level=level)
    return Gap(value=found.value, interval=found.interval, reason=found.reason, n=found.n)
