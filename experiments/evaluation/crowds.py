"""Many controls of one arm as one line: their mean and extremes, where a line each would hide the arm that they belong to."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..statistics import Interval
from .summary import ArmSummary, Comparison, Share

SHOWN = 3
"""Controls of one arm up to which each has a line of its own."""


def with_crowds(arms: Sequence[ArmSummary]) -> list[ArmSummary]:
    """The arms, controls of an arm that has more than `SHOWN` replaced by one line below it. Its intervals are the extremes of the
    controls' means, its counts of rows sums and those of items means over all of them, and it has no p: it is a distribution, not a
    comparison."""
    crowded = {
        arm.name: [other for other in arms if other.control_of == arm.name and other.n] for arm in arms if arm.beyond
    }
    crowded = {name: own for name, own in crowded.items() if len(own) > SHOWN}
    shown: list[ArmSummary] = []
    for arm in arms:
        if arm.control_of not in crowded:
            shown.append(arm)
        if arm.name in crowded:
            shown.append(_crowd(arm, crowded[arm.name]))
    return shown


def _crowd(arm: ArmSummary, own: list[ArmSummary]) -> ArmSummary:
    shares = [a.accuracy for a in own if a.accuracy is not None]
    tokens = [a.mean_tokens for a in own if a.mean_tokens is not None]
    assert arm.beyond is not None and shares
    values = [share.value for share in shares]
    level = shares[0].interval.level
    return own[0].model_copy(
        update={
            "name": f"{arm.name}-controls",
            "label": f"{len(own)} {arm.beyond.kind}: mean, extremes",
            "n": sum(a.n for a in own),
            "accuracy": Share(
                value=sum(values) / len(values), interval=Interval(min(values), max(values), level),
                count=sum(share.count for share in shares), n=sum(share.n for share in shares),
            ),
            "truncated": sum(a.truncated for a in own),
            "unscorable": sum(a.unscorable for a in own),
            "unclosed": sum(a.unclosed for a in own),
            "lenient": sum(a.lenient for a in own),
            "nonfinite": sum(a.nonfinite for a in own),
            "mean_tokens": sum(tokens) / len(tokens) if tokens else None,
            "edits_planned": sum(a.edits_planned for a in own),
            "edits_fired": sum(a.edits_fired for a in own),
            "versus_baseline": _spread([a.versus_baseline for a in own if a.versus_baseline], level),
            "gap": None,
            "control_of": arm.name,
        }
    )  # fmt: skip


def _spread(found: list[Comparison], level: float) -> Comparison | None:
    if not found:
        return None
    values = [each.difference for each in found]
    return found[0].model_copy(
        update={
            "difference": sum(values) / len(values),
            "interval": Interval(min(values), max(values), level),
            "method": f"extremes of {len(found)}",
            "p": math.nan,
            "test": "a distribution, not tested",
            "helped": round(sum(each.helped for each in found) / len(found)),
            "hurt": round(sum(each.hurt for each in found) / len(found)),
            "token_difference": sum(each.token_difference for each in found) / len(found),
        }
    )
