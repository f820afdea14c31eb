"""Mistakes that steering libraries have made, each as a test here."""

from __future__ import annotations

import random

import torch

from steering.engine.generation import Finished, Row, Step, generate, stream
from steering.engine.sampling import GenerationSettings
from steering.model.prompts import encode_prompt, token_texts
from steering.plan.plan import Gate, Plan, Span
from tests.naive import naive_generate
from tests.tiny import VOCABULARY, plan, tiny, vector

SETTINGS = GenerationSettings(max_new_tokens=8)


def prompts(n: int) -> list[tuple[int, ...]]:
    rng = random.Random(3)
    return [(1, *(rng.randrange(8, VOCABULARY) for _ in range(rng.randint(2, 9)))) for _ in range(n)]


def test_generated_only_is_not_silently_unsteered() -> None:
    """steering-vectors: min_token_index at the prompt's length gave exactly the unsteered tokens."""
    model = tiny("llama")
    steered = generate(model, [Row(p, plan(amount=5.0)) for p in prompts(8)], SETTINGS)
    bare = generate(model, [Row(p) for p in prompts(8)], SETTINGS)
    assert any(s.token_ids != b.token_ids for s, b in zip(steered, bare, strict=True))
    assert all(s.receipt.fired == len(s.token_ids) - 1 for s in steered)


def test_a_vector_is_added_once() -> None:
    """CAA: activations were added twice. The ratio in the receipt is that of one addition."""
    model = tiny("llama")
    (one,) = generate(model, [Row(prompts(1)[0], plan(amount=0.3, unit="residual"))], SETTINGS)
    sizes = [one.receipt.ratio[p] for p in one.receipt.positions]
    assert sizes and torch.allclose(torch.tensor(sizes), torch.tensor(0.3), atol=1e-5)


def test_the_dose_is_multiplied_in() -> None:
    """axbench: the magnitude was never multiplied in."""
    model = tiny("llama")
    sizes = []
    for amount in (1.0, 2.0, -4.0):
        (found,) = generate(model, [Row(prompts(1)[0], plan(span="last_prompt", amount=amount))], SETTINGS)
        sizes.append(max(found.receipt.ratio))
    assert torch.allclose(torch.tensor(sizes) / sizes[0], torch.tensor([1.0, 2.0, 4.0]), rtol=1e-4)


def test_a_gate_is_decided_per_row_and_ignores_padding() -> None:
    """IBM activation-steering: row 0 decided for the batch, and left pads were averaged in."""
    model = tiny("llama")
    gated = plan(amount=5.0, span="all", gate=Gate("projection", 0.0, vector=vector(9)))
    rows = [Row(p, gated) for p in prompts(10)]
    together = generate(model, rows, SETTINGS)
    alone = [generate(model, [row, Row((1, 20, 21), gated)], SETTINGS, batch_size=1)[0] for row in rows]
    assert [g.token_ids for g in together] == [g.token_ids for g in alone]
    assert [g.receipt.positions for g in together] == [g.receipt.positions for g in alone]
    assert len({g.receipt.fired / g.receipt.planned for g in together}) > 3, (
        "rows must differ for this to prove anything"
    )


def test_two_edits_at_one_site_both_act() -> None:
    """lm-eval: of two features at one place only the last was kept."""
    model = tiny("gpt2")
    one, two = plan(amount=3.0, seed=1), plan(amount=3.0, seed=2)
    both = Plan(one.interventions + two.interventions)
    rows = [Row(p, q) for p in prompts(6) for q in (both, one, two)]
    found = generate(model, rows, SETTINGS)
    for start in range(0, len(found), 3):
        assert found[start].receipt.fired == 2 * (len(found[start].token_ids) - 1)
        assert list(found[start].token_ids) == naive_generate(model, rows[start].prompt_ids, both, 8)
    assert any(
        found[i].token_ids not in (found[i + 1].token_ids, found[i + 2].token_ids) for i in range(0, len(found), 3)
    )


def test_prompts_hold_one_bos_however_they_were_made() -> None:
    """open-r1, neuronpedia: a chat template wrote a second BOS."""
    model = tiny("llama")
    assert encode_prompt(model, "<bos> w20 w21").count(1) == 1


def test_the_cache_changes_nothing() -> None:
    """neuronpedia: KV cache on and off gave different steered texts."""
    model = tiny("gemma2")
    for span in ("all", "prompt", "generated", "position:1"):
        row = Row(prompts(2)[1], plan(span=span, amount=3.0))
        assert list(generate(model, [row], SETTINGS)[0].token_ids) == naive_generate(model, row.prompt_ids, row.plan, 8)


def test_a_batched_row_equals_the_row_alone() -> None:
    """TransformerLens, nnsight, unsloth: left padding changed rows of a batch."""
    for family in ("gpt2", "qwen2", "gpt_neox"):
        model = tiny(family)
        rows = [
            Row(p, plan(span=s, amount=3.0))
            for p, s in zip(prompts(5), ("all", "prompt", "last_prompt", "generated", "first_n:2"), strict=True)
        ]
        together = generate(model, rows, SETTINGS)
        assert [g.token_ids for g in together] == [generate(model, [row], SETTINGS)[0].token_ids for row in rows]


def test_the_first_sampled_token_is_each_rows_own() -> None:
    """nanochat: one sampled first token was broadcast to all rows of a prompt."""
    model = tiny("llama")
    rows = [Row((1, 20, 21), seed=s) for s in range(32)]
    first = [g.token_ids[0] for g in generate(model, rows, GenerationSettings(1, temperature=1.5))]
    assert len(set(first)) > 4


def test_token_positions_are_those_of_the_ids_fed() -> None:
    """neuronpedia: views were off by one after decoded text was tokenised again."""
    model = tiny("llama")
    row = Row(encode_prompt(model, "w20 wait w21"), plan(span='text:"wait"'))
    (found,) = generate(model, [row], SETTINGS)
    texts = token_texts(model, [*found.prompt_ids, *found.token_ids])
    assert [texts[p] for p in found.receipt.positions] == ["wait"]
    assert len(texts) == len(found.receipt.ratio)


def test_the_streamed_tokens_are_the_final_tokens() -> None:
    model = tiny("llama")
    rows = [Row(p, plan(amount=2.0)) for p in prompts(9)]
    streamed: dict[int, list[int]] = {}
    logprobs: dict[int, list[float]] = {}
    done = {}
    for event in stream(model, rows, SETTINGS, batch_size=4):
        if isinstance(event, Step):
            for row, token, logprob in zip(event.rows, event.token_ids, event.logprob, strict=True):
                streamed.setdefault(row, []).append(token)
                logprobs.setdefault(row, []).append(float(logprob))
        else:
            assert isinstance(event, Finished)
            done[event.row] = event.generation
    assert {row: list(g.token_ids) for row, g in done.items()} == streamed
    assert {row: list(g.logprob) for row, g in done.items()} == logprobs


def test_replaying_a_shared_prompt_does_not_steer_it_again() -> None:
    """ds4: a cached prefix was steered a second time."""
    model = tiny("llama")
    prompt = prompts(1)[0]
    rows = [Row(prompt, plan(span=s, amount=a)) for s in ("last_prompt", "all", "position:1") for a in (1.0, 3.0)] + [
        Row(prompt)
    ]
    for row, found in zip(rows, generate(model, rows, SETTINGS), strict=True):
        assert list(found.token_ids) == naive_generate(model, prompt, row.plan, 8)


def test_reversing_an_ablation_is_not_offered() -> None:
    """SteeringControl: 'reverse' of an ablation did nothing. Here ablation takes no sign, and -v gives the same text as v."""
    model = tiny("llama")
    v = vector(4)
    flipped = type(v)(v.name, v.site, -v.direction, v.provenance)
    texts = []
    for direction in (v, flipped):
        made = Plan((type(plan("ablate").interventions[0])("ablate", direction, Span("all")),))
        texts.append([g.token_ids for g in generate(model, [Row(p, made) for p in prompts(4)], SETTINGS)])
    assert texts[0] == texts[1]
