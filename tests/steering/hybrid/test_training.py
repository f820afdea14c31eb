"""Second readings with an unshifted past, disagreements, and training in the frozen base."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from steering.engine.sampling import GenerationSettings
from steering.errors import BadInput
from steering.hybrid import Controller, HybridRow, Readout, ShiftBank, decode
from steering.hybrid.alignment import Aligned
from steering.hybrid.disagreement import Disagreements, continued_pairs, disagreements
from steering.hybrid.isolated import first_layer, read_again, read_once
from steering.hybrid.shift import coefficients
from steering.hybrid.training import Recipe, fit_bank, mean_effect
from steering.model.sites import Site
from tests.tiny import CONFIGS, WIDTH, tiny

from .pairs import K, bank, read, readout, thinking
from .test_decoding import prompts


@pytest.mark.parametrize("family", CONFIGS)
def test_a_position_read_again_alone_equals_a_shift_of_that_position_only(family: str) -> None:
    model = tiny(family)
    texts = [tuple(p) for p in prompts(3, 1, 10, 14)]
    positions = [(2, 5, 9), (1,), (3, 8)]
    shift = torch.randn(6, WIDTH, generator=torch.Generator().manual_seed(0))
    kept = read_once(model, texts, positions, Site(1), predictions=True)
    found = read_again(model, kept, kept.hidden + shift)
    flat = [(text, p) for text, row in zip(texts, positions, strict=True) for p in row]
    for n, (text, position) in enumerate(flat):
        one, seen = read(model, list(text[: position + 1]), [Site(1)], {}, shift[n], Site(1))
        assert torch.allclose(found[n], one, atol=2e-4, rtol=1e-4)
        assert torch.allclose(kept.hidden[n], seen[Site(1)], atol=1e-4)
        plain, _ = read(model, list(text[: position + 1]), [Site(1)], {}, None, Site(1))
        assert torch.allclose(kept.logits[n], plain, atol=2e-4, rtol=1e-4)


def test_gradients_reach_the_shifts_alone() -> None:
    model = tiny("llama")
    kept = read_once(model, [tuple(p) for p in prompts(2, 2, 8, 9)], [(2, 4), (3,)], Site(0))
    shift = torch.zeros(3, WIDTH, requires_grad=True)
    for parameter in model.model.parameters():
        parameter.requires_grad_(False)
    read_again(model, kept, kept.hidden + shift).log_softmax(-1)[:, 7].sum().backward()
    assert shift.grad is not None and bool((shift.grad.norm(dim=1) > 0).all())
    # numeric derivative along one coordinate of the first position
    with torch.no_grad():
        ends = []
        for step in (1e-2, -1e-2):
            moved = kept.hidden.clone()
            moved[0, 3] += step
            ends.append(float(read_again(model, kept, moved).log_softmax(-1)[0, 7]))
    assert float(shift.grad[0, 3]) == pytest.approx((ends[0] - ends[1]) / 2e-2, rel=0.05, abs=1e-3)


def test_sites_that_are_not_between_layers_are_refused() -> None:
    model = tiny("llama")
    assert first_layer(model, Site(0)) == 1 and first_layer(model, Site(2, "resid_pre")) == 2
    for site in (Site(2), Site(0, "resid_pre"), Site(1, "mlp_out")):
        with pytest.raises(BadInput, match="between two layers"):
            first_layer(model, site)


def rollouts(n: int, seed: int, new: int = 10) -> list[Aligned]:
    """Greedy texts of the tiny thinking model."""
    from steering.engine.generation import Row, generate

    think = thinking("qwen2")
    texts = generate(think, [Row(tuple(p)) for p in prompts(n, seed)], GenerationSettings(new))
    return [
        Aligned(
            ids := (*g.prompt_ids, *g.token_ids),
            ids,
            continued_pairs(len(g.prompt_ids), len(g.prompt_ids), len(g.token_ids)),
        )
        for g in texts
    ]


def test_disagreements_are_where_the_base_would_write_another_token() -> None:
    base, think, labels = tiny("qwen2"), thinking("qwen2"), readout(Site(2))
    texts = rollouts(4, 3)
    found = disagreements(base, think, texts, labels)
    for text, positions, targets, categories in zip(
        texts, found.positions, found.targets, found.categories, strict=True
    ):
        for p, _ in text.pairs:
            logits, _ = read(base, list(text.base_ids[:p]), [Site(1)], {}, None, Site(1))
            differs = int(logits.argmax()) != text.base_ids[p]
            assert differs == (p - 1 in positions)
        for position, target, category in zip(positions, targets, categories, strict=True):
            assert target == text.base_ids[position + 1]
            _, seen = read(think, list(text.thinking_ids[: position + 1]), [Site(2)], {}, None, Site(2))
            assert category == int(labels.categories(seen[Site(2)][None])[0])
    assert 0 < found.n < found.read
    capped = disagreements(base, think, texts, labels, cap=1)
    assert all(len(set(row)) == len(row) for row in capped.categories)
    assert found.as_one().per_category(1) == [found.n]
    assert found.part([1]).texts == (texts[1].base_ids,)


def planted(n: int, seed: int) -> Disagreements:
    """Positions of random texts whose target is fixed by the category: a bank can learn it."""
    texts = [tuple(p) for p in prompts(n, seed, 8, 10)]
    g = torch.Generator().manual_seed(seed)
    rows = [tuple(sorted(torch.randperm(7, generator=g)[:3].tolist())) for _ in texts]
    categories = [tuple(int(c) for c in torch.randint(0, K, (3,), generator=g)) for _ in texts]
    targets = tuple(tuple(20 + 5 * c for c in row) for row in categories)
    return Disagreements(tuple(texts), tuple(rows), targets, tuple(categories), 0)


@pytest.mark.slow
def test_training_finds_vectors_that_bring_the_planted_tokens_about() -> None:
    model, recipe = tiny("qwen2"), Recipe(epochs=8, hidden=16, vectors_rate=0.1)
    weights = model.fingerprint
    del model.__dict__["fingerprint"]
    fit = fit_bank(model, Site(1), planted(40, 0), planted(12, 1), K, recipe)
    first, last = fit.history[0]["held_out"], fit.history[max(fit.best)]["held_out"]
    assert all(b < a - 1 for a, b in zip(first, last, strict=True))
    assert fit.match_rate > 0.9
    assert model.fingerprint == weights
    again = fit_bank(model, Site(1), planted(40, 0), planted(12, 1), K, recipe)
    assert again.bank.digest == fit.bank.digest
    assert (
        fit_bank(model, Site(1), planted(40, 0), planted(12, 1), K, replace(recipe, seed=43)).bank.digest
        != fit.bank.digest
    )
    effect = mean_effect(model, fit.bank, planted(12, 1))
    assert effect.argmax(1).tolist() == [20, 25, 30]
    shuffled = fit.bank.with_random_vectors(0)
    assert torch.allclose(shuffled.vectors.norm(dim=1), fit.bank.vectors.norm(dim=1), rtol=1e-4)
    lost = mean_effect(model, shuffled, planted(12, 1))
    assert lost.argmax(1).tolist() != [20, 25, 30]


@pytest.mark.slow
def test_a_bank_trained_on_a_pair_makes_the_base_follow_it() -> None:
    base, think, labels = tiny("qwen2"), thinking("qwen2"), readout(Site(2))
    inner, outer = (disagreements(base, think, rollouts(n, s), labels) for n, s in ((60, 5), (20, 6)))
    fit = fit_bank(base, Site(1), inner, outer, K, Recipe(hidden=16, vectors_rate=0.05))
    before = bank().without_effect()
    settings, asked = GenerationSettings(10), prompts(12, 7)

    def matched(made: ShiftBank) -> float:
        rows = [
            HybridRow(tuple(p), Controller("disagreement", "thinking", bank=made, categories=labels)) for p in asked
        ]
        choices = [c.matched for g in decode(base, think, rows, settings) for c in g.choices]
        return sum(choices) / len(choices)

    assert matched(fit.bank) > matched(before) == 0


def test_each_category_keeps_its_own_epoch() -> None:
    made = bank(trunks=K)
    g = torch.Generator().manual_seed(0)
    h, c = torch.randn(5, WIDTH, generator=g), torch.tensor([0, 2, 1, 2, 0])
    alone = []
    for i, k in enumerate(c.tolist()):
        own = [part[k][None] for part in (made.trunk, made.trunk_bias, made.heads, made.heads_bias)]
        alone.append(coefficients(h[i : i + 1], torch.tensor([0]), *own)[0])
    assert torch.allclose(made.alpha(h, c), torch.stack(alone), atol=1e-6)
    assert torch.allclose(made.alpha(h[:2], c[:2]), torch.stack(alone[:2]), atol=1e-6), "fewer rows than trunks"


def test_banks_and_readouts_are_stored_whole(tmp_path: Path) -> None:
    made, labels = bank(trunks=K).without_effect(), readout(Site(2))
    assert ShiftBank.load(made.save(tmp_path / "bank.safetensors")).digest == made.digest
    again = Readout.load(labels.save(tmp_path / "labels.safetensors"))
    assert again.digest == labels.digest and again.unit
    with pytest.raises(BadInput, match="does not hold a readout"):
        Readout.load(tmp_path / "bank.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "bank.safetensors").read_bytes()[:50])
    with pytest.raises(BadInput, match="corrupt"):
        ShiftBank.load(tmp_path / "cut.safetensors")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (dict(vectors=torch.full((K, WIDTH), float("nan"))), "NaN"),
        (dict(heads=torch.ones(2, 8)), "heads has shape"),
        (dict(trunk=torch.ones(2, 8, WIDTH)), "trunk has shape"),
    ],
)
def test_parts_that_do_not_fit_are_refused(change: dict, match: str) -> None:
    with pytest.raises(BadInput, match=match):
        replace(bank(), **change)


def test_training_without_disagreements_is_refused() -> None:
    empty = Disagreements(((1, 2, 3),), ((),), ((),), ((),), 3)
    with pytest.raises(BadInput, match="never disagree on the training"):
        fit_bank(tiny("qwen2"), Site(1), empty, planted(2, 0), K)
    with pytest.raises(BadInput, match="beyond 2"):
        fit_bank(tiny("qwen2"), Site(1), planted(4, 0), planted(2, 0), 2)
