"""How often 95 % intervals hold the true value: paired differences, the gap recovered, and a vector against random directions.

`python -m benchmarks.coverage [--runs 2000]` prints the tables of docs/statistics.md. One sample per item is enumerated (every possible
table of counts with its probability), the rest is simulated.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator

import numpy as np
from scipy import stats

from experiments.statistics import against_directions, gap_recovered, paired_difference
from experiments.statistics.score import score_interval

ITEMS = (20, 60, 200)
RATES = (0.0, 0.01, 0.03, 0.1, 0.5)
COPIES = (0.0, 0.2, 0.6, 1.0)
"""How alike the samples of an item are: intraclass correlation, 0 independent, 1 copies."""


def rates() -> Iterator[tuple[float, float]]:
    """Helped and hurt shares, the larger first; the mirror image has the mirrored interval."""
    return ((h, u) for h, u in itertools.product(RATES, RATES) if u <= h and h + u <= 1)


def paired_once(n: int, helped: float, hurt: float) -> float:
    """Exact coverage with one 0/1 value per item."""
    covered = 0.0
    for b, c in itertools.product(range(n + 1), repeat=2):
        if b + c > n:
            continue
        p = float(stats.multinomial.pmf([b, c, n - b - c], n, [helped, hurt, 1 - helped - hurt]))
        if p > 1e-9 and helped - hurt in score_interval(b, c, n):
            covered += p
    return covered


def differences(
    rng: np.random.Generator, n: int, seeds: int, helped: float, hurt: float, alike: float
) -> tuple[np.ndarray, np.ndarray]:
    """Values `[items, seeds]` of two arms of which a share is helped and hurt, seeds of an item as alike as asked for."""
    p = np.array([helped, hurt, 1 - helped - hurt])
    if alike == 0:
        each = np.tile(p, (n, 1))
    elif alike == 1:
        each = np.eye(3)[rng.choice(3, n, p=p)]
    else:
        drawn = rng.gamma(np.maximum(p * (1 - alike) / alike, 1e-12), size=(n, 3))
        each = drawn / drawn.sum(1, keepdims=True)
    kind = (rng.random((n, seeds, 1)) > each.cumsum(1)[:, None, :]).sum(-1)
    return (kind == 1).astype(float), (kind == 0).astype(float)


def paired_seeds(n: int, seeds: int, helped: float, hurt: float, alike: float, runs: int, seed: int = 0) -> float:
    """Simulated coverage with several seeds per item; p-values are not computed (`resamples=1`)."""
    rng = np.random.default_rng(seed)
    hits = 0
    for _ in range(runs):
        a, b = differences(rng, n, seeds, helped, hurt, alike)
        hits += helped - hurt in paired_difference(a, b, resamples=1).interval
    return hits / runs


def gap(n: int, base: float, reference: float, mended: float, broken: float, runs: int, seed: int = 0) -> float:
    """Coverage of the gap recovered where it is defined: the reference mends `reference` of what the base gets wrong, the treatment
    `mended` of those items (and 0.3 of that elsewhere), and breaks `broken` of what the base gets right."""
    rng = np.random.default_rng(seed)
    top = base * 0.99 + (1 - base) * reference
    middle = base * (1 - broken) + (1 - base) * (reference * mended + (1 - reference) * 0.3 * mended)
    true = (middle - base) / (top - base)
    hits = defined = 0
    for _ in range(runs):
        low = rng.random(n) < base
        high = rng.random(n) < np.where(low, 0.99, reference)
        treated = rng.random(n) < np.where(low, 1 - broken, np.where(high, mended, 0.3 * mended))
        found = gap_recovered(low, treated, high, resamples=1)
        if found.interval is not None:
            defined += 1
            hits += true in found.interval
    return hits / defined


POPULATIONS = {
    "no effect": lambda rng, r: np.zeros(r),
    "small effects (SD 3 points)": lambda rng, r: np.clip(rng.normal(0, 0.03, r), -0.19, 0.7),
    "a quarter at +70 points": lambda rng, r: 0.7 * (rng.random(r) < 0.25),
    "one in twenty at +70 points": lambda rng, r: 0.7 * (rng.random(r) < 0.05),
}
MEANS = {"a quarter at +70 points": 0.175, "one in twenty at +70 points": 0.035}


def directions(n: int, count: int, population: str, effect: float, runs: int, seed: int = 0) -> float:
    """Coverage of "vector minus random" over items and directions, on a base of 20 %."""
    rng = np.random.default_rng(seed)
    hits = 0
    for _ in range(runs):
        ability = rng.beta(1, 4, n)
        lifted = ability + (1 - ability) * effect / 0.8
        shift = POPULATIONS[population](rng, count)[:, None]
        theirs = np.where(shift >= 0, ability + (1 - ability) * shift / 0.8, ability * (1 + shift / 0.2))
        found = against_directions(rng.random(n) < lifted, rng.random((count, n)) < theirs)
        hits += effect - MEANS.get(population, 0.0) in found.interval
    return hits / runs


def main() -> None:
    """Print every table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=2000)
    runs = parser.parse_args().runs
    print("| n | helped % | hurt % | one seed (exact) | " + " | ".join(f"4 seeds, ICC {c:g}" for c in COPIES) + " |")
    print("|" + "---|" * (4 + len(COPIES)))
    for n in ITEMS:
        for h, u in rates():
            four = [paired_seeds(n, 4, h, u, alike, runs) for alike in COPIES]
            cells = " | ".join(f"{100 * c:.1f}" for c in (paired_once(n, h, u), *four))
            print(f"| {n} | {100 * h:g} | {100 * u:g} | {cells} |", flush=True)
    print("\n| n | base | reference mends | treatment mends | breaks | gap recovered |\n" + "|" + "---|" * 6)
    for n in ITEMS:
        for base, reference in ((0.2, 0.98), (0.1, 0.5), (0.4, 0.6)):
            for mended, broken in (
                (0, 0),
                (0.01, 0),
                (0.03, 0.01),
                (0.1, 0.05),
                (0.5, 0.02),
                (0.95, 0),
                (1, 0),
                (0.3, 0.3),
            ):
                share = gap(n, base, reference, mended, broken, runs)
                print(f"| {n} | {base:g} | {reference:g} | {mended:g} | {broken:g} | {100 * share:.1f} |", flush=True)
    print("\n| n | directions | population of random directions | no effect | +60 points |\n" + "|" + "---|" * 5)
    for n in ITEMS:
        for count in (5, 20, 39):
            for population in POPULATIONS:
                two = [directions(n, count, population, effect, runs) for effect in (0.0, 0.6)]
                print(f"| {n} | {count} | {population} | {100 * two[0]:.1f} | {100 * two[1]:.1f} |", flush=True)


if __name__ == "__main__":
    main()
