"""Forced readings against the oracle."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from steering.engine.forced import ForcedText, forced_activations, forced_divergence, unsteered_logprob
from steering.engine.generation import Row, generate
from steering.engine.sampling import GenerationSettings
from steering.errors import BadInput
from steering.model.sites import Site
from steering.plan.gate import Gate
from steering.plan.plan import Plan
from tests.naive import naive_logits
from tests.tiny import plan, tiny


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
def test_divergence_is_that_of_the_same_tokens_read_twice(family: str) -> None:
    model = tiny(family)
    plans = [
        plan(amount=3.0),
        plan(span="all", amount=1.0),
        plan(span='at:";"', amount=4.0),
        Plan(),
        plan("ablate", span="sentence_starts"),
    ]
    texts = [
        ForcedText((1, 20, 5, 21)[: 2 + i % 3], tuple([22, 5, 23, 24, 6, 25][: 2 + i]), p) for i, p in enumerate(plans)
    ]
    for text, reading in zip(texts, forced_divergence(model, texts), strict=True):
        ids, start = [*text.prompt_ids, *text.token_ids], len(text.prompt_ids)
        steered = naive_logits(model, ids, text.plan, start)[start - 1 : -1].log_softmax(-1)
        plain = naive_logits(model, ids, Plan(), start)[start - 1 : -1].log_softmax(-1)
        kl = torch.nn.functional.kl_div(plain, steered, log_target=True, reduction="none").sum(-1)
        assert torch.allclose(torch.tensor(reading.divergence), kl, atol=2e-3)
        forced = torch.tensor(text.token_ids)[:, None]
        assert torch.allclose(torch.tensor(reading.logprob), steered.gather(1, forced)[:, 0], atol=2e-3)
        assert torch.allclose(torch.tensor(reading.unsteered_logprob), plain.gather(1, forced)[:, 0], atol=2e-3)
        assert (max(reading.divergence) > 1e-3) == bool(text.plan) or text.plan.interventions[0].operation == "ablate"


def test_reading_a_generation_again_gives_its_log_probabilities() -> None:
    model = tiny("llama")
    made = plan(amount=2.0)
    (found,) = generate(model, [Row((1, 20, 21), made)], GenerationSettings(8))
    (reading,) = forced_divergence(model, [ForcedText(found.prompt_ids, found.token_ids, made)])
    assert torch.allclose(torch.tensor(reading.logprob), torch.tensor(found.logprob), atol=1e-4)


def test_what_cannot_be_read_in_one_pass_is_refused() -> None:
    model = tiny("llama")
    with pytest.raises(BadInput, match="entropy gate"):
        forced_divergence(model, [ForcedText((1, 20), (21,), plan(gate=Gate("entropy", 1.0)))])
    with pytest.raises(BadInput, match="at least one forced token"):
        forced_divergence(model, [ForcedText((1, 20), (), Plan())])


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_anyones_text_is_read_without_a_plan(family: str) -> None:
    model = tiny(family)
    texts = [((1, 20, 5, 21)[: 2 + i % 3], tuple([22, 5, 23, 24, 6, 25][: 1 + i])) for i in range(5)]
    for (prompt, tokens), found in zip(texts, unsteered_logprob(model, texts), strict=True):
        plain = naive_logits(model, [*prompt, *tokens], Plan(), len(prompt))[len(prompt) - 1 : -1].log_softmax(-1)
        assert torch.allclose(torch.tensor(found), plain.gather(1, torch.tensor(tokens)[:, None])[:, 0], atol=2e-3)
    assert unsteered_logprob(model, []) == []
    for text in (((1, 20), ()), ((), (20,)), ((1,), (20,) * 200)):
        with pytest.raises(BadInput, match="Text 0"):
            unsteered_logprob(model, [text])


@pytest.mark.parametrize("family", ["llama", "gpt2", "mistral"])
def test_activations_along_forced_texts_are_those_of_a_bare_loop(family: str) -> None:
    """Behind the plan's own edits, at the positions that predict forced tokens."""
    model, sites = tiny(family), [Site(0), Site(1)]
    plans = [plan(amount=3.0), plan(span="all", amount=1.0), Plan()]
    texts = [ForcedText((1, 20, 5)[: 2 + i % 2], (22, 5, 23, 24)[: 2 + i], p) for i, p in enumerate(plans)]
    for text, found in zip(texts, forced_activations(model, texts, sites), strict=True):
        ids, start = [*text.prompt_ids, *text.token_ids], len(text.prompt_ids)
        seen: dict[Site, torch.Tensor] = {}
        handles = []
        for site in sites:  # what enters the next layer is what the edits left

            def read(module: object, args: Any, kwargs: Any, site: Site = site, seen: Any = seen) -> None:
                seen[site] = (args[0] if args else kwargs["hidden_states"])[0]

            following = model.layout.layers[site.layer + 1]
            handles.append(following.register_forward_pre_hook(read, with_kwargs=True))
        try:
            naive_logits(model, ids, text.plan, start)
        finally:
            for handle in handles:
                handle.remove()
        for site in sites:
            assert found[site].shape == (len(text.token_ids), model.d_model)
            assert torch.allclose(found[site], seen[site][start - 1 : len(ids) - 1], atol=2e-4, rtol=1e-4)


def test_activations_that_cannot_be_read_are_refused() -> None:
    model = tiny("llama")
    with pytest.raises(BadInput, match="entropy gate"):
        forced_activations(model, [ForcedText((1, 20), (21,), plan(gate=Gate("entropy", 1.0)))], [Site(0)])
    with pytest.raises(BadInput):
        forced_activations(model, [ForcedText((1, 20), (21,), Plan())], [Site(9)])
