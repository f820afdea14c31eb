"""Prompts read by many rows from one copy: the same rows as with a copy each."""

from __future__ import annotations

import random

import pytest
import torch

from steering.engine import loop
from steering.engine.generation import Finished, Generation, Row, generate, stream
from steering.engine.prefix import SharedPrompts, can_share
from steering.engine.sampling import GenerationSettings
from steering.errors import NeverFired
from steering.model.cache import Masks
from steering.plan.plan import Gate, Plan
from tests.tiny import CONFIGS, VOCABULARY, plan, tiny, vector

SETTINGS = GenerationSettings(max_new_tokens=12)


def prompts(n: int, seed: int = 5) -> list[tuple[int, ...]]:
    rng = random.Random(seed)
    return [(1, *(rng.randrange(8, VOCABULARY) for _ in range(rng.randint(2, 19)))) for _ in range(n)]


def plans() -> list[Plan]:
    gate = Gate("projection", 0.0, vector=vector(8))
    return [
        Plan(),
        plan(amount=3.0),
        plan("rotate", amount=30.0, unit="degrees"),
        plan("clamp", "first_n:4", 4.0, "raw", layer=2),
        plan(amount=2.0, schedule="decay:3", layer=0),
        plan(gate=gate, amount=4.0),
        plan(span="all", amount=1.5),
        plan("ablate", "last_prompt", layer=0),
        plan(span="position:1", amount=2.0),
        plan(amount=-3.0, kind="attn_out"),
    ]


def watched(monkeypatch: pytest.MonkeyPatch) -> list[SharedPrompts]:
    """Every copy of shared prompts that is made from now on."""
    made: list[SharedPrompts] = []

    class Watched(SharedPrompts):
        def __init__(self, *args: object) -> None:
            super().__init__(*args)  # type: ignore[arg-type]
            made.append(self)

    monkeypatch.setattr(loop, "SharedPrompts", Watched)
    return made


def both_ways(
    monkeypatch: pytest.MonkeyPatch, family: str, rows: list[Row], batch_size: int, settings: GenerationSettings
) -> list[list[Generation]]:
    found = []
    for least in (1, 10**9):
        monkeypatch.setattr(loop, "ROWS_PER_PROMPT", least)
        try:
            found.append(generate(tiny(family), rows, settings, batch_size=batch_size))
        except NeverFired as silent:  # where a gate stays shut throughout, the rows are compared all the same
            found.append([g for g in silent.generations if g is not None])
    return found


@pytest.mark.parametrize("family", sorted(CONFIGS))
def test_shared_prompts_give_the_rows_of_copied_ones(monkeypatch: pytest.MonkeyPatch, family: str) -> None:
    made = watched(monkeypatch)
    rows = [Row(p, q) for p in prompts(4) for q in plans()]
    random.Random(1).shuffle(rows)
    for batch_size in (3, 16):
        shared, copied = both_ways(monkeypatch, family, rows, batch_size, SETTINGS)
        for one, two in zip(shared, copied, strict=True):
            assert one.token_ids == two.token_ids
            assert (one.receipt.planned, one.receipt.fired) == (two.receipt.planned, two.receipt.fired)
            assert torch.allclose(torch.tensor(one.logprob), torch.tensor(two.logprob), atol=2e-4)
            assert torch.allclose(torch.tensor(one.receipt.ratio), torch.tensor(two.receipt.ratio), atol=1e-4)
    assert len(made) == 2 and all(shared.calls == tiny(family).n_layers for shared in made)


def test_samples_are_the_same_and_long_queues_shift_and_refill(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [Row(p, q, seed) for seed, (p, q) in enumerate((p, q) for p in prompts(9, 2) for q in plans()[:9])]
    settings = GenerationSettings(20, temperature=1.0)
    shared, copied = both_ways(monkeypatch, "gemma2", rows, 7, settings)
    assert [g.token_ids for g in shared] == [g.token_ids for g in copied]
    assert len({len(g.token_ids) for g in shared}) > 3, "lengths must differ for rows to be refilled one by one"


def test_a_prompt_is_stored_once_while_rows_continue_it(monkeypatch: pytest.MonkeyPatch) -> None:
    made = watched(monkeypatch)
    model = tiny("qwen2")
    rows = [Row(p, plan(amount=a / 10)) for p in prompts(30) for a in range(1, 9)]
    slots = 0
    for event in stream(model, rows, SETTINGS, batch_size=16):
        slots = max(slots, len(made[0].slots))
        if isinstance(event, Finished):
            assert event.generation.receipt.fired == event.generation.receipt.planned
    assert slots <= 6, "16 rows of 8 per prompt continue few prompts at a time"
    assert made[0].keys[0] is not None and len(made[0].keys[0]) <= 2 * slots


def test_rows_of_their_own_prompts_are_not_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "SharedPrompts", None)
    generate(tiny("llama"), [Row(p) for p in prompts(6)], SETTINGS)


def test_a_model_with_another_attention_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny("llama")
    masks = Masks(model.model.config)
    assert can_share(model, masks)
    model.extra.pop("shares_prompts")
    attention = model.layout.blocks[1].layer.self_attn
    monkeypatch.setattr(attention, "num_key_value_groups", 1)
    original = type(attention).forward

    def biased(self: torch.nn.Module, *args: object, **kwargs: object) -> object:
        out, weights = original(self, *args, **kwargs)
        return out * (2.0 if self.config._attn_implementation == "steering_shared_prompts" else 1.0), weights

    monkeypatch.setattr(type(attention), "forward", biased)
    assert not can_share(model, masks)
    model.extra.pop("shares_prompts")
    assert model.model.config._attn_implementation in ("sdpa", "eager")


def test_the_attention_is_the_models_own_after_an_exception() -> None:
    model = tiny("llama")
    before, original = model.model.config._attn_implementation, model.model.lm_head.forward
    calls = 0

    def failing(*args: object, **kwargs: object) -> object:
        nonlocal calls
        calls += 1
        return original(*args, **kwargs) if calls < 4 else 1 / 0

    model.model.lm_head.forward = failing
    try:
        with pytest.raises(ZeroDivisionError):
            generate(model, [Row((1, 20, 21), plan(amount=float(a))) for a in range(1, 9)], SETTINGS)
    finally:
        model.model.lm_head.forward = original
    assert model.model.config._attn_implementation == before
