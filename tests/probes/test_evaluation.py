"""Measures against scikit-learn and by hand, intervals over groups, and comparisons that are paired."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, balanced_accuracy_score, brier_score_loss, roc_auc_score
from sklearn.metrics import log_loss as sk_log_loss

from probes.evaluation import compare, evaluate, one_against_rest
from probes.measures import auroc, average_precision, calibration_error, group_weights, interval


def scored(n: int = 400, classes: int = 2, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, n)
    logits = rng.normal(size=(n, classes)) + 1.2 * np.eye(classes)[y]
    return np.round(logits, 1), y, np.arange(n) // 8  # rounding makes ties


def test_weighted_measures_are_those_of_scikit_learn() -> None:
    logits, y, _ = scored()
    scores, weight = logits[:, 1] - logits[:, 0], np.random.default_rng(1).integers(0, 4, len(y)).astype(float)
    assert auroc(y, scores)(weight) == pytest.approx(roc_auc_score(y, scores, sample_weight=weight))
    assert average_precision(y, scores)(weight) == pytest.approx(
        average_precision_score(y, scores, sample_weight=weight)
    )
    repeated = np.repeat(np.arange(len(y)), weight.astype(int))
    again = calibration_error(y[repeated], np.abs(np.sin(scores))[repeated])(np.ones(len(repeated)))
    assert calibration_error(y, np.abs(np.sin(scores)))(weight) == pytest.approx(again)


def test_an_evaluation_gives_the_textbook_numbers() -> None:
    logits, y, groups = scored()
    found = evaluate(logits, y, groups, ("a", "b"), balanced=False)
    p = 1 / (1 + np.exp(logits[:, 0] - logits[:, 1]))
    assert found.auroc.value == pytest.approx(roc_auc_score(y, logits[:, 1] - logits[:, 0]))
    assert found.brier.value == pytest.approx(brier_score_loss(y, p))
    assert found.log_loss.value == pytest.approx(sk_log_loss(y, p))
    assert found.balanced_accuracy.value == pytest.approx(balanced_accuracy_score(y, logits.argmax(1)))
    assert found.n == 400 and found.groups == 50
    assert found.per_class["a"].n == int((y == 0).sum())
    assert found.auroc.low < found.auroc.value < found.auroc.high


def test_several_classes_are_each_measured_against_the_rest() -> None:
    logits, y, groups = scored(classes=4)
    found = evaluate(logits, y, groups, tuple("abcd"))
    each = [roc_auc_score(y == k, one_against_rest(logits)[:, k]) for k in range(4)]
    assert [found.per_class[c].auroc.value for c in "abcd"] == pytest.approx(each)
    assert found.auroc.value == pytest.approx(np.mean(each))


def test_calibration_error_of_a_hand_computed_case() -> None:
    # Bin [0.2, 0.3): two samples at 0.25, one true: |0.5 - 0.25|. Bin [0.9, 1]: one at 1.0, true: 0.
    found = calibration_error(np.array([1.0, 0.0, 1.0]), np.array([0.25, 0.25, 1.0]))(np.ones(3))
    assert found == pytest.approx((2 * 0.25 + 0) / 3)
    logits = np.log(np.array([[0.75, 0.25], [0.75, 0.25], [1e-9, 1.0]]))
    bins = evaluate(logits, np.array([1, 0, 1]), [0, 1, 2], ("a", "b"), balanced=False).reliability
    assert [(b.n, round(b.predicted, 2), b.observed) for b in bins if b.n] == [(2, 0.25, 0.5), (1, 1.0, 1.0)]


def test_balanced_calibration_is_under_equal_class_shares() -> None:
    rng = np.random.default_rng(0)
    y = (rng.random(4000) < 0.05).astype(int)
    x = rng.normal(size=4000) + 2 * y
    equal_shares = np.stack(
        [np.zeros(4000), 2 * (x - 1)], axis=1
    )  # the true log-odds when both classes are as frequent
    groups = np.arange(4000)
    assert evaluate(equal_shares, y, groups, ("a", "b"), balanced=True, resamples=20).ece.value < 0.05
    assert evaluate(equal_shares, y, groups, ("a", "b"), balanced=False, resamples=20).ece.value > 0.1


def test_intervals_resample_groups_and_not_samples() -> None:
    rng = np.random.default_rng(0)
    y = np.tile([0, 1], 200)
    alike = np.repeat(rng.normal(size=20), 20)  # every group has one shift, so samples of a group err together
    scores = y + 1.5 * alike * (2 * y - 1)
    wide = interval(auroc(y, scores), group_weights(np.arange(400) // 20))
    narrow = interval(auroc(y, scores), group_weights(np.arange(400)))
    assert wide.high - wide.low > 1.8 * (narrow.high - narrow.low)


def test_perfect_separation_by_few_groups_is_not_certain() -> None:
    y = np.tile([0, 1], 10)
    found = evaluate(np.stack([-5.0 * y, 5.0 * y], axis=1), y, np.arange(20) // 2, ("a", "b"))
    assert found.auroc.value == 1.0 and found.auroc.low == pytest.approx(0.722, abs=0.01), (
        "Wilson's bound for 10 of 10 groups"
    )


def test_a_comparison_is_paired_and_counts_the_draw_of_its_controls() -> None:
    logits, y, groups = scored()
    same = compare(y, logits, [logits], groups, "itself")
    assert (same.difference.low, same.difference.value, same.difference.high) == (0, 0, 0)
    worse = [logits + 3 * np.random.default_rng(i).normal(size=logits.shape) for i in range(5)]
    found = compare(y, logits, worse, groups, "noisier")
    expected = np.mean([roc_auc_score(y, w[:, 1] - w[:, 0]) for w in worse])
    assert found.other.value == pytest.approx(expected) and found.difference.low > 0
    assert found.difference.value == pytest.approx(found.own.value - found.other.value)


def test_two_or_three_groups_of_a_class_give_no_interval() -> None:
    rng = np.random.default_rng(0)
    y = np.zeros(100, int)
    y[:20] = 1  # two of ten groups
    logits = rng.normal(size=(100, 2))
    found = evaluate(logits, y, np.arange(100) // 10, ("a", "b"))
    assert found.rarest == 2 and np.isnan([found.auroc.low, found.auroc.high, found.brier.low]).all()
    assert not np.isnan(found.auroc.value)
    assert np.isnan(compare(y, logits, [logits], np.arange(100) // 10, "itself").difference.low)
    assert not np.isnan(evaluate(logits, y, np.arange(100) // 4, ("a", "b")).auroc.low)
