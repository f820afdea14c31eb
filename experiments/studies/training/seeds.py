"""Arms that were trained from several seeds, in cells of a table: means with their range, and differences with their intervals.

An interval over questions averages the seeds and speaks of other questions; Student's over seeds speaks of other seeds, and is wide of few.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...statistics import Floats, PairedDifference, paired_difference, student_interval
from ..elicitation.points import between, difference_said, hedged


def spread(values: Sequence[float] | Floats, decimals: int = 1, scale: float = 100) -> str:
    """Mean of the seeds and their range."""
    numbers = scale * np.asarray(values, dtype=float)
    if np.isnan(numbers).all():
        return "none"
    low, high = np.nanmin(numbers), np.nanmax(numbers)
    return f"{np.nanmean(numbers):.{decimals}f} ({low:.{decimals}f} to {high:.{decimals}f})"


def ratio(top: Floats, bottom: Floats) -> float:
    """Sum over sum; NaN of nothing."""
    return float(top.sum() / bottom.sum()) if bottom.sum() else float("nan")


def compared(other: Floats, own: Floats) -> tuple[PairedDifference, Floats]:
    """`own` minus `other`, both `[questions, seeds]`: over questions, and by seed."""
    return paired_difference(other, own), own.mean(0) - other.mean(0)


def seeds_said(differences: Floats) -> str:
    """Differences by seed, in points, and Student's interval of their mean."""
    each = ", ".join(f"{100 * one:+.1f}" for one in differences)
    found = student_interval(differences)
    return each if found is None else f"{each} ({between(found.low, found.high)})"


def told(name: str, than: str, found: PairedDifference, by_seed: Floats) -> str:
    """A difference in a sentence's words."""
    hedge = hedged(found.interval.low, found.interval.high, found.p)
    over = student_interval(by_seed)
    apart = "" if over is None else f"; over the {len(by_seed)} seeds {between(over.low, over.high)}"
    return f"{name} against {than}: {hedge}{difference_said(found)} points{apart}"
