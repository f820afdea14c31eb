"""Clusters, permutation, families, majority votes, Fieller, sweeps' winners and fronts, against other programs and simulation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from experiments.statistics import (
    benjamini_hochberg,
    clustered_difference,
    confirm,
    fieller,
    gap_recovered,
    majority_at_k,
    mcnemar_exact,
    paired_difference,
    pareto_front,
    pass_at_k,
    permutation_test,
    sweep_winner,
    wilson,
    wilson_clustered,
)


def coins(rng: np.random.Generator, p: float | np.ndarray, *shape: int) -> np.ndarray:
    return (rng.random(shape) < p).astype(float)


# Known cases


def test_benjamini_hochberg_equals_statsmodels_and_the_values_that_r_gives() -> None:
    p = [0.01, 0.02, 0.03, 0.04, 0.05]
    assert benjamini_hochberg(p) == pytest.approx([0.05] * 5), "p.adjust(c(.01,.02,.03,.04,.05), 'BH') in R"
    assert benjamini_hochberg([0.001, 0.008, 0.039, 0.041, 0.6]) == pytest.approx([0.005, 0.02, 0.05125, 0.05125, 0.6])
    rng = np.random.default_rng(0)
    values = rng.random(30) ** 2
    assert benjamini_hochberg(values.tolist()) == pytest.approx(multipletests(values, method="fdr_bh")[1])
    assert benjamini_hochberg([]) == ()
    with pytest.raises(ValueError, match="between 0 and 1"):
        benjamini_hochberg([math.nan])


def test_the_permutation_test_equals_enumeration() -> None:
    a, b = [1.0, 2.5, 3.0, 7.0], [0.5, 1.5, 9.0]
    pool, observed = np.array(a + b), abs(np.mean(a) - np.mean(b))
    found = [
        abs(pool[list(c)].mean() - np.delete(pool, list(c)).mean()) >= observed - 1e-12
        for c in itertools.combinations(range(7), 4)
    ]
    assert permutation_test(a, b) == pytest.approx(np.mean(found))
    rng = np.random.default_rng(8)
    x, y = rng.normal(0, 1, 60), rng.normal(0.5, 1, 50)
    assert permutation_test(x, y) == pytest.approx(stats.ttest_ind(x, y).pvalue, abs=0.01)
    with pytest.raises(ValueError, match="two rows"):
        permutation_test([], [1.0])


def test_fieller_equals_the_roots_of_its_quadratic_and_the_delta_method_where_the_gap_is_sure() -> None:
    rng = np.random.default_rng(1)
    bottom = rng.normal(1.0, 0.8, 60)
    top = 0.4 * bottom + rng.normal(0, 0.5, 60)
    found = fieller(top, bottom)
    assert found is not None
    t = stats.t.ppf(0.975, 59)
    for r in (found.low, found.high):
        d = top - r * bottom
        assert abs(d.mean()) / (d.std(ddof=1) / np.sqrt(60)) == pytest.approx(t), (
            "at a bound the t test is just significant"
        )
    assert top.mean() / bottom.mean() in found
    assert fieller(rng.normal(0, 1, 20), rng.normal(0.05, 1, 20)) is None, "the gap may be zero"
    sure = fieller(top, np.ones(60))
    assert sure is not None
    low, high = stats.t.interval(0.95, 59, top.mean(), stats.sem(top))
    assert (sure.low, sure.high) == pytest.approx((low, high))
    with pytest.raises(ValueError, match="equally long"):
        fieller([1.0], [1.0, 2.0])


def test_the_gap_carries_both_intervals() -> None:
    rng = np.random.default_rng(2)
    low, high = coins(rng, 0.2, 300), coins(rng, 0.8, 300)
    found = gap_recovered(low, np.where(rng.random(300) < 0.5, high, low), high)
    assert found.interval is not None and found.fieller is not None
    assert found.fieller.low == pytest.approx(found.interval.low, abs=0.03)
    assert found.fieller.high == pytest.approx(found.interval.high, abs=0.03)
    assert gap_recovered(low, high, low).fieller is None


def test_clusters_of_one_item_are_items_and_copies_add_nothing() -> None:
    rng = np.random.default_rng(3)
    a, b = coins(rng, 0.4, 80), coins(rng, 0.6, 80)
    single, plain = clustered_difference(a, b, np.arange(80)), paired_difference(a, b)
    assert (single.difference, single.n, single.helped, single.hurt) == (plain.difference, 80, plain.helped, plain.hurt)
    assert single.interval.low == pytest.approx(plain.interval.low, abs=0.02)
    copies = clustered_difference(np.repeat(a, 5), np.repeat(b, 5), np.repeat(np.arange(80), 5))
    assert copies.interval.low == pytest.approx(plain.interval.low, abs=0.02) and copies.n == 80
    assert copies.p == pytest.approx(mcnemar_exact(plain.helped, plain.hurt), abs=0.02)
    with pytest.raises(ValueError, match="one cluster per item"):
        clustered_difference(a, b, [1, 2])


def test_the_majority_vote_equals_enumeration_with_ties_shared_and_silence_ignored() -> None:
    answers = [["a", "a", "b", "c"], ["b", None, None, "a"], [None, None, None, None], ["b", "b", "b", "a"]]

    def vote(chosen: tuple[str | None, ...]) -> float:
        said = [c for c in chosen if c is not None]
        top = max((said.count(s) for s in said), default=0)
        best = {s for s in said if said.count(s) == top}
        return 1 / len(best) if "a" in best else 0.0

    for k in (1, 2, 3, 4):
        exact = np.mean([np.mean([vote(c) for c in itertools.combinations(row, k)]) for row in answers])
        found = majority_at_k(answers, ["a"] * 4, k, draws=20_000)
        assert found.value == pytest.approx(exact, abs=0.01) and (found.k, found.n) == (k, 4)
    assert majority_at_k(answers, ["a"] * 4, 4).value == pytest.approx((1 + 0.5 + 0 + 0) / 4, abs=1e-12)
    with pytest.raises(ValueError, match="maj@5"):
        majority_at_k(answers, ["a"] * 4, 5)


def test_the_front_is_what_no_arm_beats() -> None:
    rng = np.random.default_rng(4)
    base = rng.random(200)
    correct = np.stack([base < p for p in (0.5, 0.7, 0.65, 0.7)]).astype(float)
    tokens = np.stack([rng.normal(m, 5, 200) for m in (100, 200, 300, 150)])
    found = {p.name: p for p in pareto_front(["short", "long", "worse", "best"], correct, tokens)}
    assert [n for n, p in found.items() if p.on_front] == ["short", "best"]
    assert found["worse"].beaten_by == "best" and found["long"].beaten_by == "best" and found["best"].beaten_by is None
    assert found["worse"].share < 0.01 and found["short"].share > 0.99 and found["best"].share > 0.99
    worse = found["worse"]
    assert worse.accuracy_difference is not None and worse.accuracy_difference.difference == pytest.approx(
        0.05, abs=0.03
    )
    assert worse.token_difference is not None and worse.token_difference.interval.high < 0
    equal = pareto_front(["a", "b"], correct[:1].repeat(2, 0), tokens[:1].repeat(2, 0))
    assert all(p.on_front and p.share == 1.0 for p in equal), "equal arms do not beat each other"
    silent = np.stack([np.zeros(200), correct[1]])
    (cheap, right) = pareto_front(["cheap", "right"], silent, np.stack([np.ones(200), tokens[1]]))
    assert not cheap.on_front and cheap.share == 0.0 and cheap.beaten_by is None, "what is right nowhere is on no front"
    assert right.on_front and right.share == 1.0
    with pytest.raises(ValueError, match="per arm"):
        pareto_front(["a", "a"], correct[:2], tokens[:2])


# Sweeps


def test_one_cell_is_the_sign_flip_test_and_a_planted_cell_is_found() -> None:
    rng = np.random.default_rng(5)
    baseline = coins(rng, 0.4, 200)
    cells = np.stack([coins(rng, 0.4, 200) for _ in range(48)])
    alone = sweep_winner(baseline, cells[:1])
    assert alone.p == pytest.approx(alone.p_alone)
    assert alone.p == pytest.approx(paired_difference(baseline, cells[0]).p, abs=0.03)
    cells[17] = np.where(rng.random(200) < 0.5, 1.0, baseline)
    found = sweep_winner(baseline, cells)
    assert found.cell == 17 and found.significant and found.p_alone <= found.p < 0.01
    assert 0 <= found.optimism < 0.05 and "48 cells" in found.note
    again = confirm(found, baseline, cells[17])
    assert again.test.difference == pytest.approx(found.difference) and again.lost == pytest.approx(0)
    with pytest.raises(ValueError, match="cells in front"):
        sweep_winner(baseline, baseline)


def test_seeds_of_a_sweep_are_averaged_within_items() -> None:
    rng = np.random.default_rng(6)
    baseline, cells = coins(rng, 0.4, 60), coins(rng, 0.5, 6, 60)
    copied = sweep_winner(np.tile(baseline[:, None], 4), np.tile(cells[:, :, None], 4), resamples=500)
    assert copied == sweep_winner(baseline, cells, resamples=500)


@pytest.mark.slow
def test_a_null_sweep_of_48_cells_reports_a_winner_in_at_most_five_per_cent() -> None:
    rng, wins, naive, lost, optimism = np.random.default_rng(7), 0, 0, [], []
    for _ in range(200):
        ability = rng.beta(1, 1, 120)
        baseline, cells = coins(rng, ability, 120), coins(rng, ability, 48, 120)
        found = sweep_winner(baseline, cells, resamples=999)
        wins += found.significant
        naive += found.p_alone <= 0.05 and found.difference > 0
        lost.append(found.difference)
        optimism.append(found.optimism)
    print(f"null sweeps with a winner: {wins / 200:.3f} corrected, {naive / 200:.3f} not; "
          f"difference {np.mean(lost):.3f}, optimism {np.mean(optimism):.3f}")  # fmt: skip
    assert wins / 200 <= 0.05
    assert naive / 200 > 0.3, "without the correction most null sweeps have a winner, or this proves nothing"
    assert 0.4 * np.mean(lost) < np.mean(optimism) < np.mean(lost), (
        "most of a null winner's difference is known to be luck"
    )


# Coverage


@pytest.mark.slow
@pytest.mark.parametrize(
    "what", ["wilson", "clustered share", "paired", "seeds", "clusters", "gap", "gap Fieller", "pass@k", "maj@k"]
)
def test_intervals_of_95_per_cent_cover_93_to_97(what: str) -> None:
    hits, runs = COVERAGE[what]()
    print(f"coverage of {what}: {hits / runs:.3f} of {runs}")
    assert 0.93 <= hits / runs <= 0.97


def _wilson() -> tuple[int, int]:
    rng = np.random.default_rng(10)
    return sum(0.37 in wilson(int(s), 200) for s in rng.binomial(200, 0.37, 4000)), 4000


def _clustered_share() -> tuple[int, int]:
    rng, hits = np.random.default_rng(11), 0
    for _ in range(2000):
        s = rng.binomial(6, rng.beta(0.8, 1.2, 200))
        hits += 0.4 in wilson_clustered(s, np.full(200, 6))
    return hits, 2000


def _paired() -> tuple[int, int]:
    rng, hits = np.random.default_rng(12), 0
    for _ in range(1000):
        ability = rng.beta(1, 1, 200)
        a, b = coins(rng, ability, 200), coins(rng, 0.2 + 0.8 * ability, 200)
        hits += 0.1 in paired_difference(a, b, resamples=999).interval
    return hits, 1000


def _seeds() -> tuple[int, int]:
    rng, hits = np.random.default_rng(13), 0
    for _ in range(800):
        ability = rng.beta(1, 1, (150, 1))
        a, b = coins(rng, ability, 150, 4), coins(rng, 0.2 + 0.8 * ability, 150, 4)
        hits += 0.1 in paired_difference(a, b, resamples=999).interval
    return hits, 800


def _clusters() -> tuple[int, int]:
    rng, hits, clusters = np.random.default_rng(14), 0, np.repeat(np.arange(120), 4)
    for _ in range(800):
        shift = np.repeat(rng.normal(0.3, 1.0, 120), 4)
        hits += (
            0.3
            in clustered_difference(np.zeros(480), shift + rng.normal(0, 0.5, 480), clusters, resamples=999).interval
        )
    return hits, 800


def _gap(part: str, runs: int) -> tuple[int, int]:
    rng, hits = np.random.default_rng(15), 0
    for _ in range(runs):
        low, high = coins(rng, 0.2, 200), coins(rng, 0.8, 200)
        treated = np.where(rng.random(200) < 0.5, high, coins(rng, 0.2, 200))
        if part == "fieller":
            interval = fieller(treated - low, high - low)
        else:
            interval = gap_recovered(low, treated, high, resamples=1).interval
        assert interval is not None
        hits += 0.5 in interval
    return hits, runs


def _pass() -> tuple[int, int]:
    rng, hits = np.random.default_rng(16), 0
    truth = 1 - np.mean((1 - np.random.default_rng(0).beta(0.7, 1.3, 2_000_000)) ** 4)
    for _ in range(800):
        hits += truth in pass_at_k(rng.binomial(12, rng.beta(0.7, 1.3, 200)), 12, 4).interval
    return hits, 800


def _majority() -> tuple[int, int]:
    rng, hits = np.random.default_rng(17), 0
    p = np.random.default_rng(1).beta(1, 1, 2_000_000)
    truth = np.mean(p**3 + 3 * p**2 * (1 - p))
    for _ in range(600):
        right = coins(rng, rng.beta(1, 1, (150, 1)), 150, 3)
        hits += truth in majority_at_k(right.tolist(), [1.0] * 150, 3).interval
    return hits, 600


COVERAGE = {
    "wilson": _wilson, "clustered share": _clustered_share, "paired": _paired, "seeds": _seeds, "clusters": _clusters,
    "gap": lambda: _gap("recovered", 500), "gap Fieller": lambda: _gap("fieller", 3000), "pass@k": _pass, "maj@k": _majority,
}  # fmt: skip
