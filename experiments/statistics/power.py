"""What a sample size can show.

Source: Connor 1987 (sample size for paired shares).
"""

from __future__ import annotations

import numpy as np
from scipy import stats


def minimum_detectable_difference(
    n: int, discordant_rate: float, power: float = 0.8, alpha: float = 0.05
) -> float | None:
    """Smallest difference of two paired shares that McNemar's two-sided test at `alpha` finds with `power` on n items.

    Solves n·δ² = (z_a·sqrt(ψ) + z_b·sqrt(ψ - δ²))² for δ, with ψ the share of discordant pairs (with several seeds per
    item: the mean squared difference of an item). A difference needs at least as many discordant pairs: ψ is raised to
    δ where it is below. A normal approximation, somewhat optimistic for small n. None where even n pairs that all
    point one way are not significant.
    """
    if n < 1 or not 0 <= discordant_rate <= 1:
        raise ValueError(f"n must be at least 1 and the discordant rate within [0, 1], not {n} and {discordant_rate}")
    if 2.0 ** (1 - n) > alpha:
        return None
    z_a, z_b = float(stats.norm.ppf(1 - alpha / 2)), float(stats.norm.ppf(power))
    scale = (z_a * np.sqrt(n) + z_b * np.sqrt(n + z_b**2 - z_a**2)) / (n + z_b**2)
    return float(max(scale * np.sqrt(discordant_rate), scale**2))
