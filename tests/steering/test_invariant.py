"""Batch-invariant generation: the same bits alone, in any batch, in any order, cut in two; and a model for which that fails is refused."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from steering.engine import invariant
from steering.engine.generation import Generation, Row, check_invariant, generate
from steering.engine.sampling import GenerationSettings
from steering.errors import BadInput
from steering.model.models import load_model
from steering.model.prompts import encode_prompt
from steering.model.sites import Site
from steering.plan.plan import Dose, Intervention, Plan, Span
from steering.vector.vectors import Provenance, SteeringVector, random_like
from tests.tiny import VOCABULARY, plan, tiny

FAMILIES = ("llama", "qwen2", "gemma2", "gpt2", "gpt_neox", "mistral")
GREEDY = GenerationSettings(9)
DRAWN = GenerationSettings(9, temperature=1.0, repetition_penalty=1.2)


def rows_of(n: int, seed: int = 0) -> list[Row]:
    rng = random.Random(seed)
    plans = [
        Plan(),
        plan(amount=2.0),
        plan(span="all", amount=1.0),
        plan(span="last_prompt", amount=3.0),
        plan("ablate", "all"),
    ]
    return [
        Row((1, *(rng.randrange(8, VOCABULARY) for _ in range(rng.randint(1, 9)))), rng.choice(plans), seed=i)
        for i in range(n)
    ]


def bits(rows: list[Generation]) -> list[tuple[Any, ...]]:
    """Everything that a row says, to the last bit."""
    return [(g.token_ids, g.finish, g.logprob, g.entropy, g.receipt) for g in rows]


@pytest.mark.parametrize("settings", [GREEDY, DRAWN], ids=["greedy", "drawn"])
@pytest.mark.parametrize("family", FAMILIES)
def test_rows_have_the_same_bits_alone_together_in_any_order_and_after_a_restart(
    family: str, settings: GenerationSettings
) -> None:
    model, rows = tiny(family), rows_of(20)
    together = generate(model, rows, settings, invariant=True)
    alone = [generate(model, [row], settings, invariant=True)[0] for row in rows]
    order = random.Random(1).sample(range(20), 20)
    shuffled = dict(
        zip(order, generate(model, [rows[i] for i in order], settings, batch_size=3, invariant=True), strict=True)
    )
    halves = generate(model, rows[:7], settings, invariant=True) + generate(model, rows[7:], settings, invariant=True)
    assert bits(together) == bits(alone) == bits([shuffled[i] for i in range(20)]) == bits(halves)
    assert [g.token_ids for g in together] == [g.token_ids for g in generate(model, rows, settings)]


def test_a_row_that_edits_its_prompt_reads_it_alike_beside_one_that_does_not() -> None:
    """What a row could share of its prompt depends on its neighbours; on a model wide enough for the shape of a product to be felt."""
    model = load_model("builtin:base")
    vector = random_like(SteeringVector("ones", Site(1), torch.ones(model.d_model), Provenance("test", "none")), 0)
    words = "rules + 15 ; * 9 ; - 4 ; + 7 ; * 3 ; - 8 ; goal 31 start 42 91 16 9 77 ? think first"
    prompt = encode_prompt(model, words)
    rows = []
    for place in (5, 11, 17):
        late = Plan((Intervention("add", vector, Span("position", positions=(place,)), Dose(1.0)),))
        rows.append(Row(prompt, late, seed=place))
    beside = [*rows, Row(prompt), Row(prompt[:-2]), *rows]
    together = generate(model, beside, GREEDY, invariant=True)[:3]
    alone = [generate(model, [row], GREEDY, invariant=True)[0] for row in rows]
    assert bits(together) == bits(alone)


def test_the_fast_mode_does_not_promise_the_bits() -> None:
    """Else the comparison above could not fail."""
    model, rows = tiny("llama"), rows_of(20)
    together, alone = generate(model, rows, GREEDY), [generate(model, [row], GREEDY)[0] for row in rows]
    assert [g.token_ids for g in together] == [g.token_ids for g in alone]
    assert bits(together) != bits(alone)


def test_a_model_whose_rows_feel_their_neighbours_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = replace(tiny("llama"), extra={})

    def leaking(*arguments: Any, **named: Any) -> Any:
        found, weights = invariant.attend(*arguments, **named)
        return found + 1e-6 * found.abs().mean() * (found[1:] != found[:1]).any(), weights

    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS._global_mapping, invariant.NAME, leaking)
    with pytest.raises(BadInput, match="is not batch-invariant on this machine: 4 of 4"):
        check_invariant(model)
    with pytest.raises(BadInput, match="is not batch-invariant"):  # remembered
        generate(model, rows_of(2), GREEDY, invariant=True)
    assert generate(model, rows_of(2), GREEDY)


def test_what_has_shapes_of_its_own_is_refused() -> None:
    model = tiny("llama")
    with pytest.raises(BadInput, match="A compiled step has shapes of its own"):
        generate(model, rows_of(2), GREEDY, invariant=True, compiled=True)
    with pytest.raises(BadInput, match="needs the model itself"):
        generate(replace(model, executor=model.runs, extra={}), rows_of(2), GREEDY, invariant=True)


def test_the_attention_of_own_columns_is_put_back() -> None:
    model = tiny("llama")
    before = model.model.config._attn_implementation

    def stop() -> bool:
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        generate(model, rows_of(3), GREEDY, invariant=True, cancel=stop)
    assert model.model.config._attn_implementation == before
    assert torch.is_inference_mode_enabled() is False
