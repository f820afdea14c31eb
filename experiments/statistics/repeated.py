"""Few repetitions of one experiment, such as trainings from several seeds: the mean and its interval.

Source: Student 1908, as scipy has it. The interval speaks of further repetitions; one over questions does not.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from .shares import Interval


def student_interval(values: ArrayLike, level: float = 0.95) -> Interval | None:
    """Of the mean of numbers `[repetitions]`; None of fewer than two. Raises ValueError for other shapes or numbers that are not finite."""
    v = np.asarray(values, dtype=float)
    if v.ndim != 1 or not np.isfinite(v).all():
        raise ValueError("repetitions are a row of finite numbers")
    if len(v) < 2:
        return None
    half = float(stats.t.ppf(0.5 + level / 2, len(v) - 1) * v.std(ddof=1) / np.sqrt(len(v)))
    return Interval(float(v.mean()) - half, float(v.mean()) + half, level)
