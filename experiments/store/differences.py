"""Two runs compared: which settings differ, and how accuracy differs on the items that both answered.

1. Rows are joined on item ids, never on their order. An item under which the two runs hold different right answers is left out and counted.
2. An item with several seeds counts once, by its mean.
3. Every accuracy comes with n, interval, truncated and unscorable rows and tokens; every difference with its interval and test.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ..statistics import Interval, PairedDifference, paired_difference, wilson_clustered
from .manifest import near
from .runs import Run, StoreError

ABSENT = "(absent)"


@dataclass(frozen=True)
class Setting:
    """One place where two runs' settings differ."""

    place: str
    a: Any
    b: Any


@dataclass(frozen=True)
class Side:
    """One run's rows on the shared items."""

    accuracy: float
    interval: Interval
    """Wilson; with several seeds per item, of the effective number of samples."""
    items: int
    rows: int
    truncated: int
    unscorable: int
    tokens: float
    """Generated tokens per row."""


@dataclass(frozen=True)
class ArmDifference:
    """An arm of run A beside an arm of run B, on shared items."""

    split: str
    """As run A names it."""
    arm_a: str
    arm_b: str
    a: Side
    b: Side
    difference: PairedDifference
    """B minus A."""
    only_a: int
    """Items that only A answered; `only_b` likewise."""
    only_b: int
    other_question: int
    """Items left out: the same id, another right answer."""


def settings(a: Run, b: Run) -> list[Setting]:
    """Where spec and facts of two runs differ, in the order of A's."""
    left, right = (_flat({"spec": r.manifest.spec, "facts": r.manifest.facts}) for r in (a, b))
    places = list(dict.fromkeys([*left, *right]))
    return [
        Setting(place, left.get(place, ABSENT), right.get(place, ABSENT))
        for place in places
        if left.get(place, ABSENT) != right.get(place, ABSENT)
    ]


def _flat(value: Any, place: str = "") -> dict[str, Any]:
    """Leaves by dotted place. Entries of a list that have names are placed by name, so that their order does not matter."""
    if isinstance(value, Mapping) and value:
        pairs: Iterator[tuple[Any, Any]] = iter(value.items())
    elif isinstance(value, list) and value and all(isinstance(v, Mapping) and "name" in v for v in value):
        pairs = ((v["name"], v) for v in value)
    elif isinstance(value, list) and any(isinstance(v, Mapping | list) for v in value):
        pairs = iter(enumerate(value))
    else:
        return {place: value}
    found: dict[str, Any] = {}
    for key, inner in pairs:
        found |= _flat(inner, f"{place}.{key}" if place else str(key))
    return found


def arm_pairs(a: Run, b: Run, asked: Sequence[tuple[str, str]] = ()) -> list[tuple[str, str]]:
    """The arms to compare: those asked for, else those that both runs have by name. Raises StoreError for an unknown arm."""
    names = [[arm.name for arm in run.manifest.arms] for run in (a, b)]
    for pair in asked:
        for run, name, valid in zip((a, b), pair, names, strict=True):
            if name not in valid:
                raise StoreError(f"Run {run.manifest.run_id!r} has no arm {name!r}.{near(name, valid)}")
    return list(asked) or [(name, name) for name in names[0] if name in names[1]]


def accuracy_differences(a: Run, b: Run, arms: Sequence[tuple[str, str]] = ()) -> list[ArmDifference]:
    """Paired differences in accuracy, B minus A, per split of A and pair of arms; pairs without a shared item are left out.

    Raises StoreError as `arm_pairs`.
    """
    columns = ["arm", "split", "item", "seed", "gold", "correct", "scorable", "truncated", "tokens"]
    left, right = (run.index().read(columns).to_pandas() for run in (a, b))
    found = []
    for arm_a, arm_b in arm_pairs(a, b, arms):
        theirs = right[right["arm"] == arm_b]
        for split in a.manifest.splits:
            ours = left[(left["arm"] == arm_a) & (left["split"] == split)]
            one = _one_difference(split, arm_a, arm_b, ours, theirs)
            if one is not None:
                found.append(one)
    return found


def _one_difference(
    split: str, arm_a: str, arm_b: str, ours: pd.DataFrame, theirs: pd.DataFrame
) -> ArmDifference | None:
    gold = [rows.groupby("item")["gold"].first() for rows in (ours, theirs)]
    shared = gold[0].index.intersection(gold[1].index)
    same = gold[0][shared] == gold[1][shared]
    items = sorted(shared[same])
    if not items:
        return None
    here, there = (rows[rows["item"].isin(items)] for rows in (ours, theirs))
    values = [rows.groupby("item")["correct"].mean().reindex(items).to_numpy(float) for rows in (here, there)]
    splits = set(theirs[theirs["item"].isin(shared)]["split"])
    beside = theirs[theirs["split"].isin(splits | {split})]["item"].nunique()
    return ArmDifference(
        split,
        arm_a,
        arm_b,
        _side(here),
        _side(there),
        paired_difference(values[0], values[1]),
        only_a=len(gold[0]) - len(shared),
        only_b=beside - len(shared),
        other_question=int((~same).sum()),
    )


def _side(rows: pd.DataFrame) -> Side:
    items = rows.groupby("item")["correct"]
    return Side(
        float(rows["correct"].mean()),
        wilson_clustered(items.sum().to_numpy(float), items.count().to_numpy(float)),
        items.ngroups,
        len(rows),
        int(rows["truncated"].sum()),
        int((~rows["scorable"]).sum()),
        float(rows["tokens"].mean()),
    )
