"""Areas under the curve from histograms, densities and estimates, by themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import roc_auc_score

from saes.auroc import SpanHistograms
from saes.corpus import LabelledSpan
from saes.estimates import share_interval, t_estimates
from saes.moments import Correlation, Spread
from tests.saes.test_scores import LABELS


def histograms(groups: int, labels: list[str], values: np.ndarray, text: np.ndarray) -> SpanHistograms:
    """One-token spans, `values [units, latents]`."""
    found = SpanHistograms(groups, labels, values.shape[1])
    for number in np.unique(text):
        own = np.flatnonzero(text == number)
        spans = [LabelledSpan(labels[i], place, place + 1) for place, i in enumerate(own)]
        found.add(
            int(number) % groups, spans, torch.tensor(values[own]).float(), torch.ones(len(own), dtype=torch.bool)
        )
    return found


def test_auroc_is_exact_for_values_that_lie_apart() -> None:
    rng = np.random.default_rng(0)
    values = 2.0 ** rng.integers(-9, 9, (90, 12)) * (rng.random((90, 12)) < 0.7)
    labels = [LABELS[i] for i in rng.integers(0, 3, 90)]
    found = histograms(10, labels, values, np.arange(90) // 3).estimates()
    for label in LABELS:
        expected = [roc_auc_score([at == label for at in labels], values[:, i]) for i in range(12)]
        assert found[label].value == pytest.approx(np.array(expected), abs=1e-12)


def test_auroc_of_continuous_values_is_within_a_hundredth() -> None:
    rng = np.random.default_rng(1)
    labels = ["a"] * 150 + ["b"] * 250
    values = np.exp(rng.normal(0, 0.7, (400, 40))) * np.where(np.arange(400) < 150, 1.6, 1.0)[:, None]
    found = histograms(20, labels, values, rng.permutation(400) // 4).estimates()["a"]
    expected = np.array([roc_auc_score([at == "a" for at in labels], values[:, i]) for i in range(40)])
    assert np.abs(found.value - expected).max() < 0.01
    assert ((found.low < expected) & (expected < found.high)).all() and (found.p < 1e-3).mean() > 0.9


def test_auroc_of_unrelated_labels_is_rarely_significant_although_texts_are_clusters() -> None:
    """Values vary by text and each text has one label: as if tokens were independent, most would be significant."""
    rng = np.random.default_rng(2)
    text = np.repeat(np.arange(80), 6)
    labels = [LABELS[:2][i] for i in rng.integers(0, 2, 80)[text]]
    values = np.exp(rng.normal(size=(80, 500))[text] + 0.1 * rng.normal(size=(480, 500)))
    found = histograms(20, labels, values, text).estimates()["checking"]
    assert 0.01 < (found.p < 0.05).mean() < 0.10
    assert 0.90 < ((found.low < 0.5) & (0.5 < found.high)).mean() < 0.99


def test_perfect_separation_is_not_certain() -> None:
    labels = ["a", "b"] * 8
    values = np.where([at == "a" for at in labels], 3.0, 1.0)[:, None]
    found = histograms(8, labels, values, np.arange(16) // 2).estimates()
    a, b = found["a"], found["b"]
    assert a.value[0] == 1.0 and b.value[0] == 0.0
    assert 0.5 < a.low[0] < 0.9 and a.high[0] == 1.0 and b.low[0] == 0.0 and b.high[0] == pytest.approx(1 - a.low[0])
    assert 1e-5 < a.p[0] < 0.05
    alone = histograms(
        8, ["a", "a", "b", "b"], np.array([[1.0], [2.0], [3.0], [4.0]]), np.array([0, 0, 1, 2])
    ).estimates()
    assert alone["a"].value[0] == 0.0 and np.isnan(alone["a"].p[0]) and np.isnan(alone["a"].low[0])


def test_estimates_of_things_that_do_not_vary_are_undefined() -> None:
    spread = Spread(2)
    spread.add(torch.tensor([[1.0, 2.0], [1.0, 3.0]]))
    spread.add(torch.tensor([[1.0, 7.0]]))
    found = spread.estimates()
    assert found.value == pytest.approx([1.0, 4.0]) and spread.deviation == pytest.approx([0.0, np.sqrt(7)])
    assert (
        np.isnan(found.p[0])
        and np.isnan(found.low[0])
        and found.p[1] == pytest.approx(stats.ttest_1samp([2, 3, 7], 0).pvalue)
    )
    alone = t_estimates(np.ones(1), np.ones(1), 0)
    assert np.isnan(alone.low[0]) and np.isnan(alone.p[0])
    low, high = share_interval(np.array([0.3]), 0.3 + np.array([[0.01], [-0.01], [0.02], [-0.02]]), 4)
    assert 0 < low[0] < 0.3 < high[0] < 1
    correlation = Correlation(1)
    correlation.add(torch.tensor([[1.0], [1.0], [1.0], [1.0]]), torch.tensor([True, False, True, False]))
    assert np.isnan(correlation.estimates().value[0])


def test_density_intervals_hold_what_they_promise() -> None:
    """Tokens of a text are alike: of 300 intervals for a density of 0.1, about 95 % hold it."""
    rng = np.random.default_rng(3)
    texts, tokens, latents = 200, 40, 300
    share = rng.beta(0.5, 4.5, (texts, latents))
    active = rng.binomial(tokens, share).reshape(10, 20, latents).sum(0)
    total = active.sum(0)
    without = (total - active) / (texts * tokens * 19 / 20)
    low, high = share_interval(total / (texts * tokens), without, texts)
    assert 0.90 < ((low < 0.1) & (0.1 < high)).mean() < 0.99
