"""Queues, memory, sharing and cancellation."""

from __future__ import annotations

import gc
import random

import pytest
import torch

from steering.engine import loop
from steering.engine.generation import Finished, Generation, Row, generate, stream
from steering.engine.prefill import PromptPool
from steering.engine.sampling import GenerationSettings
from steering.errors import Cancelled
from steering.plan.plan import Plan
from tests.tiny import VOCABULARY, plan, tiny

SETTINGS = GenerationSettings(max_new_tokens=8, temperature=1.0)


def rows_of(n: int, seed: int = 0) -> list[Row]:
    rng = random.Random(seed)
    plans = [Plan(), plan(amount=2.0), plan(span="all", amount=1.0), plan(span="last_prompt", amount=3.0)]
    return [
        Row((1, *(rng.randrange(8, VOCABULARY) for _ in range(rng.randint(1, 9)))), rng.choice(plans), seed=i)
        for i in range(n)
    ]


@pytest.mark.slow
def test_ten_thousand_queued_rows_keep_memory_flat_and_lose_none() -> None:
    model, rows = tiny("llama"), rows_of(10_000)
    caches: list[int] = []
    lives: list[int] = []
    seen: set[int] = set()
    fired = 0
    gc.collect()
    gc.freeze()  # what is here already is neither counted nor looked through again
    try:
        for event in stream(model, rows, GenerationSettings(max_new_tokens=6), batch_size=64):
            if isinstance(event, Finished):
                assert event.row not in seen
                seen.add(event.row)
                receipt = event.generation.receipt
                assert receipt.fired == receipt.planned
                fired += receipt.fired
                if len(seen) % 1000 == 0:
                    gc.collect()
                    held = [o for o in gc.get_objects() if isinstance(o, torch.Tensor)]
                    caches.append(sum(t.numel() * t.element_size() for t in held))
                    lives.append(len(held))
                    del held
    finally:
        gc.unfreeze()
    assert caches[0] > 0 and lives[0] > 0
    assert seen == set(range(10_000)) and fired > 0
    assert max(caches[1:]) <= 1.1 * caches[0] and max(lives[1:]) <= 1.2 * lives[0] + 50


@pytest.mark.parametrize("batch_size", [3, 7])
def test_refill_compaction_and_order_change_no_row(batch_size: int) -> None:
    model, rows = tiny("qwen2"), rows_of(24)
    alone = [generate(model, [row], SETTINGS)[0].token_ids for row in rows]
    assert [g.token_ids for g in generate(model, rows, SETTINGS, batch_size=batch_size)] == alone
    shuffled = list(range(24))
    random.Random(1).shuffle(shuffled)
    found = generate(model, [rows[i] for i in shuffled], SETTINGS, batch_size=batch_size)
    assert [g.token_ids for g in found] == [alone[i] for i in shuffled]


def test_each_prompt_is_read_once_whatever_number_of_plans_leave_it_unedited(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny("llama")
    pools: list[PromptPool] = []

    class Counted(PromptPool):
        def __init__(self, *args: object) -> None:
            super().__init__(*args)  # type: ignore[arg-type]
            pools.append(self)

    monkeypatch.setattr(loop, "PromptPool", Counted)
    prompts = [(1, *range(10 + i, 18 + i)) for i in range(3)]
    generated = [Row(p, plan(amount=a)) for p in prompts for a in (1.0, 2.0, 3.0, 4.0)]
    generate(model, generated, SETTINGS, batch_size=64)
    assert pools[-1].tokens_read == 3 * 9 and not pools[-1].entries
    last = [Row(p, plan(span="last_prompt", amount=a)) for p in prompts for a in (1.0, 2.0, 3.0, 4.0)]
    generate(model, last, SETTINGS, batch_size=5)
    assert pools[-1].tokens_read == 3 * 8 + 12 and not pools[-1].entries


def test_layers_below_the_first_edited_one_are_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny("llama")
    computed = {layer: 0 for layer in range(3)}
    for layer, block in enumerate(model.layout.blocks):
        original = block.attention.forward  # type: ignore[union-attr]

        def counted(*args: object, layer: int = layer, original: object = original, **kwargs: object) -> object:
            hidden = args[0] if args else kwargs["hidden_states"]
            computed[layer] += hidden.shape[0] * hidden.shape[1]  # type: ignore[attr-defined]
            return original(*args, **kwargs)  # type: ignore[operator]

        monkeypatch.setattr(block.attention, "forward", counted)
    prompt = (1, *range(10, 19))
    rows = [Row(prompt, plan(span="all", layer=2, amount=a)) for a in (1.0, 2.0, 3.0, 4.0)]
    generate(model, rows, GenerationSettings(1))
    assert computed == {0: 10, 1: 10, 2: 10 + 4 * 10}, "one shared reading, and four of the last layer alone"


def test_cancelling_keeps_what_is_done_and_the_rest_can_be_run_later() -> None:
    model, rows = tiny("llama"), rows_of(30, seed=5)
    whole = generate(model, rows, SETTINGS, batch_size=6)
    for stop_after in (1, 9, 17):
        calls = iter(range(10**6))
        kept: dict[int, Generation] = {}
        with pytest.raises(Cancelled) as caught:
            generate(model, rows, SETTINGS, batch_size=6, cancel=lambda calls=calls, n=stop_after: next(calls) >= n)  # type: ignore[misc]
        for index, generation in caught.value.generations.items():
            if generation.finish == "cancelled":
                assert whole[index].token_ids[: len(generation.token_ids)] == generation.token_ids
            else:
                kept[index] = generation
        rest = [i for i in range(30) if i not in kept]
        assert rest
        later = dict(zip(rest, generate(model, [rows[i] for i in rest], SETTINGS, batch_size=6), strict=True))
        assert [(kept | later)[i].token_ids for i in range(30)] == [g.token_ids for g in whole]


def test_stop_strings_penalties_and_bias() -> None:
    model = tiny("llama")
    prompt = (1, 20, 21)
    (plain,) = generate(model, [Row(prompt)], GenerationSettings(8))
    third = model.tokenizer.decode([plain.token_ids[2]])
    (stopped,) = generate(model, [Row(prompt)], GenerationSettings(8, stop_strings=(third,)))
    assert (
        stopped.finish == "stop"
        and stopped.token_ids == plain.token_ids[: plain.token_ids.index(plain.token_ids[2]) + 1]
    )
    (biased,) = generate(model, [Row(prompt)], GenerationSettings(8, logit_bias=((33, 1e4),)))
    assert set(biased.token_ids) == {33}
    rows = [Row((1, *range(10, 10 + n))) for n in (3, 6)]
    for generation in generate(model, rows, GenerationSettings(8, repetition_penalty=1e6)):
        assert len(set(generation.token_ids)) == len(generation.token_ids)
        assert not set(generation.token_ids) & set(generation.prompt_ids)
