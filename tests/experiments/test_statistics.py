"""The statistics against other implementations, enumeration and simulation."""

from __future__ import annotations

import itertools
import math
import time
import tracemalloc

import numpy as np
import pytest
from scipy import stats
from scipy.special import xlogy
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from experiments import statistics
from experiments.statistics import (
    gap_recovered,
    holm,
    mcnemar_exact,
    minimum_detectable_difference,
    paired_difference,
    pass_at_k,
    wilson,
    wilson_clustered,
)
from experiments.statistics.paired import BOUNDED, SCORE
from experiments.statistics.score import score_interval


def coins(rng: np.random.Generator, p: float, *shape: int) -> np.ndarray:
    return (rng.random(shape) < p).astype(float)


# Shares


@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
def test_wilson_equals_statsmodels_for_every_count(level: float) -> None:
    for n in (1, 2, 7, 30, 200):
        for successes in range(n + 1):
            found = wilson(successes, n, level)
            low, high = proportion_confint(successes, n, alpha=1 - level, method="wilson")
            assert (found.low, found.high, found.level) == pytest.approx((low, high, level), abs=1e-12)


def test_wilson_of_a_known_case_and_of_impossible_counts() -> None:
    assert (wilson(8, 10).low, wilson(8, 10).high) == pytest.approx((0.4901625, 0.9433178), abs=1e-6)
    assert wilson(0, 5).low == 0.0 and wilson(5, 5).high == 1.0
    for successes, n in ((0, 0), (3, 2), (-1, 2)):
        with pytest.raises(ValueError, match="0 <= successes <= n"):
            wilson(successes, n)


def test_clustered_wilson_lies_between_independent_samples_and_copies() -> None:
    rng = np.random.default_rng(0)
    items = coins(rng, 0.4, 60)
    ones = np.ones(60)
    assert wilson_clustered(items, ones) == wilson(int(items.sum()), 60)
    copies = wilson_clustered(5 * items, 5 * ones)
    assert (copies.low, copies.high) == pytest.approx(
        (wilson(int(items.sum()), 60).low, wilson(int(items.sum()), 60).high), abs=2e-3
    )
    free = coins(rng, 0.4, 400, 5)
    independent, clustered = wilson(int(free.sum()), 2000), wilson_clustered(free.sum(1), np.full(400, 5))
    assert clustered.high - clustered.low == pytest.approx(independent.high - independent.low, rel=0.1)
    assert wilson_clustered([5, 5, 5], [5, 5, 5]) == wilson(3, 3), "copies of three right items are three, not fifteen"
    with pytest.raises(ValueError, match="successes <= counts"):
        wilson_clustered([2], [1])


def test_clustered_wilson_covers_where_the_plain_interval_does_not() -> None:
    rng, hits, naive = np.random.default_rng(1), 0, 0
    for _ in range(400):
        p = rng.beta(0.6, 1.4, 80)  # mean 0.3; samples of one item are much alike
        successes = rng.binomial(8, p)
        hits += 0.3 in wilson_clustered(successes, np.full(80, 8))
        naive += 0.3 in wilson(int(successes.sum()), 640)
    assert hits / 400 > 0.92 and naive / 400 < 0.8


# Paired differences


def test_mcnemar_equals_statsmodels_and_a_hand_computed_value() -> None:
    for helped, hurt in itertools.product((0, 1, 3, 17, 38), repeat=2):
        if helped + hurt:
            expected = mcnemar([[5, helped], [hurt, 7]], exact=True).pvalue
            assert mcnemar_exact(helped, hurt) == pytest.approx(min(1.0, expected), rel=1e-9)
    assert mcnemar_exact(0, 6) == pytest.approx(2 / 64)
    assert mcnemar_exact(0, 0) == 1.0
    with pytest.raises(ValueError, match="negative"):
        mcnemar_exact(-1, 2)


def test_the_difference_counts_and_tests_binary_pairs() -> None:
    a, b = np.array([0, 0, 0, 1, 1, 1, 0, 0]), np.array([1, 1, 1, 1, 1, 0, 0, 1])
    found = paired_difference(a, b)
    assert (found.difference, found.n, found.helped, found.hurt) == (3 / 8, 8, 4, 1)
    assert found.test == "exact McNemar" and found.p == pytest.approx(mcnemar_exact(4, 1)) == pytest.approx(0.375)
    assert found.mean_square == pytest.approx(5 / 8)
    swapped = paired_difference(b, a)
    assert (swapped.difference, swapped.helped, swapped.hurt, swapped.p) == (-3 / 8, 1, 4, found.p)


def test_resampling_differences_equals_resampling_pairs() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.normal(0, 1, 70), rng.exponential(1.5, 70)

    def difference(x: np.ndarray, y: np.ndarray, axis: int = -1) -> np.ndarray:
        return np.asarray(y.mean(axis=axis) - x.mean(axis=axis))

    options = dict(paired=True, vectorized=True, n_resamples=4000, method="BCa", batch=500_000 // 70)
    expected = stats.bootstrap((a, b), difference, rng=np.random.default_rng(5), **options).confidence_interval
    found = paired_difference(a, b, resamples=4000, seed=5)
    assert (found.interval.low, found.interval.high) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert found.method == "BCa bootstrap" and found.test == "sign-flip permutation over items"


def test_the_bca_interval_equals_its_formula_written_out() -> None:
    rng = np.random.default_rng(3)
    d = rng.exponential(1.0, 40) - 0.6
    n, resamples = len(d), 40_000
    means = np.sort(d[rng.integers(0, n, (resamples, n))].mean(1))
    bias = stats.norm.ppf(((means < d.mean()).mean() + (means <= d.mean()).mean()) / 2)
    left_out = np.array([np.delete(d, i).mean() for i in range(n)])
    pull = left_out.mean() - left_out
    acceleration = (pull**3).sum() / (6 * (pull**2).sum() ** 1.5)
    expected = []
    for z in stats.norm.ppf([0.025, 0.975]):
        share = stats.norm.cdf(bias + (bias + z) / (1 - acceleration * (bias + z)))
        expected.append(np.quantile(means, share))
    found = paired_difference(np.zeros(n), d, resamples=resamples, seed=1).interval
    assert (found.low, found.high) == pytest.approx(expected, abs=0.01)


def test_the_paired_interval_covers_the_true_difference() -> None:
    rng, hits, n = np.random.default_rng(4), 0, 60
    for _ in range(300):
        a = coins(rng, 0.3, n)
        b = np.where(a == 1, coins(rng, 0.9, n), coins(rng, 0.25, n))
        hits += 0.7 * 0.25 - 0.3 * 0.1 in paired_difference(a, b, resamples=999).interval
    assert 0.91 <= hits / 300 <= 0.985


def test_no_interval_is_without_width() -> None:
    same = paired_difference(np.zeros(200), np.zeros(200))
    assert (same.difference, same.p, same.method) == (0, 1, SCORE)
    assert -0.03 < same.interval.low < 0 < same.interval.high < 0.03
    every = paired_difference(np.zeros(9), np.ones(9))
    assert every.interval.low < 0.7 and every.interval.high == pytest.approx(1)
    lone = paired_difference([1.0], [1.0])
    assert lone.interval.low < -0.9 and lone.interval.high > 0.9
    for a, b in (([3.0] * 40, [3.0] * 40), ([0.0] * 5, [7.0] * 5), ([12.0, 90.0], [15.0, 93.0])):
        found = paired_difference(a, b)
        assert found.method == BOUNDED and found.interval.low < found.difference < found.interval.high + 1e-9
        assert found.interval.high - found.interval.low > 0.1
    copies = paired_difference(np.ones((30, 4)), np.ones((30, 4)))
    assert copies.interval.high - copies.interval.low > 0.1


def test_the_score_interval_inverts_the_test_that_it_is_named_after() -> None:
    t = stats.t.ppf(0.975, 39)
    for helped, hurt in ((0, 0), (3, 0), (9, 4), (0, 12), (25, 15), (40, 0)):
        found = score_interval(helped, hurt, 40)
        for bound in (found.low, found.high):
            if abs(bound) > 1 - 1e-6:
                continue
            grid = np.linspace(max(0, -bound), min(1, 1 - max(0, bound)), 200_001)[1:-1]  # shares of hurt pairs
            free = 1 - 2 * grid - bound
            ok = (free > 0) & (grid + bound > 0)
            q, rest = grid[ok], free[ok]
            likelihood = xlogy(helped, q + bound) + xlogy(hurt, q) + xlogy(40 - helped - hurt, rest)
            best = q[np.argmax(likelihood)]
            score = (helped - hurt - 40 * bound) / np.sqrt(40 * (2 * best + bound * (1 - bound)))
            assert abs(score) == pytest.approx(t, rel=2e-3)
        mirrored = score_interval(hurt, helped, 40)
        assert (mirrored.low, mirrored.high) == pytest.approx((-found.high, -found.low))
    with pytest.raises(ValueError, match="at most n"):
        score_interval(5, 6, 10)


def test_seeds_of_an_item_are_not_independent_items() -> None:
    rng = np.random.default_rng(5)
    a, b = coins(rng, 0.3, 50), coins(rng, 0.6, 50)
    once = paired_difference(a, b)
    copied = paired_difference(np.tile(a[:, None], 8), np.tile(b[:, None], 8))
    assert (copied.difference, copied.interval, copied.n) == (once.difference, once.interval, 50)
    assert (copied.helped, copied.hurt) == (once.helped, once.hurt)
    assert once.test == "exact McNemar" and copied.test == "sign-flip permutation over items"
    pretended = paired_difference(np.tile(a, 8), np.tile(b, 8)).interval
    assert copied.interval.high - copied.interval.low > 2 * (pretended.high - pretended.low)


def test_missing_seeds_are_left_out_in_pairs() -> None:
    nan = math.nan
    a = np.array([[1, 0, 1], [0, nan, 0]])
    b = np.array([[1, 1, nan], [1, 1, 0]])
    found = paired_difference(a, b)
    assert found.difference == pytest.approx(((1 + 1) / 2 - (1 + 0) / 2 + (1 + 0) / 2 - 0) / 2)
    with pytest.raises(ValueError, match="item 1 has no sample that all groups hold"):
        paired_difference([[1.0], [nan]], [[1.0], [1.0]])
    for first, second in (((2,), (3,)), ((0,), (0,)), ((2, 2, 2), (2, 2, 2))):
        with pytest.raises(ValueError, match="one common shape"):
            paired_difference(np.zeros(first), np.zeros(second))


def test_the_sign_flip_test_equals_enumeration_and_mcnemar() -> None:
    d = np.array([0.5, 1.0, -0.25, 0.75, 0.5, 1.25, 0.0, 0.25, -0.5, 1.0])
    sums = [abs(np.dot(signs, d)) for signs in itertools.product((-1, 1), repeat=len(d))]
    exact = np.mean(np.array(sums) >= abs(d.sum()) - 1e-9)
    assert paired_difference(np.zeros(10), d).p == pytest.approx(exact, abs=0.008)
    binary = np.array([1.0] * 14 + [-1.0] * 5 + [0.0] * 20)
    assert statistics._sign_flip(binary, 20_000, 0) == pytest.approx(mcnemar_exact(14, 5), abs=0.01)


def test_equal_arguments_give_equal_numbers_and_the_seed_of_a_bootstrap_matters() -> None:
    rng = np.random.default_rng(6)
    a, b = 9 * rng.random(40), 9 * rng.random(40)
    assert paired_difference(a, b, seed=3) == paired_difference(a, b, seed=3)
    assert paired_difference(a, b, seed=3).interval != paired_difference(a, b, seed=4).interval


def test_a_thousand_items_and_ten_thousand_resamples_are_fast_and_small() -> None:
    rng = np.random.default_rng(7)
    a, b = coins(rng, 0.3, 1000), coins(rng, 0.5, 1000)
    paired_difference(a[:10], b[:10])
    began = time.process_time()
    paired_difference(a, b, resamples=10_000)
    assert time.process_time() - began < 0.5
    tracemalloc.start()
    paired_difference(a, b, resamples=10_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40e6, f"{peak / 1e6:.0f} MB: the resamples must not be held all at once"


# The gap


def test_the_gap_recovered_is_the_ratio_of_the_differences() -> None:
    rng = np.random.default_rng(8)
    low, high = coins(rng, 0.1, 200), coins(rng, 0.7, 200)
    treated = coins(rng, 0.4, 200)
    found = gap_recovered(low, treated, high)
    assert found.defined and found.reason is None and found.value is not None and found.interval is not None
    assert found.value == pytest.approx((treated.mean() - low.mean()) / (high.mean() - low.mean()))
    assert found.interval.low < found.value < found.interval.high
    assert (
        found.gap == pytest.approx(high.mean() - low.mean())
        and found.gap_interval == paired_difference(low, high).interval
    )
    for treated, value in ((high, 1.0), (low, 0.0)):
        extreme = gap_recovered(low, treated, high)
        assert extreme.value == value and extreme.interval is not None
        assert value - 0.1 < extreme.interval.low < value < extreme.interval.high < value + 0.1, "it has a width"


def test_the_gap_interval_covers_the_true_share() -> None:
    rng, hits = np.random.default_rng(9), 0
    for _ in range(200):
        low, high = coins(rng, 0.15, 120), coins(rng, 0.75, 120)
        treated = np.where(rng.random(120) < 0.5, high, coins(rng, 0.15, 120))
        interval = gap_recovered(low, treated, high, resamples=799).interval
        assert interval is not None
        hits += 0.5 in interval
    assert 0.9 <= hits / 200 <= 0.99


def test_the_gap_is_undefined_where_its_interval_holds_zero_or_lies_below() -> None:
    rng = np.random.default_rng(10)
    a, b, c = coins(rng, 0.5, 100), coins(rng, 0.9, 100), coins(rng, 0.52, 100)
    near = gap_recovered(a, b, c)
    assert 0 in near.gap_interval, "the gap must be uncertain, or this proves nothing"
    assert (near.defined, near.value, near.interval) == (False, None, None)
    assert near.reason is not None and "may be zero (95 % interval" in near.reason
    below = gap_recovered(b, a, coins(rng, 0.1, 100))
    assert below.value is None and "reference is below the baseline" in str(below.reason)
    assert gap_recovered(a, b, a).reason is not None


def test_the_gap_averages_seeds_within_items() -> None:
    rng = np.random.default_rng(11)
    arrays = [coins(rng, p, 60) for p in (0.1, 0.5, 0.9)]
    copied = gap_recovered(*(np.tile(a[:, None], 4) for a in arrays))
    assert copied == gap_recovered(*arrays)


# pass@k, families, power


def test_pass_at_k_equals_enumeration_of_all_subsets() -> None:
    problems = [[1, 0, 0, 1, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 0], [1, 1, 1, 1, 1], [0, 1, 0, 0, 0]]
    for k in range(1, 6):
        each = [np.mean([max(s) for s in itertools.combinations(p, k)]) for p in problems]
        found = pass_at_k([sum(p) for p in problems], 5, k)
        assert found.value == pytest.approx(np.mean(each)) and (found.k, found.n) == (k, 5)
        assert found.interval.low <= found.value <= found.interval.high
    mixed = pass_at_k([2, 1], [6, 3], 2).value
    assert mixed == pytest.approx((1 - math.comb(4, 2) / math.comb(6, 2) + 1 - math.comb(2, 2) / math.comb(3, 2)) / 2)
    assert pass_at_k([500], 1000, 100).value == pytest.approx(1.0)


def test_pass_at_k_is_unbiased() -> None:
    rng = np.random.default_rng(12)
    found = pass_at_k(rng.binomial(10, 0.2, 4000), 10, 4)
    assert found.value == pytest.approx(1 - 0.8**4, abs=0.017)


@pytest.mark.parametrize(("counts", "samples", "k"), [([3], 2, 1), ([-1], 2, 1), ([1], 2, 3), ([1], 2, 0), ([], 2, 1)])
def test_pass_at_k_refuses_impossible_counts(counts: list[int], samples: int, k: int) -> None:
    with pytest.raises(ValueError, match="pass@"):
        pass_at_k(counts, samples, k)


def test_holm_equals_statsmodels() -> None:
    rng = np.random.default_rng(13)
    for size in (1, 2, 5, 20):
        p = rng.random(size) ** 3
        p[: size // 2] = p[0]
        assert holm(p.tolist()) == pytest.approx(multipletests(p, method="holm")[1])
    assert holm([0.01, 0.04, 0.03]) == pytest.approx((0.03, 0.06, 0.06)) and holm([]) == ()
    with pytest.raises(ValueError, match="between 0 and 1"):
        holm([0.2, 1.2])


@pytest.mark.parametrize(("n", "rate"), [(200, 0.2), (200, 0.5), (1000, 0.1)])
def test_the_detectable_difference_is_found_with_the_stated_power(n: int, rate: float) -> None:
    difference = minimum_detectable_difference(n, rate)
    assert difference is not None
    rng = np.random.default_rng(14)
    shares = [(rate + difference) / 2, (rate - difference) / 2, 1 - rate]
    helped, hurt, _ = rng.multinomial(n, shares, 20_000).T
    z = (helped - hurt) / np.sqrt(np.maximum(helped + hurt, 1))
    assert (np.abs(z) > stats.norm.ppf(0.975)).mean() == pytest.approx(0.8, abs=0.025)
    weaker = minimum_detectable_difference(n, rate, power=0.5)
    assert weaker is not None and weaker < difference


def test_the_detectable_difference_has_enough_discordant_pairs_and_shrinks_with_n() -> None:
    found = [minimum_detectable_difference(n, 0.3) for n in (20, 50, 200, 1000)]
    values = [f for f in found if f is not None]
    assert len(values) == 4 and sorted(values, reverse=True) == values
    none_seen = minimum_detectable_difference(100, 0.0)
    assert none_seen == pytest.approx(0.0767, abs=1e-4), "7.7 pairs of 100, all pointing one way"
    assert none_seen is not None and none_seen == pytest.approx(minimum_detectable_difference(100, none_seen))
    assert minimum_detectable_difference(5, 0.5) is None, "five pairs pointing one way give p = 0.0625"
    assert minimum_detectable_difference(6, 0.5) is not None
    with pytest.raises(ValueError, match="discordant rate"):
        minimum_detectable_difference(10, 1.5)
