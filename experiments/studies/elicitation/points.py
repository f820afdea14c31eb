"""Points of a run: every arm's accuracy against all tokens that it generated, its control beside it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ...evaluation.summarise import pair_grid, summary_of
from ...statistics import PairedDifference, paired_difference
from ...statistics.directions import LEVEL
from ...store.runs import Run
from .asked import Setting
from .findings import Point

DIFFERENCES = (
    "Paired differences: the interval is a score interval (Tango) of shares, else a bootstrap (BCa); p is that of the exact McNemar test "
    "of one 0/1 value per question, else of random signs over questions. They are different methods, and near the edge one can leave 0 out "
    "where the other does not: what is called clear is so by both."
)
"""What stands below a table of differences with intervals and p."""


def points_of(run: Run, setting: Setting, controls: Mapping[str, str] | None = None) -> list[Point]:
    """One point per arm, in the order of the run; `controls` names the control of an arm."""
    part = summary_of(run).split(setting.split)
    found = []
    for arm in part.arms:
        share, versus = arm.accuracy, arm.versus_baseline
        assert share is not None and arm.mean_tokens is not None
        control = (controls or {}).get(arm.name)
        over = arms_difference(run, setting.split, control, arm.name) if control else None
        found.append(
            Point(
                setting=setting.name, arm=arm.name, label=arm.label, role=arm.role, n=arm.items, accuracy=share.value,
                low=share.interval.low, high=share.interval.high, tokens=arm.mean_tokens, truncated=arm.truncated,
                unscorable=arm.unscorable, difference=versus.difference if versus else None,
                difference_low=versus.interval.low if versus else None, difference_high=versus.interval.high if versus else None,
                p=versus.p if versus and versus.p == versus.p else None, control=control, over_control=over.difference if over else None,
                over_control_low=over.interval.low if over else None, over_control_high=over.interval.high if over else None,
                run=run.manifest.run_id, split=setting.split,
            )
        )  # fmt: skip
    return found


def arms_difference(run: Run, split: str, one: str, other: str) -> PairedDifference:
    """Accuracy of `other` minus that of `one`, paired over the questions (and seeds) that both hold."""
    rows = run.table(columns=["arm", "split", "item", "seed", "correct"], arms=[one, other]).to_pylist()
    values: dict[str, dict[tuple[str, int], float]] = {one: {}, other: {}}
    for row in rows:
        if row["split"] == split:
            values[row["arm"]][row["item"], row["seed"]] = float(row["correct"])
    pairs = [pair for pair in values[one] if pair in values[other]]
    return paired_difference(*(np.asarray(pair_grid(values[name], pairs)) for name in (one, other)))


def between(low: float, high: float, signed: bool = True) -> str:
    """An interval in points or per cent."""
    return f"{100 * low:+.1f} to {100 * high:+.1f}" if signed else f"{100 * low:.1f} to {100 * high:.1f}"


def p_said(p: float) -> str:
    """A p-value, never one of nought."""
    return "p < 0.001" if p < 0.0005 else f"p {p:.3f}"


def difference_said(found: PairedDifference) -> str:
    """A difference in points with its interval and p."""
    return f"{100 * found.difference:+.1f} ({between(found.interval.low, found.interval.high)}; {p_said(found.p)})"


def hedged(low: float, high: float, p: float | None) -> str:
    """What stands before a difference that is not clear by its interval and by its test; by the interval alone where there is no test."""
    outside, small = low > 0 or high < 0, p is not None and p <= LEVEL
    if outside and (small or p is None):
        return ""
    if not outside and not small:
        return "no detectable difference, "
    ways = (
        ("the interval leaves 0 out", "the test does not reject it")
        if outside
        else ("the interval holds 0", "the test rejects it")
    )
    assert p is not None, "without a test the interval alone decides"
    return f"not clear ({ways[0]}, {ways[1]}: {p_said(p)}), "


def cut_said(cut: int, texts: int, limit: int) -> str:
    """That texts of an arm end at the token limit, behind what is said of their tokens; empty where none does."""
    if not cut:
        return ""
    if cut < texts:
        return f"; {cut} of its {texts} texts end at the limit of {limit} tokens"
    return f"; all its {texts} texts end at the limit of {limit} tokens, so their length is the limit's and how they go on is not known"


def said_of(point: Point, base: str = "the greedy base") -> str:
    """How far an arm lies from the baseline, which is called `base`, in a sentence."""
    assert point.difference is not None and point.difference_low is not None and point.difference_high is not None
    verb = hedged(point.difference_low, point.difference_high, point.p)
    cut = f" {point.truncated} of its texts were cut at the limit." if point.truncated else ""
    return (
        f"{point.setting}: {point.label}: {verb}{100 * point.difference:+.1f} points against {base} "
        f"({between(point.difference_low, point.difference_high)}; n {point.n}), {point.tokens:.0f} tokens per question.{cut}"
    )
