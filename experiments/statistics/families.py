"""Many tests at once: adjusted p-values.

Sources: Holm 1979; Benjamini & Hochberg 1995.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """p-values adjusted for being one family, in the order given: p(i)·(m-i+1) of the sorted ones, made
    non-decreasing, at most 1. Raises ValueError for a value outside [0, 1]."""
    p = np.asarray(p_values, dtype=float)
    if ((p < 0) | (p > 1) | np.isnan(p)).any():
        raise ValueError(f"p-values lie between 0 and 1: {list(p_values)}")
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1.0)
    return tuple(adjusted.tolist())


def benjamini_hochberg(p_values: Sequence[float]) -> tuple[float, ...]:
    """q-values in the order given: the smallest false discovery rate at which each test is called. Raises ValueError outside [0, 1]."""
    from statsmodels.stats.multitest import multipletests

    p = np.asarray(p_values, dtype=float)
    if ((p < 0) | (p > 1) | np.isnan(p)).any():
        raise ValueError(f"p-values lie between 0 and 1: {list(p_values)}")
    return tuple(multipletests(p, method="fdr_bh")[1].tolist()) if len(p) else ()
