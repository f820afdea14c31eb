"""A bias on logits at the positions of a span: what a naive loop writes, and nothing but the choice of tokens changes."""

from __future__ import annotations

import math
import random

import pytest
import torch

from steering.compile.coverage import continued
from steering.engine.bias import Bias
from steering.engine.generation import Row, generate
from steering.engine.predicted import logprobs_along
from steering.engine.sampling import GenerationSettings
from steering.errors import BadInput, NeverFired
from steering.model.models import LoadedModel
from steering.plan.span import Span
from tests.steering.test_language import prompt
from tests.tiny import plan, tiny

SETTINGS = GenerationSettings(max_new_tokens=8)
SPANS = (
    "last_prompt",
    "generated",
    "first_n:2",
    "window:1:4",
    "all",
    "prompt",
    'at:"w20"',
    "sentence_starts",
    "generated - first_n:1",
)


@torch.inference_mode()
def naive(model: LoadedModel, row: Row, settings: GenerationSettings) -> tuple[tuple[int, ...], int]:
    """The whole text read again for every token, with the bias added where the span covers the newest position."""
    tokens, added = list(row.begun), 0
    while len(tokens) < settings.max_new_tokens:
        text = [*row.prompt_ids, *tokens]
        logits = model.model(torch.tensor([text])).logits[0, -1].float()
        assert row.bias is not None
        if len(text) - 1 in continued(model, row.bias.span, row.prompt_ids, tokens):
            logits[list(row.bias.ids)] += row.bias.nats
            added += 1
        tokens.append(int(logits.argmax()))
        if tokens[-1] in model.eos_ids:
            break
    return tuple(tokens), added


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma3"])
def test_a_bias_writes_what_a_naive_loop_writes_over_every_kind_of_span(name: str) -> None:
    model, rng, changed = tiny(name), random.Random(3), 0
    rows = []
    for span in SPANS:
        for nats in (2.0, 30.0, -3.0):
            ids = tuple(rng.sample(range(8, 61), 2))
            begun = tuple(rng.sample(range(8, 61), rng.choice((0, 2))))
            rows.append(Row(prompt(rng), begun=begun, bias=Bias(ids, nats, Span.parse(span))))
    rows = fired(model, rows)
    assert len(rows) > 18
    mixed = [*rows, *(Row(row.prompt_ids, begun=row.begun) for row in rows)]
    whole = generate(model, mixed, SETTINGS, batch_size=7)
    for row, found, plain in zip(rows, whole[: len(rows)], whole[len(rows) :], strict=True):
        tokens, added = naive(model, row, SETTINGS)
        assert (found.token_ids, found.biased) == (tokens, added), row.bias
        changed += found.token_ids != plain.token_ids
        assert plain.biased == 0
    assert changed > 8


def fired(model: LoadedModel, rows: list[Row]) -> list[Row]:
    """The rows whose bias is added somewhere; the others are refused."""
    kept = []
    for row in rows:
        if naive(model, row, SETTINGS)[1]:
            kept.append(row)
            continue
        with pytest.raises(NeverFired, match="bias with span"):
            generate(model, [row], SETTINGS)
    return kept


def test_the_recorded_numbers_stay_those_of_the_model_as_run() -> None:
    model = tiny("llama")
    row = Row((1, 9, 10), bias=Bias((30,), 50.0, Span.parse("last_prompt | generated")))
    (found,) = generate(model, [row], SETTINGS)
    assert set(found.token_ids) == {30} and found.biased == len(found.token_ids)
    (along,) = logprobs_along(model, [Row((1, 9, 10), begun=found.token_ids)], (30, 31))
    assert along.shape == (len(found.token_ids), 2)
    assert along[:, 0].tolist() == pytest.approx(list(found.logprob), abs=1e-4)
    assert max(found.logprob) < -0.01, "the model itself was not sure of the token that was forced"


def test_a_bias_stands_beside_a_plan_and_is_its_own_in_every_row() -> None:
    model, steering = tiny("llama"), plan(span="generated", amount=6.0)
    bias = Bias((30,), 1e4, Span.parse("last_prompt"))
    rows = [Row((1, 9, 10), steering, bias=bias), Row((1, 9, 10), steering), Row((1, 9, 10), bias=bias), Row((1, 9))]
    both, steered, one, plain = generate(model, rows, SETTINGS)
    assert both.token_ids[0] == one.token_ids[0] == 30 != steered.token_ids[0]
    assert both.receipt.planned == both.receipt.fired > 0 and (both.biased, steered.biased, one.biased) == (1, 0, 1)
    assert both.token_ids == generate(model, [rows[0]], SETTINGS)[0].token_ids
    assert plain.token_ids == generate(model, [rows[3]], SETTINGS)[0].token_ids


def test_sampled_rows_draw_from_the_biased_distribution() -> None:
    model, settings = tiny("llama"), GenerationSettings(1, temperature=1.0)
    bias = Bias((30, 31), 2.5, Span.parse("last_prompt"))
    count = 4000
    drawn = generate(model, [Row((1, 9, 10), seed=n, bias=bias) for n in range(count)], settings, batch_size=500)
    logits = model.model(torch.tensor([[1, 9, 10]])).logits[0, -1].float().detach().clone()
    logits[[30, 31]] += 2.5
    expected = float(logits.softmax(-1)[[30, 31]].sum())
    share = sum(g.token_ids[0] in (30, 31) for g in drawn) / count
    assert abs(share - expected) < 4 * math.sqrt(expected * (1 - expected) / count)


def test_a_bias_that_cannot_be_meant_is_refused() -> None:
    model = tiny("llama")
    for ids, nats, said in (((), 1.0, "without tokens"), ((7, 7), 1.0, "twice"), ((7,), math.inf, "finite number")):
        with pytest.raises(BadInput, match=said):
            Bias(ids, nats, Span.parse("last_prompt"))
    with pytest.raises(BadInput, match=r"Row 0: Id 61 .*0 to 60"):
        generate(model, [Row((1, 9), bias=Bias((61,), 1.0, Span.parse("last_prompt")))], SETTINGS)
    with pytest.raises(BadInput, match="covers no position"):
        generate(model, [Row((1, 9), bias=Bias((30,), 1.0, Span.parse("after_n:50")))], SETTINGS)
