"""Hybrid decoding against a naive hybrid, and what it may and may not see."""

from __future__ import annotations

import copy
import random
from dataclasses import replace

import pytest
import torch

from steering.engine.generation import Row, generate
from steering.engine.sampling import GenerationSettings
from steering.errors import BadInput, Cancelled
from steering.hybrid import Controller, HybridRow, decode
from steering.hybrid.alignment import align, check_vocabularies
from steering.hybrid.batch import Hybrid
from steering.hybrid.legacy import legacy_token
from steering.model.models import wrap
from steering.model.sites import Site
from tests.tiny import CONFIGS, tiny

from .pairs import NAMES, K, bank, naive, read, readout, rule, thinking

NEW = 10


def prompts(n: int, seed: int = 0, low: int = 2, high: int = 9) -> list[list[int]]:
    rng = random.Random(seed)
    return [[1, *(rng.randrange(5, 61) for _ in range(rng.randint(low, high)))] for _ in range(n)]


@pytest.mark.parametrize("family", CONFIGS)
def test_a_batch_of_all_rules_equals_the_naive_hybrid(family: str) -> None:
    base, think = tiny(family), thinking(family)
    rules = {name: rule(name) for name in NAMES}
    asked = [(name, prompt, seed) for seed, prompt in enumerate(prompts(2)) for name in NAMES]
    rows = [HybridRow(tuple(prompt), rules[name], seed=seed) for name, prompt, seed in asked]
    found = decode(base, think, rows, GenerationSettings(NEW), batch_size=17)
    opened: dict[str, int] = {}
    for (name, prompt, seed), generation in zip(asked, found, strict=True):
        tokens, gated = naive(base, think, prompt, rules[name], NEW, seed)
        assert list(generation.token_ids) == tokens, (name, seed)
        assert [choice.token for choice in generation.choices] == gated, (name, seed)
        opened[name] = opened.get(name, 0) + len(gated)
        assert generation.receipt.planned == generation.receipt.fired
        assert len(generation.receipt.ratio) == len(prompt) + len(tokens)
    assert all(opened.values()), opened


@pytest.mark.parametrize("family", ["qwen2", "gemma2"])
def test_rows_do_not_depend_on_their_batch(family: str) -> None:
    base, think = tiny(family), thinking(family)
    rows = [HybridRow(tuple(p), rule(name), seed=i) for i, p in enumerate(prompts(4, 1)) for name in NAMES[:6]]
    settings = GenerationSettings(NEW)
    together = decode(base, think, rows, settings, batch_size=24)
    random.Random(0).shuffle(order := list(range(len(rows))))
    mixed = decode(base, think, [rows[i] for i in order], settings, batch_size=5)
    assert [together[i].token_ids for i in order] == [g.token_ids for g in mixed]
    for i, g in zip(order, mixed, strict=True):
        mine, theirs = together[i].choices, g.choices
        assert [replace(c, alpha=0.0) for c in mine] == [replace(c, alpha=0.0) for c in theirs]
        assert [c.alpha for c in mine] == pytest.approx([c.alpha for c in theirs], nan_ok=True, rel=1e-4)
    for index in (0, 5, 11):
        (alone,) = decode(base, think, [rows[index]], settings)
        assert alone.token_ids == together[index].token_ids


def test_prompts_may_differ() -> None:
    base, think, controller = tiny("qwen3"), thinking("qwen3"), rule("hybrid")
    rows = [HybridRow(tuple(p), controller, (1, 30, 31, *p)) for p in prompts(4, 2)]
    found = decode(base, think, rows, GenerationSettings(NEW), batch_size=3)
    for row, generation in zip(rows, found, strict=True):
        tokens, _ = naive(base, think, list(row.prompt_ids), controller, NEW, thinking_prompt=list(row.theirs))
        assert list(generation.token_ids) == tokens


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_shifts_without_effect_write_the_bases_own_text(family: str) -> None:
    base, think, asked = tiny(family), thinking(family), prompts(6, 3)
    settings = GenerationSettings(NEW)
    plain = generate(base, [Row(tuple(p)) for p in asked], settings)
    found = decode(base, think, [HybridRow(tuple(p), rule("no effect")) for p in asked], settings)
    assert [g.token_ids for g in found] == [g.token_ids for g in plain]
    assert sum(len(g.choices) for g in found) > 0
    assert all(size == 0 for g in found for size in g.receipt.ratio)
    for mine, theirs in zip(found, plain, strict=True):
        assert mine.logprob == pytest.approx(theirs.logprob, abs=1e-5)


def test_the_second_reading_leaves_the_cache_as_it_was() -> None:
    """Keys and values of the columns that a row sees, byte for byte, before and after a shifted reading."""
    base, think, controller = tiny("llama"), thinking("llama"), rule("hybrid")
    rows = [HybridRow(tuple(p), controller) for p in prompts(3, 4)]
    compared = 0

    def bytes_seen(run: Hybrid, place: int) -> list[bytes]:
        columns = run.one.seen[place]
        return [
            part[place][:, columns].numpy().tobytes()
            for layer in run.one.cache.layers
            for part in (layer.keys, layer.values)
        ]

    with Hybrid(base, think, rows, NEW, 3) as run:
        while run.busy:
            before = {
                place: (row, bytes_seen(run, place))
                for place, row in enumerate(run.rows)
                if row is not None and row.wish is not None
            }
            held = list(run.rows)
            run.step()
            for place, (row, seen) in before.items():
                if len(run.rows) == len(held) and run.rows[place] is row:
                    assert bytes_seen(run, place) == seen
                    compared += 1
    assert compared > 3


def test_packing_the_cache_changes_nothing() -> None:
    base, think = tiny("mistral"), thinking("mistral")
    rows = [
        HybridRow(tuple(p), rule(name), seed=i)
        for i, p in enumerate(prompts(2, 5))
        for name in ("hybrid", "entropy, kept")
    ]
    settings = GenerationSettings(20)
    calm = decode(base, think, rows, settings)
    packed = []
    with torch.inference_mode(), Hybrid(base, think, rows, 20, 4) as run:
        while run.busy:
            run.one.pack()
            run.two.pack()
            packed += run.step()
    assert [g.token_ids for g in calm] == [tuple(w.tokens) for w in sorted(packed, key=lambda w: w.index)]


def test_the_choice_never_sees_the_thinking_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """A spy that turns the thinking model's token into another one that also differs from the base's changes no text."""
    base, think, controller = tiny("qwen2"), thinking("qwen2"), rule("hybrid")
    rows = [HybridRow(tuple(p), controller) for p in prompts(5, 6)]
    told = decode(base, think, rows, GenerationSettings(NEW))
    head, mine = think.model.get_output_embeddings(), base.model.get_output_embeddings()
    latest: dict[str, torch.Tensor] = {}
    note = mine.register_forward_hook(lambda m, a, out: latest.update(base=out[:, -1].argmax(-1)))

    def lie(module: object, args: object, out: torch.Tensor) -> torch.Tensor:
        own, other = out[:, -1].argmax(-1), latest["base"]
        if len(own) != len(other):
            return out
        lied = (own + 7) % out.shape[-1]
        lied = torch.where(lied == other, (lied + 1) % out.shape[-1], lied)
        lied = torch.where(own == other, own, lied)
        return out.scatter(2, lied[:, None, None], 1e4)

    spy = head.register_forward_hook(lie)
    try:
        lied_to = decode(base, think, rows, GenerationSettings(NEW))
    finally:
        spy.remove()
        note.remove()
    assert [g.token_ids for g in lied_to] == [g.token_ids for g in told]
    assert [c.matched for g in lied_to for c in g.choices] != [c.matched for g in told for c in g.choices]


def test_only_the_text_ends_a_row() -> None:
    """A thinking model that always wants to end does not end the base's text."""
    base, controller = tiny("llama"), rule("no effect")
    silent = wrap(type(base.model)(base.model.config).float(), base.tokenizer, id="silent")
    silent.model.load_state_dict(base.model.state_dict())
    hook = silent.model.get_output_embeddings().register_forward_hook(
        lambda m, a, out: out.index_fill(2, torch.tensor([2]), 1e4)
    )
    asked = [HybridRow(tuple(p), controller) for p in prompts(4, 7)]
    try:
        found = decode(base, silent, asked, GenerationSettings(NEW))
    finally:
        hook.remove()
    plain = generate(base, [Row(r.prompt_ids) for r in asked], GenerationSettings(NEW))
    assert [g.token_ids for g in found] == [g.token_ids for g in plain]


def test_a_legacy_candidate_is_the_likeliest_to_the_thinking_model() -> None:
    base, made = tiny("qwen2"), bank(size=6.0)
    ids, likes = [1, 20, 21, 22, 23, 24], torch.randn(61, generator=torch.Generator().manual_seed(0))
    token, logits = legacy_token(base, made, 1, ids, 4, likes, coefficients=(0.5, 1.0), windows=(None, 1))
    candidates = []
    for coefficient in (0.5, 1.0):
        for width in (1, 3):  # `None` covers the two generated tokens and the prompt's last
            shift = coefficient * made.vectors[1]
            kept = {position: shift for position in range(len(ids) - width, len(ids) - 1)}
            candidates.append(int(read(base, ids, [Site(1)], kept, shift, Site(1))[0].argmax()))
    assert token == max(candidates, key=lambda t: float(likes[t]))
    assert int(logits.argmax()) == token
    controller = Controller("disagreement", "thinking", "legacy", made, readout(Site(2)))
    (found,) = decode(base, thinking("qwen2"), [HybridRow((1, 20, 21), controller)], GenerationSettings(6))
    assert found.choices


def test_a_cancelled_hybrid_keeps_what_it_has_and_leaves_no_hook() -> None:
    base, think = tiny("qwen2"), thinking("qwen2")
    rows = [HybridRow(tuple(p), rule("hybrid")) for p in prompts(6, 8)]
    calls = iter(range(100))
    with pytest.raises(Cancelled) as caught:
        decode(base, think, rows, GenerationSettings(30), batch_size=3, cancel=lambda: next(calls) > 8)
    whole = decode(base, think, rows, GenerationSettings(30), batch_size=3)
    assert caught.value.generations
    for index, part in caught.value.generations.items():
        assert part.token_ids == whole[index].token_ids[: len(part.token_ids)]
    for model in (base, think):
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.model.modules())


def test_what_cannot_run_is_refused() -> None:
    base, think = tiny("qwen2"), thinking("qwen2")
    settings, asked = GenerationSettings(4), rule("hybrid")
    with pytest.raises(BadInput, match="greedy"):
        decode(base, think, [HybridRow((1, 20), asked)], GenerationSettings(4, temperature=1.0))
    with pytest.raises(BadInput, match="needs the thinking model"):
        decode(base, None, [HybridRow((1, 20), asked)], settings)
    with pytest.raises(BadInput, match="empty prompt"):
        decode(base, think, [HybridRow((), asked)], settings)
    with pytest.raises(BadInput, match="exceed the context"):
        decode(base, think, [HybridRow((1,) * 126, asked)], settings)
    other = replace(bank(), site=Site(0))
    with pytest.raises(BadInput, match="one site"):
        decode(
            base,
            think,
            [HybridRow((1, 20), asked), HybridRow((1, 20), Controller("disagreement", "random", bank=other))],
            settings,
        )
    wide = replace(bank(), vectors=torch.ones(K, 20), trunk=torch.ones(1, 8, 20))
    with pytest.raises(BadInput, match="cannot steer"):
        decode(base, think, [HybridRow((1, 20), Controller("disagreement", "random", bank=wide))], settings)


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        (dict(when="sometimes"), "Unknown when"),
        (dict(when="disagreement"), "needs bank"),
        (dict(when="disagreement", which="only", bank=bank(2)), "one vector"),
        (dict(when="disagreement", bank=bank()), "needs categories"),
        (dict(when="disagreement", bank=bank(), categories=readout(Site(2), 4)), "4 categories do not fit"),
        (dict(when="trigger", which="only", bank=bank(1)), "needs trigger"),
        (dict(when="anywhere", which="only", bank=bank(1), share=0.0), "share is 0"),
        (dict(when="disagreement", how="substitute", bank=bank()), "takes no bank"),
        (dict(when="disagreement", how="substitute", revert=False), "Only a shift"),
    ],
)
def test_a_controller_without_what_it_needs_is_refused(wrong: dict, match: str) -> None:
    with pytest.raises(BadInput, match=match):
        Controller(**wrong)


def test_controllers_read_back_from_their_facts() -> None:
    for name in NAMES:
        made = rule(name)
        parts = {r.digest: r for r in (made.categories, made.trigger) if r is not None}
        banks = {made.bank.digest: made.bank} if made.bank is not None else {}
        biases = {made.facts["bias"]: made.bias} if made.bias is not None else {}
        again = Controller.from_facts(made.facts, banks, parts, biases)
        assert again.digest == made.digest
    digests = {rule(name).digest for name in NAMES}
    assert len(digests) == len(NAMES)
    with pytest.raises(BadInput, match="Unknown bank"):
        Controller.from_facts(rule("hybrid").facts, {}, {}, {})


def test_models_of_other_vocabularies_are_refused() -> None:
    base, think = tiny("qwen2"), thinking("qwen2")
    check_vocabularies(base, think)
    renamed = copy.deepcopy(base.tokenizer)
    renamed.add_tokens(["hello"])
    with pytest.raises(BadInput, match="do not share a vocabulary: 1 ids differ"):
        check_vocabularies(base, wrap(think.model, renamed, probe=False))


def test_a_response_is_aligned_by_its_characters() -> None:
    base, think = tiny("qwen2"), thinking("qwen2")
    found = align(base, think, "<bos> w9 w10 ", "<bos> w9 w10 <think> ", "w11 ; w12")
    assert found.pairs == ((3, 4), (4, 5), (5, 6))
    with pytest.raises(BadInput, match="No token"):
        align(base, think, "w9 ", "w9 w1", "0")


@pytest.mark.parametrize("name", ["hybrid", "substitute", "entropy", "bias"])
@pytest.mark.parametrize("which", ["base", "thinking"])
def test_a_row_whose_numbers_break_ends_and_leaves_the_others_alone(name: str, which: str) -> None:
    broken = 9
    models = {"base": copy.deepcopy(tiny("llama").model), "thinking": copy.deepcopy(thinking("llama").model)}
    with torch.no_grad():
        models[which].model.embed_tokens.weight[broken] = float("nan")
    base, think = (
        wrap(model, tiny("llama").tokenizer, id=f"tiny-{role}", probe=False) for role, model in models.items()
    )
    controller = rule(name)
    asked = [tuple(p) for p in prompts(6, 8)]
    asked = [
        (*p[:2], broken, *p[2:]) if n % 3 == 0 else tuple(t for t in p if t != broken) for n, p in enumerate(asked)
    ]
    rows = [HybridRow(p, controller, seed=n) for n, p in enumerate(asked)]
    asks = which == "base" or controller.needs_thinking
    for row, found in zip(rows, decode(base, think, rows, GenerationSettings(NEW), batch_size=2), strict=True):
        (alone,) = decode(base, think, [row], GenerationSettings(NEW))
        assert found.token_ids == alone.token_ids and found.finish == alone.finish
        if broken in row.prompt_ids and asks:
            assert found.finish == "nonfinite" and found.token_ids == () and found.nonfinite is not None
            assert len(found.receipt.ratio) == len(row.prompt_ids)
        elif broken not in found.token_ids:
            assert found.finish != "nonfinite"
