"""The engine against the naive oracle, and its guarantees."""

from __future__ import annotations

import itertools
import random

import pytest
import torch

from steering.engine.generation import Row, Step, generate, stream
from steering.engine.sampling import GenerationSettings
from steering.errors import BadInput, NeverFired
from steering.plan.gate import Gate
from steering.plan.plan import Plan
from tests.naive import naive_generate, naive_logits
from tests.tiny import CONFIGS, VOCABULARY, plan, tiny, vector

OPERATIONS = [
    ("add", 2.0, "vector"),
    ("add", 0.7, "residual"),
    ("add", -4.0, "raw"),
    ("ablate", 0.0, "raw"),
    ("clamp", 5.0, "raw"),
    ("clamp", 0.5, "residual"),
]
SPANS = ["all", "prompt", "last_prompt", "generated", "first_n:3"]
SETTINGS = GenerationSettings(max_new_tokens=10)


def prompts(n: int, seed: int = 0) -> list[tuple[int, ...]]:
    rng = random.Random(seed)
    return [(1, *(rng.randrange(3, VOCABULARY) for _ in range(rng.randint(1, 14)))) for _ in range(n)]


@pytest.mark.parametrize("family", sorted(CONFIGS))
def test_cached_batched_padded_generation_equals_the_naive_oracle(family: str) -> None:
    model = tiny(family)
    plans = [Plan()]
    for seed, ((operation, amount, unit), span) in enumerate(itertools.product(OPERATIONS, SPANS)):
        kind, layer = ("resid_pre", seed % 3) if seed % 4 == 0 else ("resid_post", seed % 3)
        plans.append(plan(operation, span, amount, unit, seed=seed, layer=layer, kind=kind))
    two = plan("add", "all", 1.0, seed=3).interventions + plan("clamp", "generated", 2.0, "raw", seed=4).interventions
    plans.append(Plan(two))
    rows = [Row(prompt, p) for prompt, p in zip(prompts(len(plans)), plans, strict=True)]
    try:
        generations = generate(model, rows, SETTINGS, batch_size=13)
    except NeverFired as silent:  # a row of its own plan may end before its span begins; it is compared all the same
        generations = silent.generations
    bare = generate(model, [Row(row.prompt_ids) for row in rows], SETTINGS)
    changed = 0
    for row, generation, unsteered in zip(rows, generations, bare, strict=True):
        assert list(generation.token_ids) == naive_generate(model, row.prompt_ids, row.plan, 10), row.plan.to_yaml()
        logits = naive_logits(model, [*row.prompt_ids, *generation.token_ids], row.plan, len(row.prompt_ids))
        logprobs = logits.log_softmax(-1)[len(row.prompt_ids) - 1 : -1]
        expected = [float(logprobs[i, t]) for i, t in enumerate(generation.token_ids)]
        assert torch.allclose(torch.tensor(generation.logprob), torch.tensor(expected), atol=2e-3)
        changed += generation.token_ids != unsteered.token_ids
    assert changed >= 10, "the plans must move the text, or this comparison proves nothing"


def test_an_unsteered_row_in_a_steered_batch_equals_the_unsteered_run() -> None:
    model = tiny("qwen2")
    texts = prompts(6, seed=4)
    mixed = [Row(p, plan("add", "all", 5.0) if i % 2 else Plan()) for i, p in enumerate(texts)]
    alone = generate(model, [Row(p) for p in texts], SETTINGS)
    for i, generation in enumerate(generate(model, mixed, SETTINGS)):
        if i % 2 == 0:
            assert generation.token_ids == alone[i].token_ids and generation.receipt == alone[i].receipt
            assert torch.allclose(torch.tensor(generation.logprob), torch.tensor(alone[i].logprob), atol=1e-5)


def test_zero_dose_is_bit_identical_to_no_hook() -> None:
    model = tiny("llama")
    for span in SPANS:
        steered = generate(model, [Row(p, plan("add", span, 0.0)) for p in prompts(5)], SETTINGS)
        bare = generate(model, [Row(p) for p in prompts(5)], SETTINGS)
        assert [g.token_ids for g in steered] == [g.token_ids for g in bare]
        if span in ("generated", "first_n:3"):  # the same forward passes, so the same bits
            assert [g.logprob for g in steered] == [g.logprob for g in bare]
        for one, two in zip(steered, bare, strict=True):
            assert torch.allclose(torch.tensor(one.logprob), torch.tensor(two.logprob), atol=1e-5)


def test_adding_twice_is_adding_double() -> None:
    model = tiny("llama")
    once = plan("add", "generated", 1.5).interventions
    double = generate(model, [Row(p, Plan(once + once)) for p in prompts(5)], SETTINGS)
    single = generate(model, [Row(p, plan("add", "generated", 3.0)) for p in prompts(5)], SETTINGS)
    assert [g.token_ids for g in double] == [g.token_ids for g in single]
    assert all(d.receipt.fired == 2 * s.receipt.fired for d, s in zip(double, single, strict=True))


def test_generated_only_steering_differs_from_unsteered() -> None:
    model = tiny("llama")
    steered = generate(model, [Row(p, plan("add", "generated", 5.0)) for p in prompts(8)], SETTINGS)
    bare = generate(model, [Row(p) for p in prompts(8)], SETTINGS)
    assert any(s.token_ids[1:] != b.token_ids[1:] for s, b in zip(steered, bare, strict=True))
    assert all(s.token_ids[0] == b.token_ids[0] for s, b in zip(steered, bare, strict=True)), (
        "the first token is chosen at the prompt"
    )


def test_a_row_is_the_same_alone_in_any_batch_and_in_any_order() -> None:
    model = tiny("mistral")
    settings = GenerationSettings(max_new_tokens=12, temperature=1.0, top_p=0.95)
    rows = [Row(p, plan("add", s, 2.0), seed=i) for i, (p, s) in enumerate(zip(prompts(10), SPANS * 2, strict=True))]
    together = generate(model, rows, settings)
    assert [generate(model, [row], settings)[0].token_ids for row in rows] == [g.token_ids for g in together]
    backwards = generate(model, rows[::-1], settings, batch_size=3)
    assert [g.token_ids for g in backwards[::-1]] == [g.token_ids for g in together]


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_span_that_follows_the_text_is_edited_in_a_row_that_runs_alone(family: str) -> None:
    model, fired = tiny(family), 0
    for prompt in prompts(6, seed=5):
        (bare,) = generate(model, [Row(prompt)], SETTINGS)
        if len(bare.token_ids) < 6:
            continue
        for span in (f"at:{bare.token_ids[3]}", f"after:{bare.token_ids[2]}:2"):
            row = Row(prompt, plan("add", span, 8.0, "raw", seed=2, layer=1))
            (alone,) = generate(model, [row], SETTINGS)
            assert list(alone.token_ids) == naive_generate(model, prompt, row.plan, 10), span
            assert alone.receipt.fired == alone.receipt.planned > 0
            fired += alone.token_ids != bare.token_ids
    assert fired >= 2, "the edits must move the text, or this comparison proves nothing"


def test_first_sampled_token_differs_across_rows() -> None:
    model = tiny("llama")
    rows = [Row((1, 5, 6), seed=s) for s in range(24)]
    first = {g.token_ids[0] for g in generate(model, rows, GenerationSettings(1, temperature=1.5))}
    assert len(first) > 4


def test_receipt_says_where_edits_fired_and_how_large_they_were() -> None:
    model = tiny("qwen2")
    prompt = prompts(1)[0]
    row = Row(prompt, plan("add", "first_n:3", 0.25, "residual"))
    (generation,) = generate(model, [row], SETTINGS)
    start = len(prompt)
    assert generation.receipt.positions == (start, start + 1, start + 2)
    assert generation.receipt.planned == generation.receipt.fired == 3
    assert torch.allclose(
        torch.tensor([generation.receipt.ratio[p] for p in generation.receipt.positions]), torch.tensor(0.25), atol=1e-5
    )
    assert len(generation.receipt.ratio) == len(prompt) + len(generation.token_ids)


def test_hooks_are_gone_after_an_exception_and_after_a_dropped_stream() -> None:
    model = tiny("llama")

    def hooks() -> int:
        return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.model.modules())

    before, ids = hooks(), torch.tensor([[1, 4, 5, 6]])
    with torch.inference_mode():
        plain = model.model(ids).logits
        events = stream(model, [Row((1, 4, 5), plan("add", "all", 1.0))], SETTINGS)
        next(events)
        assert torch.equal(model.model(ids).logits, plain), "a stream that is held leaves other passes alone"
    other = stream(model, [Row((1, 4, 5), plan("add", "all", -3.0))], SETTINGS)
    turns = [[e.token_ids[0] for e in pair if isinstance(e, Step)] for pair in zip(events, other, strict=False)]
    alone = [generate(model, [Row((1, 4, 5), plan("add", "all", a))], SETTINGS)[0] for a in (1.0, -3.0)]
    assert [turn[0] for turn in turns[:5]] == list(alone[0].token_ids[1:6]), "two streams take turns on one model"
    assert [turn[1] for turn in turns[:5]] == list(alone[1].token_ids[:5])
    events.close()
    other.close()
    assert hooks() == before
    original = model.model.lm_head.forward
    model.model.lm_head.forward = lambda *a, **k: 1 / 0
    try:
        with pytest.raises(ZeroDivisionError):
            generate(model, [Row((1, 4, 5), plan("add", "all", 1.0))], SETTINGS)
    finally:
        model.model.lm_head.forward = original
    assert hooks() == before


def test_steps_carry_what_each_rows_own_gates_read() -> None:
    model = tiny("llama")
    gates = [Gate("projection", 0.0, vector=vector(8)), Gate("cosine", 0.1, below=True, vector=vector(9))]
    plans = [
        plan(gate=gates[0]),
        Plan(),
        Plan(plan(gate=gates[1]).interventions + plan(gate=gates[0], layer=2).interventions),
    ]
    rows = [Row(p, q) for p in prompts(3) for q in plans]
    read: dict[int, list[tuple[float, ...]]] = {index: [] for index in range(len(rows))}
    done = {}
    for event in stream(model, rows, SETTINGS, batch_size=4, silent_ok=True):
        if isinstance(event, Step):
            for row, values in zip(event.rows, event.gate_values, strict=True):
                read[row].append(values)
        else:
            done[event.row] = event.generation
    for index, row in enumerate(rows):
        asked = sum(i.gate is not None for i in row.plan.interventions)
        start, kept = len(row.prompt_ids) - 1, done[index].receipt.gate_values
        assert len(kept) == asked and all(len(values) == asked for values in read[index])
        for gate in range(asked):
            expected = torch.tensor(kept[gate][start:-1])
            assert torch.equal(torch.tensor([v[gate] for v in read[index]]).nan_to_num(7.0), expected.nan_to_num(7.0))
            assert not expected[1:].isnan().any()


def test_a_plan_that_never_fires_raises_and_keeps_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny("llama")
    row = Row((1, 4, 5), plan("add", "generated", 1.0))
    with pytest.raises(NeverFired, match="ended before the span began") as caught:
        generate(model, [row], GenerationSettings(max_new_tokens=1))
    assert len(caught.value.generations) == 1
    monkeypatch.setattr("steering.model.executor.hooked", lambda layout, edits: __import__("contextlib").nullcontext())
    with pytest.raises(NeverFired, match="covers 9 edits but 0 were made"):
        generate(model, [row], SETTINGS)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (Row(()), "empty prompt"),
        (Row(tuple(range(1, 60)) * 3), "exceed the context"),
        (Row((1, 5), plan("add", "all", layer=7)), "has 3 layers, 0 to 2"),
        (Row((1, 5), plan("add", "all", width=9)), "has width 9, but tiny-llama has d_model 16"),
    ],
)
def test_bad_rows_are_refused_before_any_forward_pass(row: Row, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny("llama")
    monkeypatch.setattr(type(model.model), "forward", lambda *a, **k: pytest.fail("a forward pass ran"))
    with pytest.raises(BadInput, match=message):
        generate(model, [Row((1, 5)), row], SETTINGS)
