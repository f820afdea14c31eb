"""Two shares on different items: the difference and its interval.

Source: Newcombe 1998, Statistics in Medicine 17:873 (method 10, from the two score intervals), as statsmodels has it.
"""

from __future__ import annotations

from dataclasses import dataclass

from .shares import Interval


@dataclass(frozen=True)
class IndependentDifference:
    """How the first share differs from the second one, on items of its own."""

    difference: float
    interval: Interval


def independent_difference(
    successes: int, n: int, other_successes: int, other_n: int, level: float = 0.95
) -> IndependentDifference:
    """successes/n minus other_successes/other_n. Raises ValueError without 0 <= successes <= n and n of at least 1."""
    from statsmodels.stats.proportion import confint_proportions_2indep

    for hits, among in ((successes, n), (other_successes, other_n)):
        if not (among >= 1 and 0 <= hits <= among):
            raise ValueError(f"a share needs 0 <= successes <= n and n of at least 1, not {hits} of {among}")
    low, high = confint_proportions_2indep(
        successes, n, other_successes, other_n, method="newcomb", compare="diff", alpha=1 - level
    )  # fmt: skip
    return IndependentDifference(successes / n - other_successes / other_n, Interval(float(low), float(high), level))
