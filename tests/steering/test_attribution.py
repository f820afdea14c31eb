"""Effects of a direction by layer and position, and what writes a direction."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from scipy.spatial.distance import jensenshannon

from steering.attribution import (
    attributed,
    continuation,
    contributions,
    distance,
    divergence,
    log_odds,
    measured,
    patched,
    replaced,
)
from steering.attribution.metric import Metric, curvature
from steering.errors import BadInput
from steering.model.capture import capture
from steering.model.hooks import hooked
from steering.model.models import LoadedModel
from steering.model.resolution import layout_of
from steering.model.sites import Site
from steering.vector.vectors import SteeringVector
from tests.tiny import CONFIGS, VOCABULARY, tiny, vector

PROMPTS = ((1, 9, 17, 33, 8), (1, 12), (1, 40, 8, 22, 51, 30, 11))
STARTS = (19, 20, 23)
NORMED = ("gemma2", "gemma3", "olmo2")
"""Families with a norm behind attention."""


def precise(family: str) -> LoadedModel:
    """A copy of the tiny model in float64, so that small doses can be told from rounding."""
    model = copy.deepcopy(tiny(family).model).double()
    for parameter in model.parameters():
        if parameter.ndim == 2:
            parameter.data.mul_(0.25)
    return replace(tiny(family), model=model, layout=layout_of(model), extra={})


def vectors(*kinds: str) -> list[SteeringVector]:
    return [vector(layer + 7, layer, kind, norm=1.0) for layer in range(3) for kind in kinds]


def naive(model: LoadedModel, metric: Metric, v: SteeringVector, row: int, position: int, dose: float) -> float:
    """One row alone, with and without the vector at one position."""
    ids = torch.tensor([metric.sequences[row]])

    def edit(hidden: torch.Tensor) -> torch.Tensor:
        changed = hidden.clone()
        changed[0, position] += dose * v.direction.to(hidden)
        return changed

    found = []
    for edits in ({}, {v.site: edit}):
        with torch.inference_mode(), hooked(model.layout, edits):
            logits = model.model(input_ids=ids, use_cache=False).logits[0, list(metric.reads[row])]
        found.append(float(metric.value(logits, row)))
    return found[1] - found[0]


@pytest.mark.parametrize("family", sorted(CONFIGS))
def test_exact_effects_equal_a_naive_loop(family: str) -> None:
    model, metric = precise(family), log_odds(PROMPTS, STARTS)
    table = patched(model, vectors("resid_pre", "resid_post"), metric, dose=2.0, cells=5, batch_size=2)
    assert len(table) == 6 * sum(map(len, PROMPTS))
    by_site = {v.site.name: v for v in vectors("resid_pre", "resid_post")}
    for line in table.itertuples():
        expected = naive(model, metric, by_site[line.site], line.row, line.position, 2.0)
        assert line.effect == pytest.approx(expected, abs=1e-6, rel=1e-5)
        assert line.offset == line.position - len(PROMPTS[line.row])


@pytest.mark.parametrize("family", sorted(CONFIGS))
def test_attribution_is_the_slope_of_the_exact_effect(family: str) -> None:
    model, kinds = precise(family), ["resid_pre", "attn_out", "mlp_out", "resid_post"]
    if "resid_mid" in model.layout.kinds(0):
        kinds.append("resid_mid")
    for metric in (log_odds(PROMPTS, STARTS), continuation(PROMPTS, [(20, 9), (23,), (19, 31, 4)])):
        slope = attributed(model, vectors(*kinds), metric, batch_size=2).effect
        assert (slope.abs() > 1e-9).mean() > 0.4
        errors = []
        for dose in (1e-2, 1e-3, 1e-4):
            exact = patched(model, vectors(*kinds), metric, dose=dose).effect / dose
            errors.append(float((exact - slope).abs().max() / slope.abs().max()))
        assert errors[0] > errors[1] > errors[2] and errors[2] < 1e-2, errors


def test_attribution_and_patching_agree_on_what_cannot_matter() -> None:
    model, metric = precise("llama"), log_odds(PROMPTS, STARTS)
    last = [vector(1, 2, "resid_post", norm=1.0)]
    for table in (attributed(model, last, metric), patched(model, last, metric)):
        assert (table[table.offset < -1].effect.abs() < 1e-9).all(), (
            "after the last layer only the last position is read"
        )
        assert (table[table.offset == -1].effect.abs() > 1e-6).all()


def test_negative_positions_count_from_the_end_of_the_prompt() -> None:
    model, texts = precise("qwen2"), [(20, 9), (23,), (19, 31, 4)]
    metric = continuation(PROMPTS, texts)
    assert metric.sequences[0] == (*PROMPTS[0], 20) and metric.reads[0] == (4, 5) and metric.sequences[1] == PROMPTS[1]
    table = patched(model, vectors("resid_post"), metric, [-1, 0])
    assert [(line.row, line.position, line.offset) for line in table[table.layer == 0].itertuples()] == [
        (row, position, position - len(prompt))
        for row, prompt in enumerate(PROMPTS)
        for position in (len(prompt) - 1, 0)
    ]
    with pytest.raises(BadInput, match="Row 1 has a prompt of 2 tokens; position -3"):
        attributed(model, vectors("resid_post"), metric, [-3])


def test_divergence_has_no_first_order_effect_and_a_second_order_one() -> None:
    model = precise("llama")
    metric = divergence(model, PROMPTS)
    with pytest.raises(BadInput, match="no first-order effect"):
        attributed(model, vectors("resid_post"), metric)
    v, dose = vector(1, 1, norm=1.0), 1e-2
    exact = patched(model, [v], metric, [-1], dose=dose)
    for row, prompt in enumerate(PROMPTS):

        def edit(hidden: torch.Tensor) -> torch.Tensor:
            changed = hidden.clone()
            changed[0, -1] += dose * v.direction.to(hidden)
            return changed

        with torch.inference_mode():
            before = model.model(input_ids=torch.tensor([prompt])).logits[0, -1]
            with hooked(model.layout, {v.site: edit}):
                after = model.model(input_ids=torch.tensor([prompt])).logits[0, -1]
        assert float(curvature(before, after)) == pytest.approx(exact.effect[row], rel=0.05)


@pytest.mark.parametrize("family", sorted(CONFIGS))
def test_contributions_add_up_to_the_projection(family: str) -> None:
    model, u = tiny(family), vector(3).direction
    found = contributions(model, u, PROMPTS, [(-1, 0), (1,), (-1,)], heads=family not in NORMED)
    assert found.projection[["row", "position"]].values.tolist() == [[0, 4], [0, 0], [1, 1], [2, 6]]
    sums = found.table.groupby(["row", "position"], sort=False).contribution.sum().to_numpy()
    assert sums == pytest.approx(found.projection["sum"].to_numpy(), abs=1e-9)
    size = found.table.contribution.abs().max()
    assert found.projection["sum"].to_numpy() == pytest.approx(found.projection.projection.to_numpy(), abs=1e-4 * size)
    with torch.inference_mode():
        seen: dict[str, torch.Tensor] = {}
        reader = {Site(2): lambda h: seen.update(h=h.clone())}
        with hooked(model.layout, reader):
            model.model(input_ids=torch.tensor([PROMPTS[2]]))
    assert found.projection.projection.iloc[-1] == pytest.approx(float(seen["h"][0, -1] @ (u / u.norm())), rel=1e-4)
    expected = {"embedding", "mlp"} | ({"attention"} if family in NORMED else {"head"})
    assert expected <= set(found.table.component) and found.mean().contribution.abs().is_monotonic_decreasing


def test_a_head_writes_what_it_takes_away_when_it_is_silenced() -> None:
    model, u = tiny("llama"), vector(3).direction
    found = contributions(model, u, PROMPTS[:1], [(-1,)], layer=0).table
    written = float(found[(found.component == "head") & (found["head"] == 1)].contribution.iloc[0])
    seen = []
    for edits in ({}, {Site(0, "z", 1): torch.zeros_like}):
        reader = {Site(0, "attn_out"): lambda h: seen.append(h[0, -1].double() @ (u / u.norm()).double())}
        with torch.inference_mode(), hooked(model.layout, {**edits, **reader}):
            model.model(input_ids=torch.tensor(PROMPTS[:1]))
    assert written == pytest.approx(float(seen[0] - seen[1]), abs=1e-4)


def test_what_an_architecture_lacks_is_refused_by_name() -> None:
    for family in NORMED:
        with pytest.raises(BadInput, match="ForCausalLM has a norm behind the attention of layer 0"):
            contributions(tiny(family), vector(3).direction, PROMPTS, [(-1,)] * 3)
    with pytest.raises(BadInput, match="attention and MLP run in parallel there"):
        patched(tiny("gpt_neox"), [vector(0, 1, "resid_mid")], log_odds(PROMPTS, STARTS))
    with pytest.raises(BadInput, match=r"has shape \[8\]"):
        contributions(tiny("llama"), torch.ones(8), PROMPTS, [(-1,)] * 3)


def test_mistakes_are_refused() -> None:
    model = tiny("llama")
    with pytest.raises(BadInput, match="at least one token whose odds"):
        log_odds(PROMPTS, ())
    with pytest.raises(BadInput, match="at least one prompt"):
        log_odds([], STARTS)
    with pytest.raises(BadInput, match="not part of a vocabulary"):
        patched(model, [vector()], log_odds(PROMPTS, [VOCABULARY]), [-1])
    with pytest.raises(BadInput, match="as many continuations"):
        continuation(PROMPTS, [(3,)])
    with pytest.raises(BadInput, match="one per site"):
        attributed(model, [vector(1), vector(2)], log_odds(PROMPTS, STARTS))
    with pytest.raises(BadInput, match="Row 0 has 200 tokens"):
        attributed(model, [vector(1)], log_odds([(1,) * 200], STARTS))
    with pytest.raises(BadInput, match="width 8"):
        patched(model, [vector(1, width=8)], log_odds(PROMPTS, STARTS))


def other_text(model: LoadedModel) -> tuple[tuple[int, ...], tuple[int, ...], int, list[int]]:
    """Two texts that differ at one position, that position, and later ones."""
    one, two = (1, 9, 17, 33, 8, 40, 12), (1, 9, 17, 51, 8, 40, 12)
    return one, two, 3, [4, 5, 6]


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2"])
def test_an_activation_of_another_text_is_put_in_as_a_naive_loop_does(family: str) -> None:
    model = precise(family)
    one, two, at, reads = other_text(model)
    sites, metric = [Site(layer) for layer in range(model.n_layers)], distance(model, one, two, reads)
    seen: dict[Site, torch.Tensor] = {}

    def keep(site: Site) -> Callable[[torch.Tensor], None]:
        return lambda hidden: seen.update({site: hidden[0, at].clone()})

    with torch.inference_mode(), hooked(model.layout, {site: keep(site) for site in sites}):
        target = model.model(input_ids=torch.tensor([two]), use_cache=False).logits[0, reads].softmax(-1)
    drawn = torch.randn(4, model.d_model, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    values = {site: torch.stack([seen[site], *drawn]) for site in sites}
    found = replaced(model, metric, at, values, cells=2)
    for site in sites:
        for cell, given in enumerate(values[site]):

            def put(hidden: torch.Tensor, given: torch.Tensor = given) -> torch.Tensor:
                changed = hidden.clone()
                changed[0, at] = given
                return changed

            with torch.inference_mode(), hooked(model.layout, {site: put}):
                read = model.model(input_ids=torch.tensor([one]), use_cache=False).logits[0, reads].softmax(-1)
            wanted = [jensenshannon(a.numpy(), b.numpy(), base=2) ** 2 for a, b in zip(read, target, strict=True)]
            assert float(found[site][cell]) == pytest.approx(sum(wanted) / len(wanted), abs=1e-9)
    (apart,) = measured(model, metric)
    own = [float(found[site][0]) for site in sites]
    assert apart > 1e-6 and own[0] < apart and own[-1] == pytest.approx(apart, rel=1e-9), "nothing reads the last layer"
    assert measured(model, distance(model, two, two, reads)) == [pytest.approx(0, abs=1e-12)]


def test_at_the_position_itself_another_text_is_predicted_whatever_the_layer() -> None:
    """Why recovery is read at later positions: nothing else differs there."""
    model = precise("llama")
    one, two, at, _ = other_text(model)
    (batch,) = capture(model, [two], [Site(layer) for layer in range(model.n_layers)])
    values = {site: value[0, at][None] for site, value in batch.values.items()}
    found = replaced(model, distance(model, one, two, [at]), at, values)
    assert all(float(value) == pytest.approx(0, abs=1e-12) for value in found.values())
    assert measured(model, distance(model, one, two, [at]))[0] > 1e-4


def test_what_cannot_be_put_in_is_refused() -> None:
    model = tiny("llama")
    metric, width = distance(model, (1, 9, 8), (1, 7, 8), [2]), model.d_model
    for position, values, words in (
        (3, torch.zeros(1, width), "the position is 3"),
        (1, torch.zeros(1, width + 1), f"takes values .cells, {width}"),
        (1, torch.zeros(width), f"takes values .cells, {width}"),
    ):
        with pytest.raises(BadInput, match=words):
            replaced(model, metric, position, {Site(0): values})
    with pytest.raises(BadInput, match="2 rows"):
        replaced(model, log_odds(((1, 2), (1, 3)), (4,)), 0, {Site(0): torch.zeros(1, width)})
    for other, reads in (((1, 7), [1]), ((1, 7, 8), [3]), ((1, 7, 8), [])):
        with pytest.raises(BadInput, match="as many tokens"):
            distance(model, (1, 9, 8), other, reads)
