"""Quality of a vector: stability, separability on held-out data, logit lens, massive axes; against oracles and planted cases."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from rich.console import Console
from scipy.stats import norm as gaussian
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from steering.errors import BadInput
from steering.extraction import (
    Reading,
    assess,
    checkpoint_difference,
    logistic_direction,
    mean_difference,
    quality_table,
)
from steering.extraction.lens import lens_logits, lens_tokens
from steering.extraction.massive import concentration, massive_coordinates
from steering.extraction.principal import first_component
from steering.extraction.quality import Quality, explained_variance
from steering.extraction.separability import separability, weighted_measures
from steering.extraction.stability import split_half
from steering.extraction.surface import token_accuracy
from steering.model.models import LoadedModel
from steering.model.sites import Site
from steering.vector.vectors import SteeringVector, random_like
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

N = 60
U = torch.nn.functional.normalize(noise(D, seed=10), dim=0)


def world(gap: float = 2.0) -> tuple[LoadedModel, list[Reading], torch.Tensor]:
    """Four readings of `N` one-token sequences: training positive, negative, held-out positive, negative; `gap` apart along U."""
    rows = noise(4 * N, D, seed=11)
    rows[:N] += gap * U
    rows[2 * N : 3 * N] += gap * U
    readings = [Reading.last_token([(t,) for t in range(i * N, (i + 1) * N)]) for i in range(4)]
    return planted(rows), readings, rows.double()


def report(**options: object) -> tuple[Quality, SteeringVector, torch.Tensor]:
    model, (high, low, high_test, low_test), rows = world()
    found = mean_difference(model, high, low, [EMBEDDING], name="planted", contrast="c")[EMBEDDING]
    return assess(model, found, (high, low), (high_test, low_test), **options), found, rows  # type: ignore[arg-type]


def test_the_report_equals_its_oracles() -> None:
    quality, found, rows = report(tokens=4)
    unit = found.direction.double() / found.direction.double().norm()
    projected = (rows @ unit).numpy()
    middle = (projected[:N].mean() + projected[N : 2 * N].mean()) / 2
    truth = [1] * N + [0] * N
    assert quality.separability.auc.value == pytest.approx(roc_auc_score(truth, projected[2 * N :]))
    right = np.concatenate([projected[2 * N : 3 * N] > middle, projected[3 * N :] <= middle])
    assert quality.separability.accuracy.value == pytest.approx(right.mean())
    assert quality.separability.threshold == pytest.approx(middle, abs=1e-5)
    assert quality.residual_norm == pytest.approx(float(rows[: 2 * N].norm(dim=1).median()), rel=1e-5)
    assert quality.norm_ratio == pytest.approx(found.norm / quality.residual_norm)
    variance = np.var(projected[: 2 * N]) / np.var(rows[: 2 * N].numpy(), axis=0).sum()
    assert quality.explained_variance == pytest.approx(variance, rel=1e-5)
    assert quality.token_accuracy == 0.5, "every token is read once"
    assert quality.split_half.mean > 0.7 and quality.remarks == () and len(quality.promoted) == 4
    assert (quality.site, quality.digest, quality.method) == (
        "blocks.0.hook_resid_pre",
        found.digest,
        "mode difference",
    )


def test_what_the_tokens_give_away_is_measured() -> None:
    def read(*ends: int) -> Reading:
        return Reading.last_token([(1, i + 5, t) for i, t in enumerate(ends)])

    training = read(7, 7, 7, 8), read(8, 8)  # per side: token 7 positive, token 8 a quarter against all
    assert token_accuracy(training, (read(7, 7), read(8))) == 1
    assert token_accuracy(training, (read(7, 8), read(8))) == 0.75
    assert token_accuracy(training, (read(9), read(10))) == 0.5, "tokens never seen say nothing"
    assert token_accuracy((read(7), read(7)), (read(7), read(7))) == 0.5
    spans = Reading.over([(1, 7, 8, 7)], [[(1, 4), (2, 3)]])
    assert token_accuracy(training, (spans, read(8))) == 0.75, "scores 1, 0.2, 1 average above one half; 0.2 is below"


def test_a_contrast_of_words_gets_a_remark() -> None:
    rows = 0.1 * noise(100, D, seed=15)
    rows[1] += U
    model = planted(rows)

    def read(ids: range, end: int) -> Reading:
        return Reading.last_token([(t, end) for t in ids])

    sides = read(range(10, 30), 1), read(range(10, 30), 2)
    tested = read(range(30, 50), 1), read(range(30, 50), 2)
    found = mean_difference(model, *sides, [EMBEDDING], name="word", contrast="c")[EMBEDDING]
    quality = assess(model, found, sides, tested)
    assert quality.token_accuracy == 1 and quality.separability.accuracy.value == 1
    assert quality.remarks == ("the tokens read tell the sides apart as well: accuracy 1.00",)


def test_explained_variance_of_a_component_is_its_eigenvalue_share() -> None:
    values = noise(50, D, seed=12).double() * torch.logspace(0, 1, D)
    centred = values - values.mean(0)
    top = first_component(centred.T @ centred, torch.ones(D).double())
    assert explained_variance(values, top.direction) == pytest.approx(top.explained)
    assert explained_variance(torch.ones(3, D).double(), top.direction) == 0


def test_a_fit_to_noise_is_seen_through_on_held_out_data() -> None:
    model, (high, low, high_test, low_test), _ = world(gap=0.0)
    small = high.take(range(12)), low.take(range(12))
    fitted = logistic_direction(model, *small, [EMBEDDING], name="noise", contrast="c", penalty=0.01)[EMBEDDING]
    assert fitted.provenance.notes["gap"] > 1, "the training samples are separated"
    quality = assess(model, fitted, small, (high_test, low_test))
    assert abs(quality.separability.auc.value - 0.5) < 0.15
    assert any("does not separate" in r for r in quality.remarks) and any("unstable" in r for r in quality.remarks)


def test_remarks_name_wrong_signs_and_massive_axes() -> None:
    model, readings, _ = world()
    found = mean_difference(model, readings[0], readings[1], [EMBEDDING], name="n", contrast="c")[EMBEDDING]
    turned = replace(found, direction=-found.direction)
    assert any(
        "wrong way" in r for r in assess(model, turned, (readings[0], readings[1]), (readings[2], readings[3])).remarks
    )
    rows = 0.25 * torch.where(noise(40, D, seed=13) > 0, 1.0, -1.0)
    rows[:20, 3] = 300.0
    spiky = planted(rows)
    high, low, high_test, low_test = (
        Reading.last_token([(t,) for t in ids]) for ids in (range(10), range(20, 30), range(10, 20), range(30, 40))
    )
    axis = mean_difference(spiky, high, low, [EMBEDDING], name="axis", contrast="c")[EMBEDDING]
    quality = assess(spiky, axis, (high, low), (high_test, low_test))
    assert quality.concentration.massive_axis and "coordinates [3]" in quality.remarks[-1]


def test_a_random_vector_of_the_same_norm_explains_less() -> None:
    model, (high, low, high_test, low_test), _ = world()
    found = mean_difference(model, high, low, [EMBEDDING], name="n", contrast="c")[EMBEDDING]
    random = assess(model, random_like(found, 1), (high, low), (high_test, low_test))
    planted_one = assess(model, found, (high, low), (high_test, low_test))
    assert random.norm == pytest.approx(planted_one.norm)
    assert random.explained_variance < planted_one.explained_variance / 1.5
    assert random.separability.auc.value < planted_one.separability.auc.low


def test_a_checkpoint_vector_is_assessed_between_its_two_models() -> None:
    rows = noise(80, D, seed=14)
    base, thinking = planted(rows), planted(rows + 3 * U)
    train, test = (Reading.last_token([(t,) for t in ids]) for ids in (range(40), range(40, 80)))
    found = checkpoint_difference(base, thinking, train, [EMBEDDING])[EMBEDDING]
    quality = assess(base, found, (train, train), (test, test), positive_model=thinking, paired=True)
    assert quality.separability.auc.value > 0.95 and quality.separability.sequences == 40
    assert quality.split_half.mean == pytest.approx(1, abs=1e-4)
    one_model = assess(base, found, (train, train), (test, test))
    assert one_model.separability.auc.value == pytest.approx(0.5)


def test_a_report_is_plain_data_and_prints() -> None:
    quality, found, _ = report()
    data = json.loads(json.dumps(quality.to_dict()))
    assert data["separability"]["auc"]["value"] == quality.separability.auc.value and data["name"] == "planted"
    marked = replace(quality, promoted=(replace(quality.promoted[0], text="[red]x[/nope]"),))
    console = Console(width=300, record=True, quiet=False, file=open("/dev/null", "w"))
    console.print(quality_table([quality, marked]))
    text = console.export_text()
    assert "[red]x[/nope]" in text and f"{quality.separability.auc.value:.2f} [" in text and "blocks.0" in text


def change(which: int) -> Callable[[list[Reading], SteeringVector, LoadedModel], object]:
    def run(readings: list[Reading], found: SteeringVector, model: LoadedModel) -> object:
        high, low, high_test, low_test = readings
        if which == 0:
            return assess(model, found, (high, low), (high_test, low))
        if which == 1:
            return assess(model, found, (high_test, low_test), (high, low))
        if which == 2:
            return assess(model, vector(0, 0, "resid_pre"), (high, low), (high_test, low_test))
        return assess(model, found, (high, low.take(range(5))), (high_test, low_test), paired=True)

    return run


@pytest.mark.parametrize(
    ("which", "message"),
    [(0, "60 held-out sequences are also"), (1, "extracted from the held-out"), (2, "not those of"), (3, "60 and 5")],
)
def test_what_cannot_be_judged_is_refused(which: int, message: str) -> None:
    model, readings, _ = world()
    found = mean_difference(model, readings[0], readings[1], [EMBEDDING], name="n", contrast="c")[EMBEDDING]
    with pytest.raises(BadInput, match=message):
        change(which)(readings, found, model)
