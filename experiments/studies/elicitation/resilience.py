"""Resilience (2510.27484): of continuations that write a step anew and say something else there, how many say later what was removed.

One removal per continuation: the paper removes what comes back again and counts how often; here a share of one removal is read, which needs
no other texts than those of the measure of resampling.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...statistics import wilson_clustered
from .asked import Setting
from .findings import Line, Table
from .steps import Trace

Drawn = Mapping[str, Sequence[Sequence[Any]]]
"""The continuations of a trace's prefixes (`steps.resampled`)."""
Counts = dict[str, dict[str, list[int]]]
"""By kind of step and problem: how many say the removed step later, of how many that say something else in its place."""
EVERY = "every step"


def counted(traces: Sequence[tuple[Trace, Drawn]]) -> tuple[Counts, dict[str, int]]:
    """What comes back, and how many steps of each kind were removed."""
    counts: Counts = {}
    steps: dict[str, int] = {}
    for trace, drawn in traces:
        for step, differs, returns in zip(trace.steps, drawn["differs"], drawn["returns"], strict=True):
            kind = step.kind or EVERY
            steps[kind] = steps.get(kind, 0) + 1
            back = [again for gone, again in zip(differs, returns, strict=True) if gone]
            both = counts.setdefault(kind, {}).setdefault(trace.item.id, [0, 0])
            both[0] += sum(back)
            both[1] += len(back)
    return counts, steps


def share_said(each: Sequence[Sequence[int]]) -> str | None:
    """The share that comes back in per cent, its interval over problems; None where nothing says anything else."""
    some = [both for both in each if both[1]]
    if not some:
        return None
    around = wilson_clustered([back for back, _ in some], [n for _, n in some])
    share = sum(back for back, _ in some) / sum(n for _, n in some)
    return f"{100 * share:.0f} ({100 * around.low:.0f} to {100 * around.high:.0f})"


def resilience(
    setting: Setting, label: str, traces: Sequence[tuple[Trace, Drawn]], samples: int
) -> tuple[Table, str]:  # fmt: skip
    """How often removed steps come back, by kind, and over all steps in a sentence."""
    counts, steps = counted(traces)
    lines: list[Line] = []
    whole: dict[str, list[int]] = {}
    for kind in sorted(counts):
        each = list(counts[kind].values())
        lines.append((kind, steps[kind], steps[kind] * samples, sum(n for _, n in each), share_said(each)))
        for item, (back, n) in counts[kind].items():
            own = whole.setdefault(item, [0, 0])
            own[0] += back
            own[1] += n
    table = Table(
        title=f"{setting.name}: {label}: what is removed comes back (resilience)",
        heads=("kind", "steps", "continuations", "say something else there", "of them say it later %"),
        lines=tuple(lines),
        notes=(
            f"{len(traces)} traces; each step is removed once and written anew {samples} times by the model itself. Intervals over "
            "problems.",
        ),
    )
    other, share = sum(n for _, n in whole.values()), share_said(list(whole.values()))
    words = (
        f"of {other} continuations that say something else in place of a sentence, {share} % say it later"
        if share
        else "every continuation says again what was removed, so nothing can come back"
    )
    return table, f"{setting.name}: {label}: resilience: {words}."
