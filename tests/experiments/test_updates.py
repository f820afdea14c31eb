"""What is said of updates of weights where the answer is known."""

from __future__ import annotations

import math

import pytest
import torch

from experiments.studies.training.updates import (
    check_alike,
    curve,
    dense_noise,
    effective_rank,
    kind_of,
    matrices,
    moved,
    principal_share,
    transplant,
    unchanged,
)
from steering.errors import BadInput

BEFORE = {
    "a.mlp.weight": torch.randn(40, 30, generator=torch.Generator().manual_seed(0)),
    "b.norm.weight": torch.ones(20),
}


def changed(size: float, count: int) -> dict[str, torch.Tensor]:
    after = {name: value.clone() for name, value in BEFORE.items()}
    after["a.mlp.weight"].view(-1)[:count] += size
    return after


def test_planted_dense_noise_is_dense_in_float32_and_sparse_updates_are_sparse() -> None:
    dense = {
        name: value + 1e-3 * torch.randn(value.shape, generator=torch.Generator().manual_seed(1))
        for name, value in BEFORE.items()
    }
    assert unchanged(BEFORE, dense, 0.0) < 0.01 and unchanged(BEFORE, dense, 1e-5) < 0.02
    few = changed(0.1, 12)
    assert unchanged(BEFORE, few, 0.0) == pytest.approx(1 - 12 / 1220) == unchanged(BEFORE, few, 1e-2)
    assert unchanged(BEFORE, few, 0.2) == 1.0


def test_small_dense_updates_vanish_in_bfloat16_and_not_in_float32() -> None:
    tiny = {name: value * (1 + 1e-5) for name, value in BEFORE.items()}
    ((_, full, half),) = curve(BEFORE, tiny, (0.0,))
    assert full < 0.05 and half > 0.95


def test_noise_of_equal_norm_moves_everything() -> None:
    few = changed(0.1, 12)
    noise = dense_noise(BEFORE, few)
    assert float((noise["a.mlp.weight"] - BEFORE["a.mlp.weight"]).norm()) == pytest.approx(
        0.1 * math.sqrt(12), rel=1e-4
    )
    assert torch.equal(noise["b.norm.weight"], BEFORE["b.norm.weight"]) and unchanged(BEFORE, noise, 0.0) < 0.05


def test_ranks_and_principal_shares_of_matrices_that_are_known() -> None:
    assert effective_rank(torch.eye(7)) == pytest.approx(7) and effective_rank(torch.zeros(3, 3)) == 0
    one = torch.outer(torch.arange(1.0, 6), torch.arange(1.0, 4))
    assert effective_rank(one) == pytest.approx(1, abs=1e-6)
    weights = torch.diag(torch.tensor([5.0, 4.0, 3.0, 2.0]))
    top, low = torch.zeros(4, 4), torch.zeros(4, 4)
    top[0, 0], low[3, 3] = 1.0, 1.0
    assert principal_share(weights, top, 2) == pytest.approx(1) and principal_share(weights, low, 2) == pytest.approx(0)
    assert principal_share(weights, top + low, 2) == pytest.approx(0.5) and math.isnan(
        principal_share(weights, top * 0, 2)
    )


def test_transplants_take_the_furthest_moved_or_drawn_numbers_of_as_large_a_step() -> None:
    after = {name: value + 0.1 for name, value in BEFORE.items()}
    after["b.norm.weight"][4] = 9.0
    furthest, count = transplant(BEFORE, after, 1 / 1220)
    assert count == 1 and float(furthest["b.norm.weight"][4]) == 9.0
    assert torch.equal(furthest["a.mlp.weight"], BEFORE["a.mlp.weight"])
    assert moved(BEFORE, after, 1 / 1220) == pytest.approx(64 / (64 + 0.01 * 1219), rel=1e-4)
    even = {name: value + 0.1 for name, value in BEFORE.items()}
    made, drawn = transplant(BEFORE, even, 0.5, 0)
    assert abs(drawn - 610) <= 1, "numbers that moved alike: as many"
    again, other = transplant(BEFORE, even, 0.5, 0)[0], transplant(BEFORE, even, 0.5, 1)[0]
    assert all(torch.equal(made[name], again[name]) for name in made) and any(
        not torch.equal(made[n], other[n]) for n in made
    )
    top, _ = transplant(BEFORE, after, 0.3)
    spread, many = transplant(BEFORE, after, 0.3, 1)
    steps = [sum(float(((w[n] - BEFORE[n]).double() ** 2).sum()) for n in BEFORE) for w in (top, spread)]
    assert steps[1] >= steps[0] * (1 - 1e-6) and many > 366


def test_kinds_and_models_of_other_shapes() -> None:
    assert [kind_of(n) for n in ("x.self_attn.q", "x.mlp.up", "norm.w", "embed_tokens.w", "z")] == [
        "attention", "MLP", "norms", "embedding", "other",
    ]  # fmt: skip
    assert list(matrices(BEFORE, changed(0.1, 2))) == ["MLP"]
    with pytest.raises(BadInput, match="not of one shape"):
        check_alike(BEFORE, {"a.mlp.weight": BEFORE["a.mlp.weight"]})
    with pytest.raises(BadInput, match="not of one shape"):
        check_alike(BEFORE, {**BEFORE, "b.norm.weight": torch.ones(3)})
