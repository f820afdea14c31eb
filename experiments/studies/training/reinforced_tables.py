"""Tables and sentences of trained vectors: what a budget of numbers recovers of the gap, how reward rose, and which way the vectors point.

Several seeds of one training are averaged within a question; their range stands beside the mean, for an interval over questions does not
speak of other seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from steering.model.sites import Site
from steering.vector.vectors import SteeringVector

from ...statistics import Floats, GapRecovered, gap_recovered, paired_difference
from ..elicitation.asked import Setting
from ..elicitation.findings import Table
from ..elicitation.points import between, difference_said
from ..elicitation.workroom import Workroom
from .trained import Trained

BUDGET = "numbers trained, and the gap that they recover"
"""Behind the setting, the title of the table that holds what a training costs, in its last two columns."""
LAST = 3
"""Updates at the end that a reward is averaged over."""


class Training(Protocol):
    """What was trained by reward: how many numbers, and the curve by update."""

    @property
    def parameters(self) -> int: ...

    @property
    def curve(self) -> Sequence[Mapping[str, Any]]: ...

    @property
    def before(self) -> Sequence[Mapping[str, Any]]:
        """The curve of the training that it went on from."""


@dataclass(frozen=True, eq=False)
class Line:
    """An arm of one seed, in its group, and its training where it was trained by reward."""

    group: str
    label: str
    arm: str
    own: Training | None


def groups_of(lines: Sequence[Line]) -> dict[str, list[Line]]:
    """Lines by group, in order of appearance."""
    found: dict[str, list[Line]] = {}
    for line in lines:
        found.setdefault(line.group, []).append(line)
    return found


def together(right: Mapping[str, Floats], members: Sequence[Line]) -> Floats:
    """Verdicts of a group's seeds, `[items, seeds]`."""
    return np.stack([right[line.arm] for line in members], 1)


def as_often(right: Mapping[str, Floats], arm: str, values: Floats) -> Floats:
    """An arm's verdicts beside those of a group, `[items, seeds]`: the same for every seed."""
    return np.repeat(right[arm][:, None], values.shape[1], 1)


def gap_of(right: Mapping[str, Floats], values: Floats) -> GapRecovered | None:
    """The share of the gap from base to thinking model that is recovered; None without a thinking model."""
    if "thinking" not in right:
        return None
    return gap_recovered(as_often(right, "base", values), values, as_often(right, "thinking", values))


def gap_said(found: GapRecovered | None) -> str | None:
    """A share of the gap with its interval, in per cent."""
    if found is None:
        return None
    if found.value is None or found.interval is None:
        return "not defined"
    return f"{100 * found.value:.0f} % ({100 * found.interval.low:.0f} to {100 * found.interval.high:.0f})"


def budget_table(
    room: Workroom, setting: Setting, right: Mapping[str, Floats], lines: Sequence[Line], updates: int | None
) -> Table:
    shown: list[tuple[Any, ...]] = []
    for members in groups_of(lines).values():
        values = together(right, members)
        seeds = 100 * values.mean(0)
        moved = paired_difference(as_often(right, "base", values), values)
        owns = [line.own for line in members if line.own is not None]
        rewards = [[row["reward"] for row in own.curve] for own in owns if "reward" in own.curve[0]]
        shown.append(
            (
                members[0].label, owns[0].parameters if owns else None, len(members),
                f"{seeds.mean():.1f}" + (f" ({seeds.min():.1f} to {seeds.max():.1f})" if len(members) > 1 else ""),
                f"{100 * moved.difference:+.1f} ({between(moved.interval.low, moved.interval.high)})", gap_said(gap_of(right, values)),
                _rise(rewards),
                *(round(float(np.mean([cost(own, of) for own in owns]))) if owns else None for of in ("generated", "trained")),
            )
        )  # fmt: skip
    why = gap_of(right, right["base"][:, None])
    if why is not None:
        base, other = (
            {name: tuple(w.shape) for name, w in room.model(str(model)).model.named_parameters()}
            for model in (room.asked.base, room.asked.thinking)
        )
        count = sum(int(np.prod(shape)) for shape in other.values()) if other == base else None
        whole = "100 %" if why.defined else "not defined"
        label = "thinking model: all weights" if count else "thinking model"
        shown.append((label, count, 1, f"{100 * right['thinking'].mean():.1f}", None, whole, None, None, None))
    many = f"{updates} updates; the last reward is the mean of the last {LAST}. " if updates else ""
    undefined = () if why is None or why.defined else (f"Gap recovered: {why.reason}.",)
    return Table(
        title=f"{setting.name}: {BUDGET}",
        heads=(
            "what", "numbers trained", "seeds", "right %, mean (range over seeds)", "minus the base (95 %)",
            "gap recovered (95 %)", "reward in training, first to last", "tokens generated", "tokens trained on",
        ),
        lines=tuple(shown),
        notes=(
            f"n {len(right['base'])}; base {100 * right['base'].mean():.1f} %. {many}Intervals are over questions, with the seeds "
            "averaged; other seeds are not covered by them.",
            *undefined,
        ),
    )  # fmt: skip


def cost(own: Training, of: str) -> float:
    """Tokens generated, or trained on, in a training and in those that it went on from."""
    return float(sum(row[of] for row in (*own.before, *own.curve)))


def _rise(rewards: Sequence[Sequence[float]]) -> str | None:
    """From the first update's reward to the mean of the last; None where nothing was rewarded."""
    if not rewards:
        return None
    return f"{np.mean([own[0] for own in rewards]):.2f} to {np.mean([np.mean(own[-LAST:]) for own in rewards]):.2f}"


def curve_table(lines: Sequence[Line]) -> Table:
    """Reward by update, averaged over seeds."""
    lines = [line for line in lines if line.own is not None and "reward" in line.own.curve[0]]
    groups = groups_of(lines)
    length = max((len(line.own.curve) for line in lines if line.own is not None), default=0)
    shown = sorted({0, *range(length // 6, length, max(1, length // 6)), length - 1}) if length else []
    rows = []
    for update in shown:
        cells: list[str | None] = []
        for members in groups.values():
            values = [
                line.own.curve[update] for line in members if line.own is not None and update < len(line.own.curve)
            ]
            if not values:
                cells.append(None)
                continue
            mean = {
                name: float(np.mean([v[name] for v in values]))
                for name in ("reward", "tokens", "cut", "groups", "clipped")
            }
            cells.append(
                f"{mean['reward']:.2f}; {mean['tokens']:.0f}; {100 * mean['cut']:.0f}; {100 * (1 - mean['groups']):.0f}; "
                f"{100 * mean['clipped']:.0f}"
            )
        rows.append((update + 1, *cells))
    return Table(
        title="Reward; tokens; % of texts cut off; % of groups without differing rewards; % of ratios clipped, by update",
        heads=("update", *(members[0].label for members in groups.values())),
        lines=tuple(rows),
        notes=("Mean over seeds; texts are sampled at temperature 1 on training questions.",),
    )


def cosine_table(lines: Sequence[Line], chosen: SteeringVector, vectors: Mapping[str, Any], site: Site) -> Table:
    """Cosines at the site where one vector is trained: among the seeds of a training, and with the mean difference there."""
    named: dict[str, list[torch.Tensor]] = {}
    for line in lines:
        if isinstance(line.own, Trained):
            named.setdefault(line.label, []).extend(v.direction for v in line.own.vectors if v.site == site)
    others = {v.name: v.direction for v in vectors.values() if v.site == site and v.name.startswith("fitted")}
    for direction in others.values():
        named.setdefault("one vector, fitted to own right texts", []).append(direction)
    if chosen.site == site:
        named["mean difference"] = [chosen.direction]
    heads = list(named)
    rows = []
    for label, own in named.items():
        cells: list[str | None] = []
        for other in heads:
            pairs = [
                float(torch.cosine_similarity(a, b, 0))
                for n, a in enumerate(own)
                for m, b in enumerate(named[other])
                if other != label or n < m
            ]
            cells.append(f"{np.mean(pairs):+.2f} ({min(pairs):+.2f} to {max(pairs):+.2f})" if pairs else None)
        rows.append((label, *cells))
    width = len(chosen.direction)
    return Table(
        title=f"Cosines at {site}: mean (range) over seeds",
        heads=("", *heads),
        lines=tuple(rows),
        notes=(
            f"Two random directions of {width} numbers have a cosine of 0, with a standard deviation of {width**-0.5:.2f}.",
        ),
    )


def told(setting: Setting, right: Mapping[str, Floats], lines: Sequence[Line]) -> list[str]:
    """What each group recovers, and whether the trained vector is worth more than its controls."""
    groups, said = groups_of(lines), []
    for members in groups.values():
        values = together(right, members)
        moved = paired_difference(as_often(right, "base", values), values)
        gap = gap_said(gap_of(right, values))
        share = "" if gap is None else f"; gap recovered {gap}"
        said.append(
            f"{setting.name}: {members[0].label}: {difference_said(moved)} points against the base{share} (n {len(values)})."
        )
    if "vector" in groups:
        own = together(right, groups["vector"])
        for group in ("shuffled", "fitted", "elsewhere", "difference"):
            if group in groups:
                other = together(right, groups[group])
                if other.shape[1] == 1:
                    other = as_often(right, groups[group][0].arm, own)
                over = (
                    paired_difference(other, own)
                    if other.shape == own.shape
                    else paired_difference(other.mean(1), own.mean(1))
                )
                said.append(
                    f"{setting.name}: the trained vectors minus {groups[group][0].label}: {difference_said(over)} points."
                )
    return said
