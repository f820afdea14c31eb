"""Reinforced vectors: the gradient is that of finite differences, the forced pass reads what the engine wrote, and a planted reward is
learned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from steering.engine.generation import Row, generate
from steering.engine.record import Generation
from steering.engine.sampling import GenerationSettings
from steering.errors import BadInput
from steering.extraction.place import Place, sizes_of
from steering.extraction.policy import Rollout, logprobs, packed
from steering.extraction.reinforced import (
    Reinforced,
    Reinforcing,
    advantages,
    begin,
    plan_of,
    policy_loss,
    reinforce,
    reinforced_vectors,
)
from steering.model.models import LoadedModel
from steering.model.sites import Site
from steering.plan.plan import Plan
from steering.plan.span import Span
from tests.naive import spans_position
from tests.tiny import tiny

POOL = [(1, 5, 9, 12), (1, 7), (1, 8, 8, 8, 9, 10), (1, 30, 31), (1, 40, 2, 3), (1, 11)]
ROLLOUTS = [Rollout((1, 5, 9, 12), (20, 21, 22)), Rollout((1, 7), (30,)), Rollout((1, 8, 8, 9), (40, 3, 4, 5, 6))]
FAMILIES = ["llama", "gpt2", "mistral"]


def places(*layers: int, size: float = 4.0) -> list[Place]:
    """Of size √d: a coordinate's root mean square is 1."""
    return [Place(Site(layer), size) for layer in layers]


def drawn(model: LoadedModel, sites: list[Site], size: float = 2.0, seed: int = 0) -> dict[Site, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {site: size * torch.randn(model.d_model, generator=generator).to(model.dtype) for site in sites}


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox"])
def test_the_gradient_equals_finite_differences(family: str) -> None:
    """In float64, on families whose norms do not fall back to float32."""
    model = tiny(family)
    model.model.double()
    try:
        sites, spec = [Site(0), Site(1)], Reinforcing(clip=(0.2, 0.28))
        batches = packed(model, ROLLOUTS, Span.parse("last_prompt | generated"))
        vectors = {site: v.double().requires_grad_() for site, v in drawn(model, sites).items()}
        gain = torch.tensor([1.0, -0.5, 0.25], dtype=torch.float64)
        with torch.no_grad():  # an older policy, so that some ratios are clipped
            shifted = {site: v + 0.3 for site, v in vectors.items()}
            old = [logprobs(model, batch, shifted) for batch in batches]

        def loss() -> Tensor:
            total = torch.zeros((), dtype=torch.float64)
            for batch, before in zip(batches, old, strict=True):
                own = logprobs(model, batch, vectors, 0.8)
                total = total + policy_loss(own, before, gain[list(batch.texts)][batch.of], spec)[0]
            return total

        found = torch.autograd.grad(loss(), list(vectors.values()))
        for (_, vector), gradient in zip(vectors.items(), found, strict=True):
            assert float(gradient.norm()) > 0
            for place in (0, 3, 7, model.d_model - 1):
                with torch.no_grad():
                    ends = []
                    for step in (1e-5, -2e-5):
                        vector[place] += step
                        ends.append(float(loss()))
                    vector[place] += 1e-5
                assert (ends[0] - ends[1]) / 2e-5 == pytest.approx(float(gradient[place]), rel=1e-5, abs=1e-8)
    finally:
        model.model.float()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("span", ["all", "last_prompt", "generated", "first_n:2", "prompt | window:1:3"])
def test_the_forced_pass_reads_what_the_engine_wrote(family: str, span: str) -> None:
    model = tiny(family)
    vectors = {site: v.float() for site, v in drawn(model, [Site(0), Site(1)]).items()}
    plan = plan_of(model, vectors, span)
    rows = [Row(prompt, plan, seed) for seed, prompt in enumerate(POOL * 2)]
    texts = generate(model, rows, GenerationSettings(9, temperature=1.0))
    rollouts = [Rollout(text.prompt_ids, text.token_ids) for text in texts]
    seen: dict[int, list[float]] = {}
    with torch.no_grad():
        for batch in packed(model, rollouts, Span.parse(span)):
            found = logprobs(model, batch, vectors)
            for row, number in enumerate(batch.texts):
                seen[number] = found[batch.of == row].tolist()
    assert any(len(text.token_ids) > 3 for text in texts)
    for number, text in enumerate(texts):
        assert seen[number] == pytest.approx(text.logprob, abs=2e-5)


def naive_gradient(
    model: LoadedModel,
    texts: list[Generation],
    gains: np.ndarray,
    vectors: Mapping[Site, Tensor],
    span: Span,
    limit: int,
) -> dict[Site, Tensor]:
    """One text at a time, one position at a time; no ratio, which is 1."""
    total = {site: torch.zeros_like(v) for site, v in vectors.items()}
    for text, gain in zip(texts, gains, strict=True):
        own = {site: v.clone().requires_grad_() for site, v in vectors.items()}
        ids, prompt = (*text.prompt_ids, *text.token_ids[:-1]), len(text.prompt_ids)
        edited = [spans_position(span, p, list(ids), prompt, model) for p in range(len(ids))]
        handles = []
        for site, v in own.items():

            def hook(module: object, args: object, output: Any, v: Tensor = v, edited: list[bool] = edited) -> Any:
                hidden = output if isinstance(output, Tensor) else output[0]
                new = torch.stack([hidden[:, p] + (v if here else 0) for p, here in enumerate(edited)], 1)
                return new if isinstance(output, Tensor) else (new, *output[1:])

            handles.append(model.layout.layers[site.layer].register_forward_hook(hook))
        try:
            logits = model.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
        finally:
            for handle in handles:
                handle.remove()
        chances = logits.float().log_softmax(-1)
        loss = -sum(chances[prompt - 1 + n, token] for n, token in enumerate(text.token_ids)) * float(gain)
        for site, gradient in zip(
            own, torch.autograd.grad(loss / (len(texts) * limit), list(own.values())), strict=True
        ):
            total[site] += gradient
    return total


def test_an_update_equals_the_naive_loop() -> None:
    """The first Adam step from given moments, with the gradient of a loop over texts and positions."""
    model, spec = (
        tiny("llama"),
        Reinforcing(updates=1, prompts=3, samples=4, max_new_tokens=6, span="last_prompt | generated", rate=0.3),
    )
    where = places(0, 1)
    start = begin(model, where, replace(spec, start_norm=0.75))
    written: list[Generation] = []

    def reward(number: int, text: Generation) -> float:
        written.append(text)
        return float(sum(text.token_ids) % 3)

    (state,) = reinforce(model, POOL, reward, start, where, spec)
    gains = advantages(np.array([float(sum(text.token_ids) % 3) for text in written]), spec)
    assert len(written) == 12 and (gains != 0).any()
    wanted = naive_gradient(model, written, gains, start.values, Span.parse(spec.span), spec.max_new_tokens)
    for site, gradient in wanted.items():
        noise = 1e-4 * float(gradient.abs().max())  # of float32, in which the two loops add up in another order
        assert torch.allclose(state.moments[site][0], 0.1 * gradient, rtol=1e-3, atol=0.1 * noise)
        change = start.values[site] - state.values[site]
        solid = gradient.abs() > max(1e-6, 2 * noise)
        assert solid.any() and torch.allclose(change[solid], 0.3 * gradient.sign()[solid], atol=0.01)


def writes(token: int) -> Any:
    return lambda number, text: float(token in text.token_ids[:1])


def first_tokens(model: LoadedModel, plan: Plan | None) -> list[int]:
    rows = [Row(prompt, plan) if plan else Row(prompt) for prompt in POOL]
    return [text.token_ids[0] for text in generate(model, rows, GenerationSettings(1))]


QUICK = Reinforcing(
    updates=25, prompts=6, samples=24, max_new_tokens=2, span="last_prompt", rate=0.5, start_norm=0.25, seed=3
)


def test_a_planted_reward_is_learned_and_a_constant_one_is_not() -> None:
    model, token = tiny("llama"), 33
    assert token not in first_tokens(model, None)
    *_, state = reinforce(model, POOL, writes(token), begin(model, places(1), QUICK), places(1), QUICK)
    (vector,) = reinforced_vectors(model, state, places(1), QUICK)
    assert 3 * state.curve[0]["reward"] < np.mean([row["reward"] for row in state.curve[-5:]])
    assert first_tokens(model, plan_of(model, {vector.site: vector.direction}, "last_prompt")) == [token] * len(POOL)
    assert (
        vector.provenance.method == "reinforced" and vector.provenance.notes["rewards"][-1] == state.curve[-1]["reward"]
    )
    start = begin(model, places(1), QUICK)
    *_, still = reinforce(model, POOL, lambda number, text: 1.0, start, places(1), replace(QUICK, updates=3))
    assert torch.equal(still.values[Site(1)], start.values[Site(1)]) and still.step == 0
    assert [row["groups"] for row in still.curve] == [0.0] * 3 and still.curve[0]["trained"] == 0


def test_a_number_along_a_direction_is_trained_alone() -> None:
    model, token = tiny("llama"), 33
    direction = model.model.get_output_embeddings().weight[token].detach()
    where = [Place(Site(1), 4.0, direction)]
    spec = replace(QUICK, start_norm=0.1)
    *_, state = reinforce(model, POOL, writes(token), begin(model, where, spec), where, spec)
    (vector,) = reinforced_vectors(model, state, where, spec)
    assert state.values[Site(1)].shape == (1,) and float(state.values[Site(1)]) > 0.5
    assert vector.norm == pytest.approx(4 * float(state.values[Site(1)]), rel=1e-6)
    assert float(torch.cosine_similarity(vector.direction, direction, 0)) == pytest.approx(1.0, abs=1e-6)


def test_training_goes_on_to_the_same_bits() -> None:
    model, spec = tiny("llama"), replace(QUICK, updates=5, prompts=4, samples=6, reuse=2)
    where = places(0, 1)
    whole = list(reinforce(model, POOL, writes(33), begin(model, where, spec), where, spec))
    again = list(reinforce(model, POOL, writes(33), whole[1], where, spec))
    assert len(whole) == 5 and len(again) == 3 and whole[-1].curve == again[-1].curve
    for site, value in whole[-1].values.items():
        assert torch.equal(value, again[-1].values[site])
        assert all(map(torch.equal, whole[-1].moments[site], again[-1].moments[site]))


def test_nothing_is_clipped_in_one_step_per_batch_and_something_in_several() -> None:
    model, spec = tiny("llama"), replace(QUICK, updates=3, rate=2.0)
    once = list(reinforce(model, POOL, writes(33), begin(model, places(1), spec), places(1), spec))[-1]
    more = replace(spec, reuse=4)
    often = list(reinforce(model, POOL, writes(33), begin(model, places(1), more), places(1), more))[-1]
    assert all(row["clipped"] == 0 for row in once.curve) and any(row["clipped"] > 0 for row in often.curve)


def test_groups_are_compared_within() -> None:
    rewards = np.array([0.0, 1.0, 1.0, 1.0, 0.0, 0.0])
    plain = advantages(rewards, Reinforcing(samples=2))
    assert plain.tolist() == [-0.5, 0.5, 0.0, 0.0, 0.0, 0.0]
    scaled = advantages(rewards, Reinforcing(samples=3, scale="group"))
    assert scaled == pytest.approx([-1.1545, 0.5773, 0.5773, 1.1545, -0.5773, -0.5773], abs=1e-3)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"samples": 1}, "a group needs at least 2"), ({"rate": 0.0}, "rate 0.0 must be above 0"), ({"scale": "std"}, "scale"),
        ({"span": "nowhere"}, "nowhere"), ({"clip": (1.5, 0.2)}, "clip"),
    ],
)  # fmt: skip
def test_settings_that_cannot_train_are_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        Reinforcing(**change)


def test_pools_sites_and_rewards_that_do_not_fit_are_refused() -> None:
    model = tiny("llama")
    head = Place(Site(0, "z", 0), 1.0)
    for where, said in (([], "name each once"), (places(0, 0), "name each once"), ([head], "as wide as the stream")):
        with pytest.raises(BadInput, match=said):
            begin(model, where, QUICK)
    with pytest.raises(BadInput, match="the direction has 3 numbers"):
        begin(model, [Place(Site(0), 1.0, torch.ones(3))], QUICK)
    for size, direction, said in (
        (0.0, None, "size"),
        (1.0, torch.zeros(4), "not all 0"),
        (1.0, torch.tensor([float("nan")]), "finite"),
    ):
        with pytest.raises(BadInput, match=said):
            Place(Site(0), size, direction)
    start: Reinforced = begin(model, places(1), QUICK)
    with pytest.raises(BadInput, match="do not fill a batch of 6"):
        next(reinforce(model, POOL[:4], writes(3), start, places(1), QUICK))
    with pytest.raises(BadInput, match="reward is not finite"):
        next(reinforce(model, POOL, lambda number, text: float("nan"), start, places(1), QUICK))


def test_sizes_are_those_of_the_last_tokens() -> None:
    model = tiny("llama")
    found = sizes_of(model, POOL, [Site(0), Site(2)])
    for site, size in found.items():
        norms = []
        for prompt in POOL:
            with torch.no_grad():
                hidden = model.model(input_ids=torch.tensor([prompt]), output_hidden_states=True).hidden_states
            norms.append(float(hidden[site.layer + 1][0, -1].norm()) if site.layer < 2 else 0.0)
        if site.layer < 2:  # the library's last entry is read behind the final norm
            assert size == pytest.approx(np.mean(norms), rel=1e-5)


def test_shuffled_rewards_are_as_many_and_teach_nothing() -> None:
    model = tiny("llama")
    dealt = replace(QUICK, shuffled=True, updates=12)
    plain = replace(QUICK, updates=12)
    for spec in (dealt, plain):
        *_, state = reinforce(model, POOL, writes(33), begin(model, places(1), spec), places(1), spec)
        (vector,) = reinforced_vectors(model, state, places(1), spec)
        learned = first_tokens(model, plan_of(model, {vector.site: vector.direction}, "last_prompt")).count(33)
        assert learned == len(POOL) if spec is plain else learned < len(POOL)
