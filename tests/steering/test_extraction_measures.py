"""Measures of a vector by themselves: separability, split halves, the logit lens, massive activations."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest
import torch
from scipy.stats import norm as gaussian
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from steering.errors import BadInput
from steering.extraction.lens import lens_logits, lens_tokens, logit_ends
from steering.extraction.massive import concentration, massive_coordinates
from steering.extraction.principal import first_component
from steering.extraction.separability import separability, weighted_measures
from steering.extraction.stability import split_half
from steering.model.models import LoadedModel, load_model
from steering.model.sites import Site
from steering.vector.vectors import SteeringVector
from tests.planted import EMBEDDING, planted
from tests.tiny import tiny, vector

D = 16


def noise(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# Separability


def test_separability_is_chance_on_random_labels() -> None:
    values = np.random.default_rng(0).normal(size=600)
    found = separability(values[:300], values[300:], 0.0)
    assert abs(found.auc.value - 0.5) < 0.06 and abs(found.accuracy.value - 0.5) < 0.06
    assert found.auc.low < 0.5 < found.auc.high and found.accuracy.low < 0.5 < found.accuracy.high


def test_separability_is_that_of_two_gaussians() -> None:
    rng = np.random.default_rng(1)
    found = separability(rng.normal(1.5, 1, 800), rng.normal(0, 1, 400), 0.75)
    assert found.auc.value == pytest.approx(gaussian.cdf(1.5 / 2**0.5), abs=0.02)
    assert found.accuracy.value == pytest.approx(gaussian.cdf(0.75), abs=0.03)
    assert found.auc.low < found.auc.value < found.auc.high < 0.9
    assert (found.positives, found.negatives, found.sequences) == (800, 400, 1200)


def test_weighted_measures_are_scikit_learns() -> None:
    rng = np.random.default_rng(4)
    values, truth = rng.integers(0, 9, 80) / 3, rng.integers(0, 2, 80)  # many ties
    weight, above = rng.integers(0, 4, 80).astype(float), (values > 1.4).astype(int)
    ranks = np.unique(values, return_inverse=True)[1]
    auc, accuracy = weighted_measures(truth, ranks, above, weight)
    kept = weight > 0
    assert auc == pytest.approx(roc_auc_score(truth[kept], values[kept], sample_weight=weight[kept]))
    assert accuracy == pytest.approx(balanced_accuracy_score(truth, above, sample_weight=weight))


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng, truth = np.random.default_rng(2), gaussian.cdf(1 / 2**0.5)
    hits = 0
    for seed in range(60):
        found = separability(rng.normal(1, 1, 60), rng.normal(0, 1, 60), 0.5, resamples=100, seed=seed)
        hits += found.auc.low <= truth <= found.auc.high
    assert 50 <= hits <= 60


def test_samples_of_one_sequence_do_not_count_as_many() -> None:
    rng = np.random.default_rng(3)
    high, low = rng.normal(0.8, 1, 40), rng.normal(0, 1, 40)
    single = separability(high, low, 0.4)
    groups = np.repeat(np.arange(40), 10), 40 + np.repeat(np.arange(40), 10)
    repeated = np.repeat(high, 10), np.repeat(low, 10)
    grouped, naive = separability(*repeated, 0.4, groups=groups), separability(*repeated, 0.4)
    widths = [s.auc.high - s.auc.low for s in (single, grouped, naive)]
    assert widths[0] == pytest.approx(widths[1]) and widths[2] < widths[1] / 2
    both = separability(high, low, 0.4, groups=(np.arange(40), np.arange(40)))
    assert both.sequences == 40 and both.auc.value == single.auc.value


def test_perfect_separation_is_not_reported_as_certain() -> None:
    found = separability(np.arange(5, 13.0), np.arange(4.0), 4.5)
    assert found.auc.value == found.auc.high == 1 and found.auc.low == pytest.approx(4 / (4 + 1.959964**2), abs=1e-4)
    wrong = separability(np.arange(4.0), np.arange(5, 13.0), 4.5)
    assert wrong.auc.value == wrong.auc.low == 0 and 0.3 < wrong.auc.high < 0.6
    assert separability(np.arange(5, 9.0), np.arange(4.0), 99.0).accuracy.value == 0.5, "the threshold is the one given"
    with pytest.raises(BadInput, match="at least 2 sequences"):
        separability(np.ones(3), np.ones(3), 0.0, groups=(np.arange(3), np.zeros(3)))


# Stability


def test_split_half_tells_signal_from_noise() -> None:
    u = torch.nn.functional.normalize(noise(64, seed=0), dim=0)
    high, low = noise(400, 64, seed=1), noise(400, 64, seed=2)
    assert split_half(high + 2 * u, low - 2 * u).mean > 0.9
    nothing = split_half(high, low, splits=16)
    assert abs(nothing.mean) < 0.25 and nothing.low < nothing.mean < nothing.high and nothing.splits == 16


def test_split_half_equals_two_halves_by_hand() -> None:
    high, low = noise(6, 8, seed=3), noise(9, 8, seed=4)
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    def extract(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        seen.append((a, b))
        return a.mean(0) - b.mean(0)

    found = split_half(high, low, extract=extract, splits=2, seed=5)
    cosines = []
    for one, two in (seen[:2], seen[2:]):
        for side, whole in ((0, high), (1, low)):
            rows = torch.cat([one[side], two[side]])
            assert sorted(map(tuple, rows.tolist())) == sorted(map(tuple, whole.tolist())), "every sample in one half"
        x, y = (a.mean(0) - b.mean(0) for a, b in (one, two))
        cosines.append(float(x @ y / x.norm() / y.norm()))
    assert found.mean == pytest.approx(np.mean(cosines), abs=1e-6)
    assert (found.low, found.high) == pytest.approx((min(cosines), max(cosines)), abs=1e-6)


def test_pairs_stay_together_when_asked() -> None:
    topic, u = 30 * noise(100, D, seed=6), torch.nn.functional.one_hot(torch.tensor(0), D).float()
    high, low = topic + u + 0.1 * noise(100, D, seed=7), topic - u
    assert split_half(high, low, paired=True).mean > 0.99 > 0.5 > split_half(high, low).mean
    pca = split_half(high, low, paired=True, extract=lambda a, b: first_component(
        ((a - b).T @ (a - b)).double(), (a - b).mean(0).double()).direction)  # fmt: skip
    assert pca.mean > 0.99
    with pytest.raises(BadInput, match="100 and 99"):
        split_half(high, low[1:], paired=True)
    with pytest.raises(BadInput, match="cannot be halved"):
        split_half(high[:1], low)


# Logit lens


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2", "gpt_neox", "olmo2"])
def test_the_lens_is_the_final_norm_and_the_unembedding(family: str) -> None:
    model, direction = deepcopy(tiny(family)), vector(4).direction
    inner = model.model
    final = {
        "gpt2": lambda: inner.transformer.ln_f,
        "gpt_neox": lambda: inner.gpt_neox.final_layer_norm,
    }.get(family, lambda: inner.model.norm)()
    size = direction / direction.norm() * D**0.5
    with torch.no_grad():
        if getattr(final, "bias", None) is not None:
            final.bias.copy_(noise(D, seed=16))  # must cancel
        plain, mirrored = (inner.get_output_embeddings()(final(x)) for x in (size, -size))
        if getattr(inner.config, "final_logit_softcapping", None):
            cap = inner.config.final_logit_softcapping
            plain, mirrored = (torch.tanh(x / cap) * cap for x in (plain, mirrored))
    found = lens_logits(model, direction)
    assert torch.allclose(found, ((plain - mirrored) / 2).double(), atol=1e-4)
    assert torch.allclose(lens_logits(model, 50 * direction), found, atol=1e-4)


def test_lens_tokens_are_the_two_ends_as_text() -> None:
    model = tiny("llama")
    up = SteeringVector("v", Site(0), vector(1).direction, vector(1).provenance)
    down = SteeringVector("v", Site(0), -vector(1).direction, vector(1).provenance)
    promoted, demoted = lens_tokens(model, up, 3)
    logits = lens_logits(model, up.direction)
    assert [t.id for t in promoted] == logits.argsort(descending=True)[:3].tolist()
    assert promoted[0].text == model.tokenizer.decode([promoted[0].id]) and promoted[0].logit > 0 > demoted[0].logit
    assert [t.id for t in lens_tokens(model, down, 3)[0]] == [t.id for t in demoted]
    assert len(lens_tokens(model, up, 1000)[0]) == 61
    with pytest.raises(BadInput, match="at least 1"):
        lens_tokens(model, up, 0)
    hooks = [h for layer in model.layout.layers for h in layer._forward_hooks.values()]
    assert not any("steering" in getattr(h, "__module__", "") for h in hooks)


# Massive activations


def massive_model(size: float, coordinate: int = 3) -> LoadedModel:
    """Median magnitude of every hidden state is 0.25; token 7 holds `size` at `coordinate`."""
    rows = 0.25 * torch.where(noise(12, D, seed=8) > 0, 1.0, -1.0)
    rows[7, coordinate] = -size
    return planted(rows)


SEQUENCES = [(1, 7, 4), (1, 5)]


@pytest.mark.parametrize(
    ("size", "massive"),
    [(300.0, (3,)), (240.0, ()), (99.0, ())],  # 1,200 and 960 medians; below 100
)
def test_massive_coordinates_are_those_of_the_definition(size: float, massive: tuple[int, ...]) -> None:
    found = massive_coordinates(massive_model(size), SEQUENCES, [EMBEDDING])[EMBEDDING]
    assert found.coordinates == massive
    assert float(found.ratio[3]) == pytest.approx(size / 0.25) and float(found.ratio[0]) == pytest.approx(1)
    lower = massive_coordinates(massive_model(size), SEQUENCES, [EMBEDDING], floor=50, ratio=100)[EMBEDDING]
    assert lower.coordinates == (3,)
    unread = massive_coordinates(massive_model(size), [(1, 5)], [EMBEDDING])[EMBEDDING]
    assert unread.coordinates == ()


def test_both_parts_of_the_definition_count_in_each_hidden_state_by_itself() -> None:
    rows = 0.05 * torch.where(noise(12, D, seed=8) > 0, 1.0, -1.0)
    rows[7, 3] = 99.0  # 1,980 medians, but below 100
    rows[4] *= 40
    rows[4, 5] = 300.0  # above 100, but 150 medians of its own state
    assert massive_coordinates(planted(rows), SEQUENCES, [EMBEDDING])[EMBEDDING].coordinates == ()
    rows[7, 3] = 101.0
    assert massive_coordinates(planted(rows), SEQUENCES, [EMBEDDING])[EMBEDDING].coordinates == (3,)


def test_a_massive_axis_is_flagged_and_others_are_not() -> None:
    found = massive_coordinates(massive_model(300.0), SEQUENCES, [EMBEDDING])[EMBEDDING]
    axis = torch.nn.functional.one_hot(torch.tensor(3), D).float()
    other = torch.nn.functional.one_hot(torch.tensor(5), D).float()
    on = concentration(5 * axis + 0.2 * noise(D, seed=9), found)
    assert on.massive_axis and on.massive_share > 0.9 and on.top[0] == 3 and on.top_ratio[0] == pytest.approx(1200)
    spiky = concentration(other, found)
    assert not spiky.massive_axis and spiky.top_share == pytest.approx(1) and spiky.massive_share == 0
    spread = concentration(torch.ones(D), found)
    assert spread.top_share == pytest.approx(3 / D) and spread.massive_share == pytest.approx(1 / D)
    calm = massive_coordinates(massive_model(99.0), SEQUENCES, [EMBEDDING])[EMBEDDING]
    assert not concentration(axis, calm).massive_axis


# The report


def test_rows_behind_the_tokenizers_last_token_are_never_named() -> None:
    model = load_model("builtin:base")
    known = len(model.tokenizer)
    assert known < model.model.get_input_embeddings().num_embeddings
    direction = torch.randn(model.d_model, generator=torch.Generator().manual_seed(0))
    for ends in logit_ends(model, lens_logits(model, direction), 10**4):
        assert sorted(token.id for token in ends) == list(range(known))
