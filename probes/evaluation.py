"""How good a probe is on held-out groups, and what it has beyond shuffled labels and beyond the tokens.

1. Every number is measured on groups that the probe was not fitted on, with a bootstrap interval over those groups.
2. The AUROC and average precision of a probe of two classes are those of its second class; with more classes, means over one class
   against the rest. Scores are log-odds, so saturated probabilities make no ties.
3. Calibration (Brier, ECE, log loss, reliability bins) is of P(second class), or of the likeliest class where there are more. A probe
   fitted with every class weighing the same is measured so: its probabilities are those under equal class shares.
4. A comparison (`Compared`) is paired: both sides answer the same held-out samples in every resample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.special import log_softmax, logsumexp

from steering.extraction.separability import Interval

from .measures import (
    RESAMPLES,
    Measure,
    auroc,
    average_precision,
    bounds,
    calibration_error,
    group_weights,
    interval,
    mean_of,
)

BINS = 10


@dataclass(frozen=True)
class ReliabilityBin:
    """Held-out samples whose probability lies from `low` to `high`."""

    low: float
    high: float
    n: int
    predicted: float
    """Mean probability; NaN where the bin is empty."""
    observed: float
    """Share that the probability was of."""


@dataclass(frozen=True)
class ClassMeasures:
    """One class against the rest."""

    n: int
    """Held-out samples of it."""
    auroc: Interval
    average_precision: Interval


CHANCE = 0.5
"""AUROC of scores that say nothing."""


@dataclass(frozen=True)
class Compared:
    """A probe's AUROC beside another's on the same held-out samples."""

    own: Interval
    other: Interval
    difference: Interval
    """own - other, where one of the others that is worse than chance counts as chance."""
    what: str
    """What the other is."""


@dataclass(frozen=True)
class Evaluation:
    """What was measured on the held-out groups."""

    n: int
    groups: int
    rarest: int
    """Groups of the class that occurs in the fewest; below `measures.FEWEST` there are no intervals."""
    auroc: Interval
    average_precision: Interval
    accuracy: Interval
    balanced_accuracy: Interval
    """Mean over classes of the share of each that is called right."""
    log_loss: Interval
    """Nats."""
    brier: Interval
    """Mean squared error of P(second class) in [0, 1]; summed over classes where there are more than two."""
    ece: Interval
    reliability: tuple[ReliabilityBin, ...]
    per_class: dict[str, ClassMeasures]
    selectivity: Compared | None = None
    """Beside probes fitted on shuffled labels (Hewitt & Liang, 1909.03368): near 0, the probe shows nothing of the representation."""
    tokens: Compared | None = None
    """Beside what the ids of the tokens near the position give away."""
    repeated: int = 0
    """Held-out samples that equal a training sample in every coordinate: the same text under two group names leaks unseen."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def one_against_rest(logits: np.ndarray) -> np.ndarray:
    """Log-odds of each class against all others, `[n, classes]`."""
    columns = range(logits.shape[1])
    rest = [logsumexp(np.delete(logits, k, axis=1), axis=1) for k in columns]
    return np.asarray(logits - np.stack(rest, axis=1))


def macro_auroc(y: np.ndarray, logits: np.ndarray) -> Measure:
    """AUROC of the second of two classes, or the mean over classes of one against the rest."""
    scores = one_against_rest(logits)
    columns = [1] if scores.shape[1] == 2 else range(scores.shape[1])
    return _mean([auroc((y == k).astype(float), scores[:, k]) for k in columns])


def evaluate(
    logits: np.ndarray,
    y: np.ndarray,
    groups: Sequence[object] | np.ndarray,
    classes: Sequence[str],
    *,
    balanced: bool = True,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Evaluation:
    """Measure `logits [n, classes]` of held-out samples against `y [n]`."""
    logits, group = np.asarray(logits, np.float64), np.asarray(groups)
    n, size = logits.shape
    logp, scores = log_softmax(logits, axis=1), one_against_rest(logits)
    weights = group_weights(group, resamples, seed)
    counts = np.bincount(y, minlength=size)
    base = (n / (np.count_nonzero(counts) * counts.clip(1)))[y] if balanced else np.ones(n)
    equal = (1 / counts.clip(1))[y]
    smaller = rarest_groups(y, group)
    hit = (logits.argmax(1) == y).astype(float)
    two = size == 2
    probability = np.exp(logp)
    confidence = probability[:, 1] if two else probability.max(1)
    truth = (y == 1).astype(float) if two else hit
    onehot = np.eye(size)[y]
    brier = (confidence - truth) ** 2 if two else ((probability - onehot) ** 2).sum(1)

    per_class = {}
    for k, name in enumerate(classes):
        own = (y == k).astype(float)
        per_class[name] = ClassMeasures(
            int(counts[k]),
            interval(auroc(own, scores[:, k]), weights, smaller=smaller),
            interval(average_precision(own, scores[:, k]), weights, smaller=smaller),
        )
    columns = [1] if two else list(range(size))
    precision = _mean([average_precision((y == k).astype(float), scores[:, k]) for k in columns])
    return Evaluation(
        n,
        len(np.unique(group)),
        smaller,
        interval(macro_auroc(y, logits), weights, smaller=smaller),
        interval(precision, weights, smaller=smaller),
        interval(mean_of(hit), weights, smaller=smaller),
        interval(mean_of(hit), weights, equal, smaller),
        interval(mean_of(-logp[np.arange(n), y]), weights, base, smaller),
        interval(mean_of(brier), weights, base, smaller),
        interval(calibration_error(truth, confidence, BINS), weights, base, smaller),
        reliability(truth, confidence, base),
        per_class,
    )


def reliability(truth: np.ndarray, confidence: np.ndarray, weight: np.ndarray) -> tuple[ReliabilityBin, ...]:
    """Equal bins of the probability, with the weighted share that was true in each."""
    place = np.minimum((confidence * BINS).astype(int), BINS - 1)
    found = []
    for b in range(BINS):
        inside = place == b
        total = float(weight[inside].sum())
        predicted, observed = (
            float(weight[inside] @ v[inside] / total) if total else float("nan") for v in (confidence, truth)
        )
        found.append(ReliabilityBin(b / BINS, (b + 1) / BINS, int(inside.sum()), predicted, observed))
    return tuple(found)


def compare(
    y: np.ndarray,
    own: np.ndarray,
    others: Sequence[np.ndarray],
    groups: np.ndarray,
    what: str,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Compared:
    """AUROC of logits `own [n, classes]` beside the mean over `others`, which are drawn again with replacement in every resample.

    One of the others that is worse than chance counts as chance (0.5) in the difference: what it gets wrong is no merit of the probe.
    """
    weights = group_weights(groups, resamples, seed)
    ones = np.ones(len(y))
    mine = macro_auroc(y, own)
    theirs = [macro_auroc(y, other) for other in others]
    drawn = np.array([mine(row) for row in weights])
    table = np.array([[measure(row) for row in weights] for measure in theirs])
    chosen = np.random.default_rng(seed + 1).integers(len(theirs), size=table.shape)
    other, floored = (np.take_along_axis(t, chosen, axis=0).mean(0) for t in (table, np.maximum(table, CHANCE)))
    each = np.array([measure(ones) for measure in theirs])
    value, baseline, beaten = mine(ones), float(each.mean()), float(np.maximum(each, CHANCE).mean())
    smaller = rarest_groups(y, np.asarray(groups))
    return Compared(
        bounds(value, drawn, smaller),
        bounds(baseline, other, smaller),
        bounds(value - beaten, drawn - floored, smaller, share=False),
        what,
    )


def rarest_groups(y: np.ndarray, groups: np.ndarray) -> int:
    """Groups of the class, among those that occur, that has the fewest."""
    return min(len(np.unique(groups[y == k])) for k in np.unique(y))


def _mean(measures: Sequence[Measure]) -> Measure:
    def measure(weight: np.ndarray) -> float:
        values = np.array([one(weight) for one in measures])
        return float(np.nanmean(values)) if not np.isnan(values).all() else float("nan")

    return measure
