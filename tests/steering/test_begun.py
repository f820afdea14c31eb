"""Rows that go on from the beginning of a response: they write what an uninterrupted row writes."""

from __future__ import annotations

import itertools
import math
import random

import pytest

from steering.engine.generation import Generation, Row, generate
from steering.engine.sampling import GenerationSettings
from steering.errors import BadInput, NeverFired
from steering.plan.plan import Plan
from tests.steering.test_language import GATES, OPERATIONS, SPANS, prompt
from tests.tiny import plan, tiny

SETTINGS = GenerationSettings(max_new_tokens=7)
SAMPLED = GenerationSettings(max_new_tokens=7, temperature=1.0)


def agree(whole: Generation, again: Generation, begun: int) -> None:
    """The text, its finish, its numbers after the beginning, and its receipt are those of the uninterrupted row."""
    assert (again.prompt_ids, again.token_ids, again.finish) == (whole.prompt_ids, whole.token_ids, whole.finish)
    assert all(math.isnan(x) for x in (*again.logprob[:begun], *again.entropy[:begun]))
    assert again.logprob[begun:] == pytest.approx(whole.logprob[begun:], abs=2e-4)
    per_token = len(whole.top_ids) // len(whole.token_ids)
    assert again.top_ids[begun * per_token :] == whole.top_ids[begun * per_token :]
    assert (again.receipt.planned, again.receipt.fired) == (whole.receipt.planned, whole.receipt.fired)
    assert again.receipt.ratio == pytest.approx(whole.receipt.ratio, rel=1e-3, abs=1e-5)


def continued(rows: list[Row], wholes: list[Generation], model_name: str, settings: GenerationSettings) -> int:
    """Every row again from every cut of its text, all in one call; how many were compared."""
    model = tiny(model_name)
    cuts = [
        (row, whole, cut) for row, whole in zip(rows, wholes, strict=True) for cut in range(1, len(whole.token_ids))
    ]
    again = generate(
        model, [Row(r.prompt_ids, r.plan, r.seed, w.token_ids[:c]) for r, w, c in cuts], settings, batch_size=16
    )
    for (_, whole, cut), found in zip(cuts, again, strict=True):
        agree(whole, found, cut)
    return len(cuts)


@pytest.mark.parametrize("name", ["llama", "gemma3", "gpt2"])
def test_a_row_that_goes_on_from_its_own_beginning_writes_the_rest_of_it(name: str) -> None:
    rng, model, seen = random.Random(5), tiny(name), 0
    gates = [gate for kind, gate in GATES.items() if kind != "entropy"]
    chosen = [one for n, one in enumerate(itertools.product(OPERATIONS, SPANS, gates)) if n % 17 == 0]
    for operation, span, gate in chosen:
        made = plan(span=span, gate=gate, **operation)  # type: ignore[arg-type]
        row = Row(prompt(rng), made, seed=len(chosen))
        try:
            whole = generate(model, [row], SETTINGS)
            seen += continued([row], whole, name, SETTINGS)
        except (NeverFired, BadInput):
            continue
    assert seen > 100


def test_draws_go_on_where_they_were_and_prompts_are_shared_between_cuts() -> None:
    rng, model = random.Random(6), tiny("llama")
    same = prompt(rng)
    rows = [
        Row(same if n % 2 else prompt(rng), Plan() if n % 3 else plan(span="generated", amount=2.0), seed=n)
        for n in range(12)
    ]
    wholes = generate(model, rows, SAMPLED)
    assert len({whole.token_ids for whole in wholes}) > 6
    assert continued(rows, wholes, "llama", SAMPLED) > 40


def test_many_continuations_of_one_beginning_are_read_once_and_are_their_own_draws() -> None:
    model, whole = tiny("llama"), generate(tiny("llama"), [Row((1, 9, 11))], SETTINGS)[0]
    begun = whole.token_ids[:3]
    found = generate(model, [Row((1, 9, 11), seed=n, begun=begun) for n in range(32)], SAMPLED)
    assert {one.token_ids[:3] for one in found} == {begun}
    assert len({one.token_ids for one in found}) > 8
    alone = [generate(model, [Row((1, 9, 11), seed=n, begun=begun)], SAMPLED)[0] for n in range(32)]
    assert [one.token_ids for one in alone] == [one.token_ids for one in found]


def test_the_last_prompt_token_stays_the_last_one_of_the_prompt() -> None:
    model, steered = tiny("llama"), plan(span="last_prompt", amount=3.0)
    found = generate(model, [Row((1, 9, 11), steered, begun=(12, 13))], SETTINGS)[0]
    assert found.receipt.positions == (2,)


@pytest.mark.parametrize(
    ("begun", "words"),
    [(tuple(range(8, 15)), "none is left to generate"), ((9, 2), "has ended"), ((9,), "entropy was not measured")],
)
def test_beginnings_that_cannot_be_gone_on_from_are_refused(begun: tuple[int, ...], words: str) -> None:
    model = tiny("llama")
    gated = plan(span="generated", amount=1.0, gate=GATES["entropy"])
    row = Row((1, 9), gated if words.startswith("entropy") else Plan(), begun=begun)
    if 2 in begun:
        assert 2 in model.eos_ids
    with pytest.raises(BadInput, match=words):
        generate(model, [row], SETTINGS)
