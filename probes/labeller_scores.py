"""How well labellers agree with a reference, per label, with intervals over traces.

1. The unit is a sentence with a reference label. F1 of a label = 2 TP / (2 TP + FP + FN) over all such sentences; macro F1 is the mean over
   the labels that the reference holds.
2. Intervals resample whole traces (percentile bootstrap, 95 %), the same traces for both labellers of a difference.
3. The reference here was made by an LLM: a score is agreement with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from steering.errors import BadInput
from steering.extraction.separability import Interval

from .annotated import AnnotatedTrace, reference_of
from .labels import BehaviourLabel, label_at
from .measures import bounds

RESAMPLES = 2000


@dataclass(frozen=True)
class LabellerScore:
    """Agreement of one labeller with the reference."""

    labeller: str
    macro_f1: Interval
    f1: dict[str, Interval]
    accuracy: Interval


@dataclass(frozen=True)
class LabellerComparison:
    """Two or more labellers on the same sentences, and the difference of each to the first."""

    scores: tuple[LabellerScore, ...]
    differences: dict[str, Interval]
    """Macro F1 of each later labeller minus that of the first."""
    f1_differences: dict[str, dict[str, Interval]]
    counts: dict[str, int]
    """Sentences per reference label."""
    traces: int


def compare_labellers(
    traces: Sequence[AnnotatedTrace],
    labelled: Mapping[str, Sequence[Sequence[BehaviourLabel]]],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> LabellerComparison:
    """Score labellers by name; `labelled[name]` holds the labels of each trace, in characters.

    Raises BadInput when a labeller did not label every trace.
    """
    places, reference = reference_of(traces)
    labels = tuple(sorted(set(reference)))
    for name, found in labelled.items():
        if len(found) != len(traces):
            raise BadInput(f"Labeller {name!r} labelled {len(found)} of {len(traces)} traces; it must label each.")
    truth = np.array([labels.index(r) for r in reference])
    trace = np.array([t for t, _ in places])
    drawn = np.random.default_rng(seed).multinomial(len(traces), np.full(len(traces), 1 / len(traces)), size=resamples)
    tables = {}
    for name, found in labelled.items():
        said = []
        for t, s in places:
            sentence = traces[t].sentences[s]
            label = label_at(found[t], sentence.start, sentence.end)
            said.append(labels.index(label) if label in labels else len(labels))
        tables[name] = _counts(truth, np.array(said), trace, len(traces), len(labels))
    whole = np.ones((1, len(traces)))
    values = {name: _f1(table, whole)[0] for name, table in tables.items()}
    samples = {name: _f1(table, drawn) for name, table in tables.items()}
    scores = tuple(
        LabellerScore(
            name,
            bounds(float(np.nanmean(values[name])), np.nanmean(samples[name], axis=1)),
            {label: bounds(float(values[name][k]), samples[name][:, k]) for k, label in enumerate(labels)},
            bounds(_accuracy(tables[name], whole)[0], _accuracy(tables[name], drawn)),
        )
        for name in labelled
    )
    first, *others = labelled
    differences = {
        name: bounds(
            float(np.nanmean(values[name]) - np.nanmean(values[first])),
            np.nanmean(samples[name], axis=1) - np.nanmean(samples[first], axis=1),
        )
        for name in others
    }
    per_label = {
        name: {
            label: bounds(float(values[name][k] - values[first][k]), samples[name][:, k] - samples[first][:, k])
            for k, label in enumerate(labels)
        }
        for name in others
    }
    counts = {label: int((truth == k).sum()) for k, label in enumerate(labels)}
    return LabellerComparison(scores, differences, per_label, counts, len(traces))


def _counts(truth: np.ndarray, said: np.ndarray, trace: np.ndarray, traces: int, labels: int) -> np.ndarray:
    """True positives, called and true sentences per trace and label, `[3, traces, labels]`."""
    found = np.zeros((3, traces, labels + 1))
    hit = truth == said
    np.add.at(found[0], (trace[hit], truth[hit]), 1)
    np.add.at(found[1], (trace, said), 1)
    np.add.at(found[2], (trace, truth), 1)
    return found[:, :, :labels]


def _f1(table: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """`[rows of weights, labels]`; NaN where a label is neither true nor called."""
    hit, called, true = (weights @ part for part in table)
    total = called + true
    return np.divide(2 * hit, total, out=np.full(hit.shape, np.nan), where=total > 0)


def _accuracy(table: np.ndarray, weights: np.ndarray) -> np.ndarray:
    hit, _, true = ((weights @ part).sum(1) for part in table)
    return np.asarray(hit / np.maximum(true, 1))
