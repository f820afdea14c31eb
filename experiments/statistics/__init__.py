"""Statistics of runs: intervals, paired comparisons, the gap recovered, pass@k, the best of many, and what a sample size can show.

1. Pure functions of arrays; equal arguments give equal numbers (the bootstrap has its own seeded generator).
   A random direction is one draw of a distribution: vectors are compared with many (`directions`).
2. Items are what was sampled: with several seeds per item (`[items, seeds]`) the seeds are averaged within the item
   first and items are resampled, so seeds never pass for independent items.
3. A number that is not defined is None with the reason, never a guess: a ratio to a gap that may be zero has no value.
4. Shares are in [0, 1], differences in the units of the values; levels and power are shares.

Each module names its sources.
"""

from __future__ import annotations

from .agreement import Agreement, agreement
from .bootstrap import RESAMPLES
from .boundary import Crossing, Curve, Support, crossing, curve, pass_curves, support
from .directions import (
    FEW_DIRECTIONS,
    LEVEL,
    AgainstDirections,
    against_directions,
    corrected_rank_p,
    directions_needed,
    max_rank_p,
    rank_p,
)
from .families import benjamini_hochberg, holm
from .gap import GapRecovered, fieller, gap_recovered
from .histograms import HistogramKL, histogram_kl, kl
from .independent import IndependentDifference, independent_difference
from .paired import (
    PairedDifference,
    _sign_flip,  # noqa: F401
    clustered_difference,
    mcnemar_exact,
    paired_difference,
    permutation_test,
)
from .pareto import FrontPoint, pareto_front
from .power import minimum_detectable_difference
from .rates import rate_clustered
from .repeated import student_interval
from .samples import MajorityAtK, PassAtK, majority_at_k, pass_at_k
from .shares import Floats, Interval, wilson, wilson_clustered
from .sweeps import Confirmed, SweepWinner, confirm, sweep_winner

__all__ = [
    "Agreement",
    "agreement",
    "HistogramKL",
    "histogram_kl",
    "kl",
    "AgainstDirections",
    "FEW_DIRECTIONS",
    "LEVEL",
    "against_directions",
    "corrected_rank_p",
    "directions_needed",
    "max_rank_p",
    "rank_p",
    "Confirmed",
    "Crossing",
    "Curve",
    "Floats",
    "FrontPoint",
    "GapRecovered",
    "IndependentDifference",
    "Interval",
    "MajorityAtK",
    "PairedDifference",
    "PassAtK",
    "RESAMPLES",
    "Support",
    "SweepWinner",
    "benjamini_hochberg",
    "clustered_difference",
    "confirm",
    "crossing",
    "curve",
    "fieller",
    "gap_recovered",
    "holm",
    "independent_difference",
    "majority_at_k",
    "mcnemar_exact",
    "minimum_detectable_difference",
    "paired_difference",
    "pareto_front",
    "pass_at_k",
    "pass_curves",
    "permutation_test",
    "student_interval",
    "support",
    "sweep_winner",
    "rate_clustered",
    "wilson",
    "wilson_clustered",
]
