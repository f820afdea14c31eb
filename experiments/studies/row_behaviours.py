"""What stored rows do beside being right or wrong: behaviours of their sentences and entropy of their tokens, paired by item and seed.

1. Labels are those that the rows hold (exact on the built-in task, else by the labeller that their task names), or are made anew from the
   stored texts by a labeller, which errs. Every line names who labelled.
2. A behaviour's share is that of a row's labelled sentences that carry it; a row without a sentence has none. Entropy is the mean over a
   row's tokens in nats of the model that wrote them; `uncertain` is the share of tokens above the 80th percentile of the baseline's tokens
   (Wang et al., arXiv 2506.01939: the fifth that forks).
3. Differences are against the baseline arm over the pairs that both have; pairs that either lacks are counted. An arm stands beside its
   own controls by the rank of its difference, on the side that it has.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from steering.errors import BadInput

from ..evaluation.controls import matched_controls
from ..evaluation.summarise import pair_grid
from ..statistics import Interval, paired_difference, rank_p
from ..store.runs import Run
from ..tasks.labellers import Labeller

FORKS = 0.8
LEAST = 8
"""Items with fewer than which differences of entropy have no interval."""
COLUMNS = ("arm", "split", "item", "seed", "text", "entropy", "labels")
Pair = tuple[str, int]
Values = dict[Pair, float]


@dataclass(frozen=True)
class Moved:
    """One measure of one arm beside the baseline's."""

    split: str
    arm: str
    measure: str
    """`entropy`, `uncertain`, or a behaviour."""
    by: str
    """Who labelled; `model` for entropies."""
    value: float | None
    """Mean over the pairs; shares in [0, 1], entropies in nats. None where no pair has a value on both sides."""
    baseline: float | None
    difference: float | None
    interval: Interval | None
    """Over items; None also for entropies of fewer than `LEAST` items, whose bootstrap would be too narrow."""
    pairs: int
    left_out: int
    """Pairs without a value on one of the sides."""
    controls: int
    """Control arms that it is ranked among."""
    rank_p: float | None
    """One-sided, on the side that the difference has; None without a control."""


def moved(run: Run, labeller: Labeller | None = None) -> list[Moved]:
    """Every arm but baseline and controls, by split and measure.

    `labeller` labels the stored texts anew; None takes the labels that are stored. Raises BadInput where none are.
    """
    found: list[Moved] = []
    own_controls = matched_controls(run.manifest)
    inner = {name for controls in own_controls.values() for name in controls.arms}
    baseline = run.manifest.baseline.name
    for split in run.manifest.splits:
        rows: dict[str, list[dict[str, Any]]] = {}
        for row in run.table(columns=list(COLUMNS), split=split).to_pylist():
            rows.setdefault(row["arm"], []).append(row)
        if not rows.get(baseline):
            continue
        measures = _measures(rows, rows[baseline], labeller)
        if not any(by != "model" for by, _ in measures.values()):
            raise BadInput(
                f"The rows of {run.folder.name} hold no labels; say who labels them: --by lexicon, or the file of a trained labeller."
            )
        for arm in run.manifest.arms:
            if arm.name == baseline or arm.name in inner or arm.name not in rows:
                continue
            crowd = [n for n in (own_controls[arm.name].arms if arm.name in own_controls else ()) if n in rows]
            for measure, (by, of) in measures.items():
                found.append(
                    _line(split, arm.name, measure, by, {n: of(rows[n]) for n in (baseline, arm.name, *crowd)})
                )
    return found


def _measures(
    rows: Mapping[str, Sequence[dict[str, Any]]], baseline: Sequence[dict[str, Any]], labeller: Labeller | None
) -> dict[str, tuple[str, Callable[[Sequence[dict[str, Any]]], Values]]]:
    """How each measure is taken of the rows of an arm, and by whom."""
    names: set[str] = set()
    by: set[str] = set()
    for row in (row for own in rows.values() for row in own):
        if labeller is None:
            said = [(span["label"], span["detector"]) for span in row["labels"] or []]
        else:
            said = [(span.label, span.detector) for span in labeller.label(row["text"])]
        row["said"] = Counter(label for label, _ in said)
        names |= set(row["said"])
        by |= {detector for _, detector in said}
    entropies = np.concatenate([np.asarray(row["entropy"], float) for row in baseline])
    finite = entropies[np.isfinite(entropies)]
    threshold = float(np.quantile(finite, FORKS)) if len(finite) else float("nan")

    def share(label: str) -> Callable[[Sequence[dict[str, Any]]], Values]:
        return lambda own: {
            (r["item"], r["seed"]): r["said"][label] / r["said"].total() for r in own if r["said"].total()
        }

    def entropy(of: Callable[[np.ndarray], float]) -> Callable[[Sequence[dict[str, Any]]], Values]:
        def take(own: Sequence[dict[str, Any]]) -> Values:
            held = {(r["item"], r["seed"]): np.asarray(r["entropy"], float) for r in own}
            return {pair: of(e) for pair, e in held.items() if len(e) and np.isfinite(e).all()}

        return take

    return {
        "entropy": ("model", entropy(lambda e: float(e.mean()))),
        "uncertain": ("model", entropy(lambda e: float((e > threshold).mean()))),
        **{name: (", ".join(sorted(by)), share(name)) for name in sorted(names)},
    }


def _line(split: str, arm: str, measure: str, by: str, values: Mapping[str, Values]) -> Moved:
    """An arm (the second of `values`) beside the baseline (the first), ranked among the others; without numbers where no pair has a value
    on both sides."""
    (_, before), (_, after), *crowd = values.items()
    pairs = sorted(before.keys() & after.keys())
    if not pairs:
        return Moved(split, arm, measure, by, None, None, None, None, 0, len(before.keys() | after.keys()), 0, None)
    a, b = pair_grid(before, pairs), pair_grid(after, pairs)
    found = paired_difference(a, b)
    drawn = [_difference(before, other) for _, other in crowd]
    known = [value for value in drawn if value is not None]
    sign = -1 if found.difference < 0 else 1
    shares = measure != "entropy"
    interval = found.interval if shares or found.n >= LEAST else None
    rank = rank_p(sign * found.difference, [sign * value for value in known]) if known else None
    return Moved(
        split, arm, measure, by, float(np.nanmean(np.nanmean(b, 1))), float(np.nanmean(np.nanmean(a, 1))), found.difference,
        interval, len(pairs), len(before.keys() ^ after.keys()), len(known), rank,
    )  # fmt: skip


def _difference(before: Values, after: Values) -> float | None:
    pairs = sorted(before.keys() & after.keys())
    if not pairs:
        return None
    return float(np.nanmean(np.nanmean(pair_grid(after, pairs) - pair_grid(before, pairs), 1)))
