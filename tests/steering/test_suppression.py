"""Attention that is taken away from a part of a text, and attention that parts receive, equal the naive way on every architecture."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from scipy import stats

from steering.attribution import receiving, suppression
from steering.attribution.receiving import attention_between, kurtosis, vertical
from steering.attribution.suppression import effects, suppressed_divergence
from steering.errors import BadInput
from steering.model.models import LoadedModel, wrap
from tests.tiny import CONFIGS, tiny

IDS = [1, *(9 + (7 * n) % 50 for n in range(23))]
SPANS = [(4, 8), (8, 10), (10, 15), (15, 19), (19, 22), (22, 24)]
FULL = ("llama", "qwen3", "gpt2", "gpt_neox", "olmo2")
"""Without sliding windows, so that one mask serves all layers."""


def eager(family: str) -> LoadedModel:
    """The same weights, loaded with the eager attention."""
    model = copy.deepcopy(tiny(family).model)
    model.set_attn_implementation("eager")
    return wrap(model, tiny(family).tokenizer, probe=False)


def naive(model: LoadedModel, span: tuple[int, int] | None) -> torch.Tensor:
    """One pass with an additive mask made by hand."""
    mask = torch.full((len(IDS), len(IDS)), torch.finfo(torch.float32).min).triu(1)
    if span is not None:
        mask[span[1] :, span[0] : span[1]] = torch.finfo(torch.float32).min
    with torch.inference_mode():
        logits = model.model(input_ids=torch.tensor([IDS]), attention_mask=mask[None, None], use_cache=False).logits
    return logits[0].double().log_softmax(-1)


@pytest.mark.parametrize("family", FULL)
def test_suppressed_divergence_is_that_of_one_pass_per_span_with_a_mask_made_by_hand(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside = eager(family)
    plain = naive(beside, None)
    for batch in (suppression.NUMBERS, 2 * len(IDS) * 61):  # all spans in one pass, and two at a time
        monkeypatch.setattr(suppression, "NUMBERS", batch)
        found = suppressed_divergence(tiny(family), IDS, SPANS)
        for own, span in zip(found, SPANS, strict=True):
            expected = (plain.exp() * (plain - naive(beside, span))).sum(-1).numpy()
            assert own == pytest.approx(expected, abs=1e-4, rel=1e-3)
            assert own[: span[1]].max() < 1e-6, "what comes before is read as it is"
        assert found[0, SPANS[0][1] :].max() > 1e-2


@pytest.mark.parametrize("family", CONFIGS)
def test_what_is_predicted_later_does_not_depend_on_tokens_to_which_nothing_attends(family: str) -> None:
    model, (start, end) = tiny(family), SPANS[1]
    other = [*IDS[:start], *(9 + (token + 5) % 50 for token in IDS[start:end]), *IDS[end:]]
    assert suppression.refusal(model) is None and other != IDS
    one, two = suppression._logits(model, [IDS, other], [SPANS[1]] * 2)
    assert torch.allclose(one[end:], two[end:], atol=1e-3) and not torch.allclose(one[start:end], two[start:end])
    free, changed = suppression._logits(model, [IDS, other], [None, None])
    assert not torch.allclose(free[end:], changed[end:], atol=1e-3)


@pytest.mark.parametrize("family", FULL)
def test_attention_between_spans_is_the_mean_of_the_weights_that_the_model_gives(family: str) -> None:
    with torch.inference_mode():
        given = eager(family).model(input_ids=torch.tensor([IDS]), output_attentions=True, use_cache=False).attentions
    found = attention_between(tiny(family), IDS, SPANS)
    assert found.shape == (3, 2, len(SPANS), len(SPANS))
    for layer, weights in enumerate(given):
        for j, (low, high) in enumerate(SPANS):
            for i, (start, end) in enumerate(SPANS):
                expected = weights[0, :, low:high, start:end].mean((1, 2)).numpy()
                assert found[layer, :, j, i] == pytest.approx(expected, abs=1e-5)


def test_vertical_profiles_leave_out_the_nearest_and_peaked_ones_have_the_larger_kurtosis() -> None:
    attention = np.arange(49.0).reshape(7, 7)
    found = vertical(attention, 4)
    assert found[:3].tolist() == [attention[4:, 0].mean(), attention[5:, 1].mean(), attention[6, 2]]
    assert np.isnan(found[3:]).all()
    rng = np.random.default_rng(0)
    even, peaked = rng.random(40), rng.random(40)
    peaked[7] += 20
    both = kurtosis(np.array([[*even, np.nan], [*peaked, np.nan]]))
    assert both == pytest.approx([stats.kurtosis(even), stats.kurtosis(peaked)]) and both[1] > both[0]
    assert np.isnan(kurtosis(np.ones((2, 9)))).all() and np.isnan(kurtosis(rng.random((2, 3)))).all()


def test_effects_are_logarithms_less_what_a_span_is_moved_by_anything() -> None:
    divergence = np.exp(np.arange(12.0).reshape(2, 6))
    found = effects(divergence, [(0, 2), (2, 4), (4, 6)])
    assert np.isnan(found[:, :2]).all(), "before the second span there is one alone"
    assert found[:, 2] == pytest.approx([4.5 - 7.5, 10.5 - 7.5])
    assert np.isfinite(effects(np.zeros((2, 6)), [(0, 2), (2, 4), (4, 6)])[:, 2]).all()


def test_a_model_that_does_as_it_likes_with_a_mask_is_refused_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    model = wrap(copy.deepcopy(tiny("llama").model), tiny("llama").tokenizer)
    forward = type(model.model.model).forward

    def deaf(self: object, *args: object, **given: object) -> object:
        return forward(self, *args, **(given | {"attention_mask": None}))  # type: ignore[arg-type]

    monkeypatch.setattr(type(model.model.model), "forward", deaf)
    with pytest.raises(BadInput, match="depend on tokens to which nothing attends"):
        suppressed_divergence(model, IDS, SPANS)
    monkeypatch.undo()
    del model.extra["suppresses"]
    assert suppressed_divergence(model, IDS, SPANS).max() > 0
    attention = type(model.model.model.layers[0].self_attn)
    monkeypatch.setattr(attention, "__module__", "steering.errors")
    with pytest.raises(BadInput, match="does not give its weights"):
        attention_between(model, IDS, SPANS)


def test_spans_outside_a_text_and_models_of_another_executor_are_refused() -> None:
    for spans in ([(3, 3)], [(20, 25)], [(-1, 2)]):
        with pytest.raises(BadInput, match="does not lie in a text of 24 tokens"):
            suppressed_divergence(tiny("llama"), IDS, spans)
    with pytest.raises(BadInput, match="reads 1 to 128"):
        attention_between(tiny("llama"), [1] * 129, [(0, 1)])
    model = tiny("llama")
    other = LoadedModel(model.id, model.model, model.tokenizer, model.layout, executor=model.runs)
    assert "another executor" in str(receiving.refusal(other))
