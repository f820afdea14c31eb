"""Gates by the divergence of two predictions, and by place: what opens, against a loop that reads whole sequences."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from steering.engine.sampling import GenerationSettings
from steering.hybrid import Controller, HybridRow, decode
from steering.hybrid.decisions import divergence, gates
from steering.hybrid.row import Writing
from steering.model.models import LoadedModel, load_model

PROMPTS = ("rules + 15 ; * 9 ; goal 31 start 42 91 9 ?", "rules - 4 ; goal 38 start 42 16 9 ? think first")
NEW = 14


@pytest.fixture(scope="module")
def pair() -> tuple[LoadedModel, LoadedModel]:
    return load_model("builtin:base"), load_model("builtin:thinking")


def predicted(model: LoadedModel, ids: list[int]) -> torch.Tensor:
    with torch.inference_mode():
        return model.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].float()


def naive(p: np.ndarray, q: np.ndarray) -> float:
    m = (p + q) / 2
    return float(sum(np.sum(x[x > 0] * np.log(x[x > 0] / m[x > 0])) for x in (p, q)) / 2)


def test_the_divergence_is_that_of_jensen_and_shannon() -> None:
    logits = torch.randn(5, 40, generator=torch.Generator().manual_seed(0)) * 4
    other = torch.randn(5, 40, generator=torch.Generator().manual_seed(1)) * 4
    found = divergence(logits, other)
    expected = [
        naive(p.numpy(), q.numpy())
        for p, q in zip(logits.softmax(-1).double(), other.softmax(-1).double(), strict=True)
    ]
    assert found.tolist() == pytest.approx(expected, abs=1e-6)
    assert divergence(other, logits).tolist() == pytest.approx(found.tolist(), abs=1e-12)
    assert divergence(logits, logits).abs().max() < 1e-12
    apart = divergence(torch.tensor([[0.0, -1e9]]), torch.tensor([[-1e9, 0.0]]))
    assert float(apart) == pytest.approx(math.log(2))


@pytest.mark.parametrize("threshold", [0.001, 0.1, 0.6])
def test_tokens_are_the_thinking_models_exactly_where_the_predictions_lie_further_apart(
    pair: tuple[LoadedModel, LoadedModel], threshold: float
) -> None:
    base, thinking = pair
    rule = Controller("divergence", how="substitute", threshold=threshold)
    asked = [tuple(base.tokenizer(text)["input_ids"]) for text in PROMPTS]
    found = decode(base, thinking, [HybridRow(ids, rule) for ids in asked], GenerationSettings(NEW))
    opened = 0
    for ids, row in zip(asked, found, strict=True):
        text: list[int] = []
        for place, token in enumerate(row.token_ids):
            one, two = predicted(base, [*ids, *text]), predicted(thinking, [*ids, *text])
            open_ = naive(one.softmax(-1).double().numpy(), two.softmax(-1).double().numpy()) > threshold
            assert token == int((two if open_ else one).argmax())
            assert open_ == (place in {choice.token for choice in row.choices})
            opened += open_
            text.append(token)
    assert opened > 0 or threshold > 0.5


def test_early_positions_are_the_first_ones(pair: tuple[LoadedModel, LoadedModel]) -> None:
    base, thinking = pair
    rule = Controller("early", how="substitute", threshold=3)
    (row,) = decode(
        base, thinking, [HybridRow(tuple(base.tokenizer(PROMPTS[1])["input_ids"]), rule)], GenerationSettings(NEW)
    )
    assert [choice.token for choice in row.choices] == [0, 1, 2] and len(row.token_ids) > 3
    assert Controller.from_facts(rule.facts, {}, {}, {}).digest == rule.digest
    assert Controller("early", how="substitute", threshold=4).digest != rule.digest


def test_rows_asked_together_keep_their_own_thresholds_and_shares() -> None:
    """Rules of one kind in one batch open as each does alone."""
    n = 40
    generator = torch.Generator().manual_seed(0)
    logits, apart = 3 * torch.randn(n, 7, generator=generator), torch.rand(n, generator=generator, dtype=torch.float64)
    kinds = [("divergence", (0.2, 0.5, 0.8)), ("entropy", (0.4, 0.9, 1.4)), ("early", (1.0, 3.0)), ("anywhere", (0.5,))]
    rules = [
        Controller(when, how="substitute", threshold=threshold, share=share)  # type: ignore[arg-type]
        for when, thresholds in kinds
        for threshold in thresholds
        for share in (1.0, 0.3)
    ]
    rows = [Writing(k, HybridRow((1, 2), rules[k % len(rules)], seed=k), tokens=[5] * (k % 4)) for k in range(n)]
    together = gates(rows, [None] * n, apart, logits, {})
    alone = [k for k in range(n) if gates([rows[k]], [None], apart[k : k + 1], logits[k : k + 1], {})]
    assert together == alone and 0 < len(alone) < n
