"""The compiled step: the same rows as the eager one, and no second compilation for another dose."""

from __future__ import annotations

import random

import pytest
import torch

from steering.engine.generation import Row, generate
from steering.engine.sampling import GenerationSettings
from steering.errors import BadInput
from steering.plan.gate import Gate
from steering.plan.plan import Plan
from tests.tiny import VOCABULARY, plan, tiny, vector

pytestmark = pytest.mark.slow


def rows_of(scale: float) -> list[Row]:
    rng = random.Random(4)
    plans = [
        Plan(),
        plan(amount=scale),
        plan("rotate", amount=20 * scale, unit="degrees"),
        plan("clamp", "all", scale, "raw", layer=2),
    ]
    plans += [
        plan(span="generated - specials", amount=scale, schedule="decay:3"),
        plan(gate=GATE, amount=scale, layer=2),
        plan("ablate", "prompt", layer=0),
    ]
    return [Row((1, *(rng.randrange(8, VOCABULARY) for _ in range(rng.randint(1, 8)))), p) for p in plans * 2]


GATE = Gate("projection", 0.0, vector=vector(8))
SETTINGS = GenerationSettings(max_new_tokens=10)


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_the_compiled_step_gives_the_same_rows(family: str) -> None:
    torch._dynamo.reset()
    model = tiny(family)
    for scale in (1.0, 3.0):
        rows = rows_of(scale)
        eager = generate(model, rows, SETTINGS, batch_size=6)
        graph = generate(model, rows, SETTINGS, batch_size=6, compiled=True)
        for one, two in zip(eager, graph, strict=True):
            assert one.token_ids == two.token_ids
            assert one.receipt.positions == two.receipt.positions and one.receipt.fired == two.receipt.fired
            assert torch.allclose(torch.tensor(one.logprob), torch.tensor(two.logprob), atol=1e-4)


def test_another_dose_does_not_compile_again() -> None:
    torch._dynamo.reset()
    model = tiny("llama")
    model.extra.pop("compiled_steps", None)
    generate(model, rows_of(1.0), SETTINGS, batch_size=6, compiled=True)
    with torch._dynamo.config.patch(error_on_recompile=True):
        again = generate(model, rows_of(2.5), SETTINGS, batch_size=6, compiled=True)
    assert [g.token_ids for g in again] == [g.token_ids for g in generate(model, rows_of(2.5), SETTINGS, batch_size=6)]


def test_a_gate_that_calls_a_function_is_not_compiled() -> None:
    gate = Gate("call", 0.0, function=lambda view: view.hidden.sum(-1), name="sum")
    with pytest.raises(BadInput, match="cannot be compiled"):
        generate(tiny("llama"), [Row((1, 20), plan(gate=gate))], SETTINGS, compiled=True)
